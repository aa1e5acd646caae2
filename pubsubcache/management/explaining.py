"""`manage.py pubsub_analysers explain`: shows what the analysers make of an item, from a node or from a file."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pubsubcache.analysers import Analyser, matching, registry
from pubsubcache.analysers.base import dotted
from pubsubcache.analysers.matching import SAMPLES
from pubsubcache.conf import settings
from pubsubcache.exceptions import InvalidRequest, ItemNotFound, NotInCache, ParseError, TooLarge
from pubsubcache.management.files import reading
from pubsubcache.management.network import asking
from pubsubcache.management.output import counted, plain
from pubsubcache.models import Account, PubsubNode
from pubsubcache.parsers.schema import Schema, described
from pubsubcache.services import fetching
from pubsubcache.store import in_thread, nodes
from pubsubcache.syncing.analysis import Finding, analyse, newest_items
from pubsubcache.types import Item, NodeAddress, known_id
from pubsubcache.utils import xmlform
from pubsubcache.utils.xmlform import PUBSUB, PUBSUB_EVENT, split_tag
from pubsubcache.utils.xmlparse import ELEMENT_COST

SHOWN = 20  # elements of the rest to list


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


@dataclass(kw_only=True)
class Explanation:
    """What the registered analysers make of an item, whatever the cache has stored.

    Attributes:
        finding: The analysis of the node.
        analyser: The first analyser that matches the node, or None.
        reader: The analyser whose parser reads the item, or None.
        schema: The schema by which it does so; None if the parser declares none that fits.
        parsed: The JSON; None without an item or a parser, or if the parser failed.
        error: Why an analyser or the parser failed, as a sentence, or "".
        left_out: The path and the reason of everything in the item that the JSON leaves out.
    """

    finding: Finding
    analyser: Analyser | None = None
    reader: Analyser | None = None
    schema: Schema | None = None
    parsed: Any = None
    error: str = ""
    left_out: list[tuple[str, str]] = field(default_factory=list)


async def explain(subject: Subject) -> Explanation:
    """Explain an item with the analysers that are registered now."""
    item, finding = subject.item, await analyse(subject.address, subject.samples)
    analyser = registry.get(finding.analysis.name) if finding.analysis else None
    found = Explanation(finding=finding, analyser=analyser, error=finding.error)
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


def from_file(path: str, address: NodeAddress) -> Subject:
    """Read an `<item/>` from a file, or from stdin for "-".

    Raises:
        InvalidRequest: The file cannot be read, or contains something else.
        ParseError: It is not well-formed XML.
        TooLarge: It is larger than an item can be.
    """
    limit = settings.MAX_STANZA_SIZE
    with reading(path) as stream:
        data = stream.read(limit + 1)
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
        raise InvalidRequest(f"The XML must be an <item/>, got <{name[:100]}/> in the namespace {namespace[:200]!r}.")
    item = _storable(Item.from_element(element))
    return Subject(address=address, item=item, samples=[item], origin="file")


async def from_node(
    account: Account, address: NodeAddress, item_id: str | None, *, no_cache: bool, cache_only: bool
) -> Subject:
    """Read an item of a node from the cache, else from the service. Changes nothing in the cache.

    Args:
        account: The account whose permissions apply.
        address: The node.
        item_id: The id of the item; None for the newest one.
        no_cache: True asks the service in any case.
        cache_only: True never asks the service.

    Raises:
        InvalidRequest: The name of the node is invalid.
        NotInCache: The cache has no such item, and `cache_only` is set.
        ItemNotFound: There is no such node or item.
        ServiceError: The service refused for another reason.
        ServiceUnreachable: The service cannot be asked.
        TooLarge: The item is larger than an item can be.
    """
    nodes.check_address(address)
    row, item, samples = await in_thread(_cached)(account, address, item_id)
    if item is not None and not no_cache:
        return Subject(address=address, item=item, samples=samples, row=row, origin="cache")
    if cache_only:
        raise NotInCache(f"The cache has no such item of {address.service} {address.name}.")
    async with asking(account) as service:
        samples = await newest_items(service, address)
        found = samples if item_id is None else await fetching.read_ids(service, address, [item_id])
    if item_id is not None and not found:
        raise ItemNotFound(text=f"no item {item_id[:100]!r}")
    item = _storable(found[-1]) if found else None
    return Subject(address=address, item=item, samples=samples, row=row, origin="service")


def _cached(
    account: Account, address: NodeAddress, item_id: str | None
) -> tuple[PubsubNode | None, Item | None, Sequence[Item]]:
    row = PubsubNode.objects.filter(account=account, service=address.service, name=address.name).first()
    if row is None:
        return None, None, ()
    samples = [item.as_item() for item in row.items.order_by("-position", "-pk")[:SAMPLES]][::-1]
    if item_id is None:
        return row, samples[-1] if samples else None, samples
    item = row.items.filter(name=known_id(item_id)).first()
    return row, None if item is None else item.as_item(), samples


def _storable(item: Item) -> Item:
    if item.left_out:
        raise TooLarge(f"The cache does not keep this item: {item.left_out}")
    return item


def as_data(subject: Subject, found: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON data."""
    analyser, analysis = found.analyser, found.finding.analysis
    by_name = bool(analyser and analyser.node and subject.address.name.startswith(analyser.node))
    return {
        "service": subject.address.service,
        "node": subject.address.name,
        "item": None if subject.item is None else subject.item.id,
        "origin": subject.origin,
        "stored": None if subject.row is None else _row(subject.row),
        "analyser": analyser.name if analyser else None,
        "matched_by": ("node" if by_name else "namespace") if analyser else None,
        "matched": (analyser.node if by_name else analyser.namespace) if analyser else None,
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


def as_text(data: dict[str, Any]) -> str:
    """Return an explanation, as `as_data` returns it, as text for people."""
    lines = [f"{name + ':':10} {plain(value)}" for name, value in _facts(data) if value]
    if data["parsed"] is not None:
        lines += ["", _printable(json.dumps(data["parsed"], ensure_ascii=False, indent=2))]
    if rest := data["parsed"].get("rest", []) if data["schema"] else []:
        lines += ["", "Not read by the parser, so under the key rest:"]
        lines += [f"- {plain(_unread(one))}" for one in rest[:SHOWN]]
        lines += [f"- and {counted(len(rest) - SHOWN, 'element')} more"] if len(rest) > SHOWN else []
    if data["left_out"]:
        lines += ["", "Left out of the JSON:"]
        lines += [f"- {plain(one['path'])}: {plain(one['reason'])}" for one in data["left_out"]]
    return "\n".join(lines)


def _unread(element: dict[str, Any]) -> str:
    """Return the path of an element of the rest, and what of the element is there."""
    found = [f"attribute {name}" for name in element["attributes"]][:SHOWN]
    found += ["text"] if element["text"] else []
    found += [counted(len(element["children"]), "inner element")] if element["children"] else []
    path = "/".join(filter(None, (element["path"], element["name"])))
    return f"{path}: {', '.join(found) or 'empty'}"


def _facts(data: dict[str, Any]) -> list[tuple[str, str]]:
    stored = data["stored"]
    kept = {True: "cached", False: "not cached"}.get(data["to_sync"], "")
    return [
        ("service", data["service"]),
        ("node", data["node"]),
        ("item", "none" if data["item"] is None else f"{data['item'] or 'without an id'}, from the {data['origin']}"),
        ("analyser", f"{data['analyser']}: {_reason(data)}" if data["analyser"] else _reason(data)),
        ("type", ", ".join(filter(None, (data["type"], data["subtype"])))),
        ("nodes", f"{kept}. {data['why']}" if kept else ""),
        ("parser", _parser(data)),
        ("schema", data["schema"]),
        ("error", data["error"]),
        ("in cache", _stored(stored) if stored else ""),
    ]


def _parser(data: dict[str, Any]) -> str:
    if data["parser"] is None:
        return "none" if data["analyser"] else ""
    other = data["parsed_by"] != data["analyser"]
    return f"{data['parser']}, that of the analyser {data['parsed_by']}" if other else str(data["parser"])


def _reason(data: dict[str, Any]) -> str:
    if data["matched_by"] == "node":
        return f"the name of the node starts with {data['matched']}"
    if data["matched_by"] == "namespace":
        return f"payloads are in the namespace {data['matched']}"
    return "" if data["error"] else "none matches"


def _stored(stored: dict[str, Any]) -> str:
    facts = {"analyser": stored["analyser"] or "none", "policy": stored["policy"], "state": stored["state"] or "none"}
    shown = ", ".join(f"{name} {value}" for name, value in facts.items())
    return f"{shown}. {stored['reason'] or ''}".strip()


def _printable(document: str) -> str:
    """Return JSON with escapes for the characters that a terminal may act upon."""
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in document)
