"""Explains what the registered analysers make of an item: which of them match, the JSON, and what it leaves out.

Reads the cache, and changes nothing in it. The command `pubsub_analysers explain` and the admin show explanations.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple
from xml.etree.ElementTree import Element

from pubsubcache.analysers import Analyser, matching, registry
from pubsubcache.analysers.base import dotted
from pubsubcache.analysers.matching import SAMPLES
from pubsubcache.conf import settings
from pubsubcache.exceptions import InvalidRequest, ParseError, TooLarge
from pubsubcache.models import PubsubNode
from pubsubcache.parsers.schema import Schema, described
from pubsubcache.syncing.analysis import Finding, analyse
from pubsubcache.types import Item, NodeAddress, known_id
from pubsubcache.utils import xmlform
from pubsubcache.utils.xmlform import PUBSUB, PUBSUB_EVENT, split_tag
from pubsubcache.utils.xmlparse import ELEMENT_COST


@dataclass(kw_only=True)
class Subject:
    """What is explained.

    Attributes:
        address: The node; its name is "" if only the item is known.
        item: The item, or None if the node is empty.
        samples: The newest items of the node, oldest first.
        row: The row of the node, or None if the cache does not know it.
        origin: Where the item comes from.
    """

    address: NodeAddress
    item: Item | None
    samples: Sequence[Item] = ()
    row: PubsubNode | None = None
    origin: Literal["cache", "service", "file"]


class Step(NamedTuple):
    """An analyser that was tried.

    Attributes:
        analyser: The analyser.
        matched_by: What matches: the name of the node, or the namespace of the payloads; "" if neither does.
    """

    analyser: Analyser
    matched_by: Literal["node", "namespace", ""]


@dataclass(kw_only=True)
class Explanation:
    """What the registered analysers make of an item, whatever the cache has stored.

    Attributes:
        finding: The analysis of the node.
        steps: The analysers that were tried, in order; the last one is the one that matches, if any does.
        analyser: The first analyser that matches the node, or None.
        reader: The analyser whose parser reads the item, or None.
        schema: The schema by which it does so; None if the parser declares none that fits.
        parsed: The JSON; None without an item or a parser, or if the parser failed.
        error: Why an analyser or the parser failed, as a sentence, or "".
        left_out: The path and the reason of everything in the item that the JSON leaves out.
    """

    finding: Finding
    steps: list[Step] = field(default_factory=list)
    analyser: Analyser | None = None
    reader: Analyser | None = None
    schema: Schema | None = None
    parsed: Any = None
    error: str = ""
    left_out: list[tuple[str, str]] = field(default_factory=list)


async def explain(subject: Subject) -> Explanation:
    """Explain an item with the analysers that are registered now."""
    item, finding = subject.item, await analyse(subject.address, subject.samples)
    steps = _steps(subject.address.name, finding.namespace)
    analyser = registry.get(finding.analysis.name) if finding.analysis else None
    found = Explanation(finding=finding, steps=steps, analyser=analyser, error=finding.error)
    if item is None or found.error:
        return found
    found.reader = matching.reader(analyser, item.element)
    try:
        found.parsed = await matching.parse(analyser, item, subject.address)
    except ParseError as error:
        found.error = str(error)
    else:
        found.schema, found.left_out = described(found.reader and found.reader.parser, item.element)
    return found


def _steps(name: str, namespace: str | None) -> list[Step]:
    """Return the analysers up to the first one that matches, as `matching.analyse` tries them."""
    steps: list[Step] = []
    for analyser in registry.all():
        if analyser.node and name.startswith(analyser.node):
            return [*steps, Step(analyser, "node")]
        if namespace and analyser.namespace == namespace:
            return [*steps, Step(analyser, "namespace")]
        steps.append(Step(analyser, ""))
    return steps


def from_xml(data: bytes, address: NodeAddress, *, payload_allowed: bool = False) -> Subject:
    """Read an `<item/>` from XML.

    Args:
        data: The XML, encoded in UTF-8.
        address: The node that the item is said to belong to.
        payload_allowed: Whether any other element is taken for the payload of an item.

    Raises:
        InvalidRequest: The data are something else.
        ParseError: They are not well-formed XML.
        TooLarge: They are larger than an item can be.
    """
    limit = settings.MAX_STANZA_SIZE
    # Elements and attributes take memory, too.
    if len(data) + ELEMENT_COST * (data.count(b"<") + data.count(b"=")) > limit:
        raise TooLarge(f"The XML takes more than {limit} bytes.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidRequest("The XML is not encoded in UTF-8.") from None
    element = xmlform.from_text(text)
    namespace, name = split_tag(element.tag)
    if name != "item" or namespace not in ("", PUBSUB, PUBSUB_EVENT):
        if not payload_allowed:
            given = f"<{name[:100]}/> in the namespace {namespace[:200]!r}"
            raise InvalidRequest(f"The XML must be an <item/>, got {given}.")
        payload, element = element, Element(f"{{{PUBSUB}}}item")
        element.append(payload)
    item = storable(Item.from_element(element))
    return Subject(address=address, item=item, samples=[item], origin="file")


def from_cache(row: PubsubNode, item_id: str | None) -> Subject:
    """Read an item of a node from the cache; its `item` is None if the cache does not have it.

    Args:
        row: The node.
        item_id: The id of the item; None for the newest one.
    """
    samples = [item.as_item() for item in row.items.order_by("-position", "-pk")[:SAMPLES]][::-1]
    if item_id is None:
        item = samples[-1] if samples else None
    else:
        found = row.items.filter(name=known_id(item_id)).first()
        item = None if found is None else found.as_item()
    return Subject(address=row.address, item=item, samples=samples, row=row, origin="cache")


def storable(item: Item) -> Item:
    """Return an item. Raises `TooLarge` if the cache would leave it out."""
    if item.left_out:
        raise TooLarge(f"The cache does not keep this item: {item.left_out}")
    return item


def as_data(subject: Subject, found: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON data."""
    analyser, analysis = found.analyser, found.finding.analysis
    matched_by = found.steps[-1].matched_by if analyser else None
    return {
        "service": subject.address.service,
        "node": subject.address.name,
        "item": None if subject.item is None else subject.item.id,
        "origin": subject.origin,
        "stored": None if subject.row is None else _row(subject.row),
        "analyser": analyser.name if analyser else None,
        "matched_by": matched_by,
        "matched": (analyser.node if matched_by == "node" else analyser.namespace) if analyser else None,
        "type": analysis.type if analysis else None,
        "subtype": analysis.subtype if analysis else None,
        "to_sync": analysis.to_sync if analysis else None,
        "why": analyser.why if analyser else None,
        "parsed_by": found.reader.name if found.reader else None,
        "parser": dotted(found.reader.parser) or None if found.reader else None,
        "schema": found.schema.title if found.schema else None,
        "parsed": found.parsed,
        "error": found.error or None,
        "left_out": [{"path": path, "reason": reason} for path, reason in found.left_out],
    }


def _row(row: PubsubNode) -> dict[str, Any]:
    return {
        "analyser": row.analyser,
        "type": row.type,
        "subtype": row.subtype,
        "policy": row.policy,
        "state": row.sync_state,
        "reason": row.analysis_reason or row.sync_error or None,
    }
