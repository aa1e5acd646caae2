"""Which analyser decides over a node, and the calls of its functions."""

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar
from xml.etree.ElementTree import Element

from pubsubcache.analysers.base import Analyser, Analysis
from pubsubcache.analysers.registry import registry
from pubsubcache.exceptions import ParseError
from pubsubcache.parsers import ParseContext
from pubsubcache.types import Item, NodeAddress
from pubsubcache.utils import xmlform
from pubsubcache.utils.cleaning import get_logger, one_line

logger = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Sample = Callable[[], Awaitable[Element | None]]
LARGE = 32 * 1024  # characters of an item: hostile markup of that size takes about 0.1 seconds


async def analyse(address: NodeAddress, sample: Sample) -> Analysis | None:
    """Return what the first matching analyser says of a node, or None when none matches.

    `sample` returns an item of the node, or None of an empty one; it is awaited only when an analyser
    that looks at the namespace is reached, and once. What it, or a `match_cb`, raises, passes.
    """
    item: Element | None = None
    sampled = False
    for analyser in registry.all():
        matches = bool(analyser.node and address.name.startswith(analyser.node))
        if not matches and analyser.namespace:
            if not sampled:
                item, sampled = await sample(), True
            matches = item is not None and xmlform.payload_namespace(item) == analyser.namespace
        if matches:
            return await _matched(analyser, address, item)
    return None


def by_namespace(name: str, namespace: str | None) -> Analyser | None:
    """Return the analyser for a node of which an item's payload is in `namespace`, None when none matches."""
    for analyser in registry.all():
        if (analyser.node and name.startswith(analyser.node)) or (namespace and analyser.namespace == namespace):
            return analyser
    return None


async def _matched(analyser: Analyser, address: NodeAddress, item: Element | None) -> Analysis:
    analysis = Analysis(
        service=address.service,
        node=address.name,
        name=analyser.name,
        type=analyser.type,
        to_sync=analyser.to_sync,
        namespace=None if item is None else xmlform.payload_namespace(item),
        item=item,
    )
    if analyser.match_cb is not None and inspect.isawaitable(outcome := analyser.match_cb(analysis)):
        await outcome
    analysis.subtype = _storable(str(analysis.subtype or ""))[:100]
    return analysis


async def aside_if_large(item: Item, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return `function(...)`, called in a thread for a large item, so that the event loop goes on meanwhile."""
    if len(item.xml) < LARGE:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)


async def parse(analyser: Analyser | None, item: Item, address: NodeAddress) -> Any:
    """Return what the analyser's parser makes of an item, None without a parser.

    Raises `ParseError` with the reason whatever the parser raises, and when the result is no JSON.
    """
    if analyser is None or analyser.parser is None:
        return None
    context = ParseContext(service=address.service, node=address.name, publisher=item.publisher, sender=address.service)
    try:
        parsed = await aside_if_large(item, analyser.parser, item.element, context)
        if inspect.isawaitable(parsed):
            parsed = await parsed
        text = json.dumps(parsed, allow_nan=False)
        # Most data has no such escapes, and is not gone through.
        return _storable(json.loads(text)) if "\\u0000" in text or "\\ud" in text else json.loads(text)
    except Exception as error:  # a parser may raise anything, and must stop nothing but its item
        logger.debug("The item %r of %s cannot be parsed.", item.id, address.uri, exc_info=error)
        raise ParseError(reason(error)) from error


def reason(error: Exception) -> str:
    """Say what a function of an analyser raised, in text that can be stored."""
    try:
        text = str(error)
    except Exception as broken:  # it may not even be able to say what is wrong
        logger.debug("An error of an analyser has no text.", exc_info=broken)
        text = ""
    if not isinstance(error, ParseError) or not text:
        text = f"{type(error).__name__}: {text}"
    return one_line(text)


def _storable(value: Any) -> Any:
    """Return JSON data without the two things that PostgreSQL's JSON refuses: NUL and lone surrogates."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode(errors="replace").decode()
    if isinstance(value, list):
        return [_storable(member) for member in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(member) for key, member in value.items()}
    return value
