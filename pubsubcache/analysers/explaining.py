"""Explains an item: which analyser matches its node and why, what the parser makes of it, and what it leaves out."""

from dataclasses import dataclass, field
from typing import Any, Literal

from pubsubcache.analysers import matching
from pubsubcache.analysers.base import Analyser, Analysis
from pubsubcache.analysers.registry import registry
from pubsubcache.exceptions import ParseError
from pubsubcache.parsers.schema import Schema, described
from pubsubcache.types import Item, NodeAddress


@dataclass(kw_only=True)
class Explanation:
    """What the registered analysers make of an item.

    Attributes:
        analyser: The first analyser that matches, or None.
        matched_by: What it matches: the name of the node, or the namespace of the payload. None without an analyser.
        analysis: The result of its `match_cb`; None without an analyser, or if that failed.
        schema: The schema by which its parser reads the item; None if the parser declares none that fits.
        parsed: The JSON; None without an item or a parser, or if the parser failed.
        error: Why an analyser or the parser failed, as a sentence, or "".
        left_out: The path and the reason of everything in the item that the JSON leaves out.
    """

    analyser: Analyser | None = None
    matched_by: Literal["node", "namespace"] | None = None
    analysis: Analysis | None = None
    schema: Schema | None = None
    parsed: Any = None
    error: str = ""
    left_out: list[tuple[str, str]] = field(default_factory=list)


async def explain(address: NodeAddress, item: Item | None) -> Explanation:
    """Explain an item with the analysers that are registered now, whatever the cache has stored.

    Args:
        address: The node of the item.
        item: The item; None explains the node by its name alone.
    """
    found = Explanation()

    async def sample() -> Any:
        return None if item is None else item.element

    try:
        found.analysis = await matching.analyse(address, sample)
    except Exception as error:  # a match_cb may raise anything
        found.error = f"The analysis failed: {matching.reason(error)}"
    if found.analysis is None:
        return found
    found.analyser = analyser = registry.get(found.analysis.name)
    if analyser is None:
        return found
    by_name = bool(analyser.node) and address.name.startswith(analyser.node or "")
    found.matched_by = "node" if by_name else "namespace"
    if item is None:
        return found
    try:
        found.parsed = await matching.parse(analyser, item, address)
        found.schema, found.left_out = described(analyser.parser, item.element)
    except ParseError as error:
        found.error = str(error)
    return found
