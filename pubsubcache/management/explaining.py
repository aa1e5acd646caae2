"""`manage.py pubsub_analysers explain`: shows what the analysers make of an item, from a node or from a file."""

import json
from typing import Any

from pubsubcache import explaining
from pubsubcache.conf import settings
from pubsubcache.exceptions import ItemNotFound, NotInCache
from pubsubcache.explaining import Subject
from pubsubcache.management.files import reading
from pubsubcache.management.network import asking
from pubsubcache.management.output import counted, plain
from pubsubcache.models import Account, PubsubNode
from pubsubcache.services import fetching
from pubsubcache.store import in_thread, nodes
from pubsubcache.syncing.analysis import newest_items
from pubsubcache.types import NodeAddress

SHOWN = 20  # elements of the rest to list


def from_file(path: str, address: NodeAddress) -> Subject:
    """Read an `<item/>` from a file, or from stdin for "-".

    Raises:
        InvalidRequest: The file cannot be read, or contains something else.
        ParseError: It is not well-formed XML.
        TooLarge: It is larger than an item can be.
    """
    with reading(path) as stream:
        data = stream.read(settings.MAX_STANZA_SIZE + 1)
    return explaining.from_xml(data, address)


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
    cached = await in_thread(_cached)(account, address, item_id)
    if cached.item is not None and not no_cache:
        return cached
    if cache_only:
        raise NotInCache(f"The cache has no such item of {address.service} {address.name}.")
    async with asking(account) as service:
        samples = await newest_items(service, address)
        found = samples if item_id is None else await fetching.read_ids(service, address, [item_id])
    if item_id is not None and not found:
        raise ItemNotFound(text=f"no item {item_id[:100]!r}")
    item = explaining.storable(found[-1]) if found else None
    return Subject(address=address, item=item, samples=samples, row=cached.row, origin="service")


def _cached(account: Account, address: NodeAddress, item_id: str | None) -> Subject:
    row = PubsubNode.objects.filter(account=account, service=address.service, name=address.name).first()
    if row is None:
        return Subject(address=address, item=None, origin="cache")
    return explaining.from_cache(row, item_id)


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
