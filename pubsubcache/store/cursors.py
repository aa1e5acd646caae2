"""Cursors of pages that the cache answered (XEP-0059: opaque to the reader).

A cursor of ours names the node's row and the sort key of an item, so that it holds its place when that item
is retracted between two pages. Where a service uses item ids as cursors, or has no paging at all, the
cache does as well, and either may go on with the other's.
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
    """Where an item stands in an order: `at` is its time there, None in the service's own order."""

    position: int
    at: datetime | None = None


def is_ours(cursor: str | None) -> bool:
    """Whether a cursor is of a page that the cache answered, so that no service knows it."""
    return cursor is not None and cursor.startswith(PREFIX)


def encode(node_pk: int, order: str | None, key: Key) -> str:
    """Return the cursor for the place `key` in the order `order` of a node."""
    at = "" if key.at is None else key.at.isoformat()
    text = json.dumps([node_pk, order or "", key.position, at], separators=(",", ":"))
    return PREFIX + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode(cursor: str, node_pk: int, order: str | None) -> Key | None:
    """Return the place that a cursor means, or None when it is not one of ours for this node and order."""
    body = cursor.removeprefix(PREFIX)
    if body == cursor or len(body) > MAX_LENGTH:
        return None
    try:
        pk, name, position, at = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        if [type(part) for part in (pk, name, position, at)] != [int, str, int, str]:
            return None
        moment = datetime.fromisoformat(at) if at else None
        if moment is not None:
            moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (binascii.Error, UnicodeError, ValueError, TypeError, OverflowError, RecursionError):
        return None
    is_ours = (pk, name) == (node_pk, order or "") and bool(order) == bool(at) and 0 <= position < 2**63
    return Key(position, moment) if is_ours else None
