"""Signals of the cache, sent after the change is committed. A receiver that fails stops nothing.

Each is sent with `node_pk`, the primary key of the node, and:

- `items_published`: `names`, the ids of items that notifications brought or changed.
- `items_retracted`: `names`, the ids of items that are gone.
- `node_purged`: nothing more; all items of the node are gone at the service.
- `node_deleted`: `account` and `address`; the node is gone at the service, and its row with it.
- `node_synced`: `result`, a `pubsubcache.syncing.full_sync.SyncResult`.
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


async def announce(signal: Signal, **named: Any) -> None:
    """Send a signal from asynchronous code; what a receiver raises is logged."""
    if not signal.has_listeners(sender=None):
        return
    for receiver, outcome in await sync_to_async(signal.send_robust)(sender=None, **named):
        if isinstance(outcome, Exception):
            logger.error("The receiver %r failed.", receiver, exc_info=outcome)
