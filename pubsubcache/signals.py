"""Signals of the cache. They are sent after the change is committed; errors of receivers are only logged.

All signals have `node_pk`, the primary key of the node, and these arguments:

- `items_published`: `item_ids`, the ids of items that notifications added or changed.
- `items_retracted`: `item_ids`, the ids of items that were removed.
- `node_purged`: none; the service removed all items of the node.
- `node_deleted`: `account` and `address`; the service deleted the node, and the cache deleted its row.
- `node_synced`: `result`, a `pubsubcache.syncing.full_sync.SyncResult`.

`item_ids` is also sent under its old name `names`.
"""

from typing import Any

from asgiref.sync import sync_to_async
from django.dispatch import Signal

from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

items_published = Signal()
items_retracted = Signal()
node_purged = Signal()
node_deleted = Signal()
node_synced = Signal()


async def announce_items(signal: Signal, node_pk: int, item_ids: list[str]) -> None:
    """Send `items_published` or `items_retracted`, unless there are no items."""
    if item_ids:
        await announce(signal, node_pk=node_pk, item_ids=item_ids, names=item_ids)


async def announce(signal: Signal, **named: Any) -> None:
    """Send a signal from asynchronous code, and log the errors of receivers."""
    if not signal.has_listeners(sender=None):
        return
    for receiver, outcome in await sync_to_async(signal.send_robust)(sender=None, **named):
        if isinstance(outcome, Exception):
            logger.error("The receiver %r failed.", receiver, exc_info=outcome)
