"""The records of an export, in any format, and their validation.

An export starts with a header. For each node it has a node record, its items and evicted items in the service's order,
and a node_end record. It closes with an end record.
"""

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from pubsubcache.conf import settings
from pubsubcache.exceptions import DamagedFile, InvalidRequest, ParseError, TooLarge
from pubsubcache.models import PubsubNode
from pubsubcache.store.nodes import check_address
from pubsubcache.types import MAX_NAME_BYTES, MAX_NUMBER, NodeAddress
from pubsubcache.utils import jid, xmlform

Record = dict[str, Any]
Located = tuple[int, Record]  # the line of the file on which the record begins, and the record
Rule = tuple[Callable[[Any], bool], str]

FORMAT = "pubsubcache export"
VERSION = 1
MAX_POSITION = 2**62  # leaves room for the positions of items published later


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_number(value: Any, least: int = 0, most: int = MAX_NUMBER) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_time(value: Any) -> bool:
    try:
        time = datetime.fromisoformat(value)
        return time.tzinfo is not None and bool(time.astimezone(UTC))
    except (TypeError, ValueError, OverflowError):
        return False


def _is_interval(value: Any) -> bool:
    return value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and 1 <= value <= MAX_NUMBER
    )


def _is_account(value: Any) -> bool:
    try:
        return _is_text(value) and jid.account(value) == value
    except InvalidRequest:
        return False


def _is_service(value: Any) -> bool:
    try:
        return _is_text(value) and jid.normalise(value) == value
    except InvalidRequest:
        return False


def _is_data(value: Any) -> bool:
    """Whether both databases can store the JSON data."""
    waiting = [value]
    while waiting:
        member = waiting.pop()
        if isinstance(member, dict):
            waiting += [*member, *member.values()]
        elif isinstance(member, list):
            waiting += member
        elif (isinstance(member, str) and not _is_text(member)) or (
            isinstance(member, float) and not math.isfinite(member)
        ):
            return False
    return True


def _short(limit: int) -> Rule:
    return lambda value: _is_text(value) and len(value) <= limit, f"a string of at most {limit} characters"


def _one_of(*values: Any) -> Rule:
    return lambda value: any(value is one or (value == one and type(value) is type(one)) for one in values), (
        ("one of " if len(values) > 1 else "") + ", ".join(json.dumps(value) for value in values)
    )


TEXT: Rule = (_is_text, "a string")
BOOLEAN: Rule = (lambda value: isinstance(value, bool), "true or false")
COUNT: Rule = (_is_number, "an integer >= 0")
TIME: Rule = (_is_time, "a time with a time zone, such as 2026-01-31T12:00:00.123456Z")
PLACE: Rule = (lambda value: _is_number(value, 0, MAX_POSITION), f"an integer from 0 to {MAX_POSITION}")
NAME: Rule = (
    lambda value: _is_text(value) and len(value.encode()) <= MAX_NAME_BYTES,
    f"a string of at most {MAX_NAME_BYTES} bytes",
)

# What the cache has learned about a node and its service.
EXTRA: dict[str, Rule] = {
    "to_sync": BOOLEAN,
    "by_analyser": BOOLEAN,
    "by_hand": BOOLEAN,
    "registry": TEXT,
    "reason": TEXT,
    "namespace": TEXT,
    "parse_anew": BOOLEAN,
    "rsm": BOOLEAN,
    "cursors": _one_of("ids", "opaque"),
    "publishers": BOOLEAN,
    "payload_type": TEXT,
    "moves": BOOLEAN,
    "listed": COUNT,
    "limit": (lambda value: _is_number(value, 1), "an integer >= 1"),
    "confirmed": PLACE,
    "probe": (
        lambda value: isinstance(value, list) and len(value) in (0, 2) and all(map(_is_text, value)),
        "a list of no or two item ids",
    ),
}

FIELDS: dict[str, dict[str, Rule]] = {
    "header": {"format": _one_of(FORMAT), "version": _one_of(VERSION), "exported": TIME},
    "node": {
        "account": (_is_account, "the bare JID of an account"),
        "service": (_is_service, "a JID"),
        "name": TEXT,
        "analyser": _short(100),
        "type": _short(100),
        "subtype": _short(100),
        "policy": _one_of(*PubsubNode.Policy.values),
        "sync_state": _one_of(None, *PubsubNode.SyncState.values),
        "sync_state_updated": TIME,
        "sync_error": TEXT,
        "access_model": _short(20),
        "partial": BOOLEAN,
        "reconcile_interval": (_is_interval, "null or a number of seconds >= 1"),
        "subscribed": BOOLEAN,
        "checked_at": (lambda value: value is None or _is_time(value), f"null or {TIME[1]}"),
        "extra": (lambda value: isinstance(value, dict), "an object"),
    },
    "item": {
        "name": NAME,
        "position": PLACE,
        "created": TIME,
        "updated": TIME,
        "publisher": _short(3071),
        "parsed": (_is_data, "data without NUL, lone surrogates or infinite numbers"),
        "parse_error": TEXT,
        "text": TEXT,
        "data": TEXT,
    },
    "evicted": {"name": NAME, "position": PLACE, "created": TIME, "updated": TIME, "reason": TEXT},
    "node_end": {"items": COUNT, "evicted": COUNT, "next_position": PLACE},
    "end": {"nodes": COUNT, "items": COUNT, "evicted": COUNT},
}
OPTIONAL = {"evicted": {"reason"}}  # fields that exports of older versions lack
FOLLOWERS: dict[str, set[str]] = {
    "": {"header"},
    "header": {"node", "end"},
    "node": {"item", "evicted", "node_end"},
    "item": {"item", "evicted", "node_end"},
    "evicted": {"item", "evicted", "node_end"},
    "node_end": {"node", "end"},
    "end": set(),
}


