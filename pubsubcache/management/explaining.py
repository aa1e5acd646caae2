"""`manage.py pubsub_analysers explain`: shows what the analysers make of an item, from a node or from a file."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from pubsubcache.analysers.base import dotted
from pubsubcache.analysers.explaining import Explanation
from pubsubcache.conf import settings
from pubsubcache.exceptions import InvalidRequest, ItemNotFound, NotInCache, TooLarge
from pubsubcache.management.files import reading
from pubsubcache.management.network import asking
from pubsubcache.management.output import counted, plain
from pubsubcache.models import Account, PubsubNode
from pubsubcache.services import fetching
from pubsubcache.store import in_thread, nodes
from pubsubcache.types import Item, ItemsRequest, NodeAddress, known_id
from pubsubcache.utils import xmlform
from pubsubcache.utils.xmlform import PUBSUB, PUBSUB_EVENT, split_tag
from pubsubcache.utils.xmlparse import ELEMENT_COST

SHOWN = 20  # elements of the rest to list


@dataclass(kw_only=True)
class Subject:
    """What is explained: an item or None, its node, the row of the node or None, and where the item comes from."""

    address: NodeAddress
    item: Item | None
    row: PubsubNode | None = None
    origin: Literal["cache", "service", "file"]


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
    return Subject(address=address, item=_storable(Item.from_element(element)), origin="file")


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
    row, item = await in_thread(_cached)(account, address, item_id)
    if item is not None and not no_cache:
        return Subject(address=address, item=item, row=row, origin="cache")
    if cache_only:
        raise NotInCache(f"The cache has no such item of {address.service} {address.name}.")
    async with asking(account) as service:
        if item_id is not None:
            found = await fetching.read_ids(service, address, [item_id])
            if not found:
                raise ItemNotFound(text=f"no item {item_id[:100]!r}")
        else:
            found = (await fetching.read_whole(service, address, ItemsRequest(max_items=1))).items
    newest = _storable(found[-1]) if found else None
    return Subject(address=address, item=newest, row=row, origin="service")


def _cached(account: Account, address: NodeAddress, item_id: str | None) -> tuple[PubsubNode | None, Item | None]:
    row = PubsubNode.objects.filter(account=account, service=address.service, name=address.name).first()
    if row is None:
        return None, None
    items = row.items.in_order()
    item = items.last() if item_id is None else items.filter(name=known_id(item_id)).first()
    return row, None if item is None else item.as_item()


def _storable(item: Item) -> Item:
    if item.left_out:
        raise TooLarge(f"The cache does not keep this item: {item.left_out}")
    return item


def as_data(subject: Subject, found: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON data."""
    analyser = found.analyser
    return {
        "service": subject.address.service,
        "node": subject.address.name,
        "item": None if subject.item is None else subject.item.id,
        "origin": subject.origin,
        "stored": None if subject.row is None else _row(subject.row),
        "analyser": analyser.name if analyser else None,
        "matched_by": found.matched_by,
        "matched": getattr(analyser, found.matched_by) if found.matched_by else None,
        "type": found.analysis.type if found.analysis else None,
        "subtype": found.analysis.subtype if found.analysis else None,
        "to_sync": found.analysis.to_sync if found.analysis else None,
        "why": analyser.why if analyser else None,
        "parser": dotted(analyser.parser) or None if analyser else None,
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
        ("parser", data["parser"] or ("none" if data["analyser"] else "")),
        ("schema", data["schema"]),
        ("error", data["error"]),
        ("in cache", _stored(stored) if stored else ""),
    ]


def _reason(data: dict[str, Any]) -> str:
    if data["matched_by"] == "node":
        return f"the name of the node starts with {data['matched']}"
    if data["matched_by"] == "namespace":
        return f"the payload is in the namespace {data['matched']}"
    return "" if data["error"] else "none matches"


def _stored(stored: dict[str, Any]) -> str:
    facts = {"analyser": stored["analyser"] or "none", "policy": stored["policy"], "state": stored["state"] or "none"}
    shown = ", ".join(f"{name} {value}" for name, value in facts.items())
    return f"{shown}. {stored['reason'] or ''}".strip()


def _printable(document: str) -> str:
    """Return JSON with escapes for the characters that a terminal may act upon."""
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in document)
