"""Finds the analyser for a node and calls its functions."""

import asyncio
import inspect
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, ParamSpec, TypeVar
from xml.etree.ElementTree import Element

from pubsubcache.analysers.base import Analyser, Analysis
from pubsubcache.analysers.registry import registry
from pubsubcache.exceptions import ParseError
from pubsubcache.parsers import ParseContext
from pubsubcache.parsers.elements import elements_of, namespace_of
from pubsubcache.parsers.encrypted import is_encrypted
from pubsubcache.parsers.schema import schemas_of
from pubsubcache.types import Item, NodeAddress
from pubsubcache.utils import xmlform
from pubsubcache.utils.cleaning import get_logger, one_line

logger = get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Sample = Callable[[], Awaitable[Element | None]]
LARGE = 32 * 1024  # characters of an item: hostile markup of that size takes about 0.1 seconds
SAMPLES = 20  # newest items of a node that are looked at
CLEARLY = 4  # times as many items as before change what a node is about


async def analyse(address: NodeAddress, sample: Sample) -> Analysis | None:
    """Find the first analyser that matches a node.

    Args:
        address: Address of the node.
        sample: Coroutine function that returns an item in the namespace that prevails in the node, or None if the node
            is empty. It is called at most once, when the first analyser that matches by namespace is reached.

    Returns:
        The result of the matching analyser, or None if none matches.

    Raises:
        Exception: Whatever `sample` or a `match_cb` raises.
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
    """Return the first analyser that matches a node name or the namespace of a payload, or None."""
    for analyser in registry.all():
        if (analyser.node and name.startswith(analyser.node)) or (namespace and analyser.namespace == namespace):
            return analyser
    return None


def prevailing(namespaces: Sequence[str | None], present: str = "") -> str:
    """Return the namespace of payloads that a node is about, according to its newest items.

    Only the namespaces that an analyser is registered for count. The one of most items prevails, of several that of the
    newest item.

    Args:
        namespaces: The namespaces of the payloads, oldest item first; only the last `SAMPLES` are considered.
        present: The namespace that prevailed before. Another one replaces it only if it has at least `CLEARLY` times as
            many items.

    Returns:
        The namespace, or "" if no analyser is registered for any of them.
    """
    known = {analyser.namespace for analyser in registry.all()}
    newest_first = reversed(namespaces[-SAMPLES:])
    counts = Counter(namespace for namespace in newest_first if namespace and namespace in known)
    if not counts:
        return ""
    [(found, count)] = counts.most_common(1)
    return found if count >= CLEARLY * counts[present] else present


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
    """Call a function, in a thread if the item is large, so that it does not block the event loop."""
    if len(item.xml) < LARGE:
        return function(*args, **kwargs)
    return await asyncio.to_thread(function, *args, **kwargs)


async def parse(analyser: Analyser | None, item: Item, address: NodeAddress) -> Any:
    """Parse an item of a node.

    Args:
        analyser: The analyser of the node, or None if none matches. Payloads of another kind are parsed by the analyser
            that knows them, see `reader`.
        item: The item.
        address: The node.

    Returns:
        The parsed data, or None if there is no analyser or it has no parser.

    Raises:
        ParseError: The parser failed, whatever it raised, or its result is not JSON.
    """
    context = ParseContext(service=address.service, node=address.name, publisher=item.publisher, sender=address.service)
    try:
        analyser = reader(analyser, item.element)
        if analyser is None or analyser.parser is None:
            return None
        parsed = await aside_if_large(item, analyser.parser, item.element, context)
        if inspect.isawaitable(parsed):
            parsed = await parsed
        text = json.dumps(parsed, allow_nan=False)
        # Most data has no such escapes and needs no replacement.
        return _storable(json.loads(text)) if "\\u0000" in text or "\\ud" in text else json.loads(text)
    except Exception as error:  # a parser may raise anything, which must only affect its item
        logger.debug("The item %r of %s cannot be parsed.", item.id, address.uri, exc_info=error)
        raise ParseError(reason(error)) from error


def reader(own: Analyser | None, item: Element) -> Analyser | None:
    """Return the analyser whose parser parses an item of a node.

    It is the node's own analyser, unless its parser has schemas that do not fit the payload. Then it is the first
    analyser that is registered for the namespace of the payload, else the first one whose parser has a schema that
    fits, else the node's own, whose parser says why it cannot parse the item.

    Args:
        own: The analyser of the node, or None if none matches.
        item: The `<item/>` element.
    """
    payload = xmlform.first_payload(item)
    if payload is None or (own is not None and _may_read(own, item, payload)):
        return own
    namespace = namespace_of(payload)
    parsing = [analyser for analyser in registry.all() if analyser.parser is not None]
    registered = (analyser for analyser in parsing if namespace and analyser.namespace == namespace)
    fitting = (analyser for analyser in parsing if _fits(analyser, payload))
    return next(registered, None) or next(fitting, own)


def _may_read(analyser: Analyser, item: Element, payload: Element) -> bool:
    """Whether the parser of an analyser reads an item, as far as its schemas say; every parser reads encrypted ones."""
    if not schemas_of(analyser.parser) or is_encrypted(payload):
        return True
    return any(_fits(analyser, element) for element in elements_of(item))


def _fits(analyser: Analyser, payload: Element) -> bool:
    return any(schema.fits(payload) for schema in schemas_of(analyser.parser))


def reason(error: Exception) -> str:
    """Describe an error from a function of an analyser, as one storable line."""
    try:
        text = str(error)
    except Exception as broken:  # even str() may fail
        logger.debug("str() failed on the error of an analyser.", exc_info=broken)
        text = ""
    if not isinstance(error, ParseError) or not text:
        text = f"{type(error).__name__}: {text}"
    return one_line(text)


def _storable(value: Any) -> Any:
    """Replace NUL and lone surrogates in JSON data, which PostgreSQL rejects."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd").encode(errors="replace").decode()
    if isinstance(value, list):
        return [_storable(member) for member in value]
    if isinstance(value, dict):
        return {_storable(key): _storable(member) for key, member in value.items()}
    return value