def checked(records: Iterable[Located]) -> Iterator[Located]:
    """Yield the records of a file. Raises `DamagedFile` at the first record that is invalid or missing."""
    sequence, line = Sequence(), 1
    for line, record in records:
        try:
            sequence.take(record)
        except ValueError as error:
            raise DamagedFile(f"Line {line}: {error}") from error
        yield line, record
    if sequence.last != "end":
        raise DamagedFile(f"Line {line}: the file is truncated: the end record is missing.")


class Sequence:
    """Validates the records of an export and their order. `last` is the kind of the last record."""

    def __init__(self) -> None:
        self.last = ""
        self.node: Record = {}
        self._addresses: set[tuple[str, str, str]] = set()
        self._item_ids: set[bytes] = set()  # digests
        self._counts = {"items": 0, "evicted": 0}
        self._totals = {"nodes": 0, "items": 0, "evicted": 0}
        self._position = 0

    def take(self, record: Any) -> None:
        """Check the next record. Raises `ValueError` with a message for users."""
        kind = record.get("kind") if isinstance(record, dict) else None
        if not isinstance(kind, str) or kind not in FIELDS:
            raise ValueError("this is not a record of an export.")
        if kind not in FOLLOWERS[self.last]:
            raise ValueError(f"{_article(kind)} record is not allowed here.")
        if kind == "header" and record.get("format") == FORMAT and record.get("version") != VERSION:
            version = f"{record.get('version')!r:.20}"
            raise ValueError(f"the export has version {version}; only version {VERSION} is supported.")
        fields = {name: value for name, value in record.items() if name != "kind"}
        _check_fields(_article(kind), fields, FIELDS[kind], optional=OPTIONAL.get(kind, set()))
        take = {
            "node": self._take_node,
            "item": self._take_item,
            "evicted": self._take_entry,
            "node_end": self._take_node_end,
            "end": self._take_end,
        }.get(kind)
        if take is not None:
            take(record)
        self.last = kind

    def _take_node(self, record: Record) -> None:
        try:
            check_address(NodeAddress(record["service"], record["name"]))
        except InvalidRequest as error:
            raise ValueError(str(error)) from error
        unknown = {name: value for name, value in record["extra"].items() if name not in EXTRA}
        _check_fields("extra of a node", unknown or record["extra"], {} if unknown else EXTRA, whole=False)
        address = (record["account"], record["service"], record["name"])
        if address in self._addresses:
            raise ValueError(f"the node {record['name']!r:.100} of {record['service']} appears twice in the file.")
        self._addresses.add(address)
        self.node = record
        self._item_ids.clear()
        self._counts = {"items": 0, "evicted": 0}
        self._position = 0
        self._totals["nodes"] += 1

    def _take_item(self, record: Record) -> None:
        self._take_entry(record)
        _check_item(record)

    def _take_entry(self, record: Record) -> None:
        item_id = record["name"]
        if self.node["sync_state"] == PubsubNode.SyncState.NO_SYNC:
            raise ValueError(f"the item {item_id!r:.100} belongs to a node with the state NO_SYNC, which has no items.")
        digest = blake2b(item_id.encode(), digest_size=16).digest()
        if digest in self._item_ids:
            raise ValueError(f"the item {item_id!r:.100} appears twice in its node.")
        self._item_ids.add(digest)
        if record["position"] < self._position:
            raise ValueError(f"the item {item_id!r:.100} follows an item with a higher position.")
        self._position = record["position"]
        for counts in (self._counts, self._totals):
            counts["items" if record["kind"] == "item" else "evicted"] += 1

    def _take_node_end(self, record: Record) -> None:
        self._compare(record, self._counts, "the node")
        if record["next_position"] < self._position:
            raise ValueError("next_position is lower than the position of an item.")

    def _take_end(self, record: Record) -> None:
        self._compare(record, self._totals, "the file")

    @staticmethod
    def _compare(record: Record, counted: dict[str, int], what: str) -> None:
        for name, number in counted.items():
            if record[name] != number:
                raise ValueError(f"{what} should have {record[name]} {name}, but has {number}.")


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'aei' else 'a'} {kind}"


def _check_fields(
    what: str, found: Record, rules: dict[str, Rule], *, whole: bool = True, optional: Collection[str] = ()
) -> None:
    if unknown := found.keys() - rules.keys():
        raise ValueError(f"{what} has an unknown field {min(unknown)!r:.100}.")
    if whole and (missing := rules.keys() - found.keys() - set(optional)):
        raise ValueError(f"{what} lacks {min(missing)!r}.")
    for name, value in found.items():
        is_valid, expected = rules[name]
        if not is_valid(value):
            raise ValueError(f"{name} of {what.removeprefix('extra of ')} must be {expected}, not {value!r:.50}.")


def _check_item(record: Record) -> None:
    """Raise `ValueError` unless the XML of an item is in the form in which the cache stores it."""
    item_id, data = record["name"], record["data"]
    what = f"the XML of the item {item_id!r:.100}"
    if len(data.encode()) > settings.MAX_ITEM_SIZE:
        raise ValueError(f"{what} is longer than {settings.MAX_ITEM_SIZE} bytes.")
    try:
        element = xmlform.from_text(data)
        normal = xmlform.to_text(element)
    except (ParseError, TooLarge) as error:
        raise ValueError(f"{what} is refused: {error}") from error
    if element.tag != f"{{{xmlform.PUBSUB}}}item" or normal != data:
        raise ValueError(f"{what} is not an <item/> in normal form.")
    if element.get("id", "") != item_id:
        raise ValueError(f"{what} has another id.")
    if record["publisher"] not in ("", element.get("publisher", "")):
        raise ValueError(f"{what} names another publisher.")
