"""Encodes and decodes the cache's own cursors (XEP-0059), which are opaque to clients.

A cursor contains the primary key of the node and the sort key of an item, so it stays valid when that item is retracted
between two pages. If the service uses item ids as cursors or does not page, the cache uses item ids too. Then the
service and the cache accept each other's cursors.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import UTC, datetime

PREFIX = "psc."
MAX_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Key:
    """The sort key of an item. `at` is its time, or None in the order of the service."""

    position: int
    at: datetime | None = None


def is_ours(cursor: str | None) -> bool:
    """Whether a cursor was made by the cache, so that no service knows it."""
    return cursor is not None and cursor.startswith(PREFIX)


def encode(node_pk: int, order: str | None, key: Key) -> str:
    """Return the cursor for an item with the sort key `key` when a node is sorted by `order`."""
    at = "" if key.at is None else key.at.isoformat()
    text = json.dumps([node_pk, order or "", key.position, at], separators=(",", ":"))
    return PREFIX + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, node_pk: int, order: str | None) -> Key | None:
    """Return the sort key in a cursor, or None if the cache did not make the cursor for this node and order."""
    body = cursor.removeprefix(PREFIX)
    if body == cursor or len(body) > MAX_LENGTH:
        return None
    try:
        pk, order_name, position, at = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        if [type(part) for part in (pk, order_name, position, at)] != [int, str, int, str]:
            return None
        moment = datetime.fromisoformat(at) if at else None
        if moment is not None:
            moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (binascii.Error, UnicodeError, ValueError, TypeError, OverflowError, RecursionError):
        return None
    is_valid = (pk, order_name) == (node_pk, order or "") and bool(order) == bool(at) and 0 <= position < 2**63
    return Key(position, moment) if is_valid else None
