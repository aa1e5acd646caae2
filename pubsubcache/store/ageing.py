"""Records reads of nodes, and removes unpinned nodes that nobody reads any more."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import DatabaseError, connections, transaction

from pubsubcache.conf import settings
from pubsubcache.models import PubsubNode
from pubsubcache.store.nodes import forget_nodes
from pubsubcache.utils import clock
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

RECORD_INTERVAL = timedelta(hours=1)
BATCH = 100  # nodes removed in one transaction
BATCH_ITEMS = 1000  # items removed in one transaction, unless a single node has more
LOCK_TIMEOUT = 50  # milliseconds that a read waits for SQLite's lock


def record_read(node: PubsubNode) -> None:
    """Record that `node` was read, at most once per `RECORD_INTERVAL`.

    If the database is locked, nothing is recorded, so that the read does not wait. The next read tries again.
    """
    now = node.as_of or clock.now()
    if abs(now - node.last_read) < RECORD_INTERVAL:
        return
    unchanged = PubsubNode.objects.filter(pk=node.pk, last_read=node.last_read)
    try:
        with short_lock_timeout(unchanged.db), transaction.atomic(using=unchanged.db):
            if unchanged.select_for_update(skip_locked=True).exists():
                unchanged.update(last_read=now)
    except DatabaseError as error:
        logger.debug("Cannot record that %s was read: %s", node, error)


@contextmanager
def short_lock_timeout(alias: str) -> Iterator[None]:
    """Shorten the lock timeout of a SQLite database to `LOCK_TIMEOUT`."""
    connection = connections[alias]
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        timeout = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        cursor.execute(f"PRAGMA busy_timeout = {LOCK_TIMEOUT}")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {timeout}")


@transaction.atomic
def forget_unread(account_pk: int) -> int:
    """Remove a batch of unpinned nodes of an account, least recently read first.

    Removes nodes that nobody has read for `UNREAD_NODE_AGE`, and nodes in excess of `MAX_UNPINNED_NODES`. Workers end
    their subscriptions. Keeps nodes whose policy is not auto and nodes that are being synchronised.

    Returns:
        The number of removed nodes; 0 if there are no more.
    """
    unpinned = PubsubNode.objects.filter(account_id=account_pk, pinned=False, policy="auto")
    surplus = unpinned.count() - settings.MAX_UNPINNED_NODES
    too_old = clock.now() - timedelta(seconds=settings.UNREAD_NODE_AGE)
    oldest = unpinned.unclaimed().select_for_update(skip_locked=True).order_by("last_read")
    chosen: list[int] = []
    items = 0
    for pk, last_read, count in oldest.values_list("pk", "last_read", "item_count")[:BATCH]:
        items += count
        if (len(chosen) >= surplus and last_read >= too_old) or (chosen and items > BATCH_ITEMS):
            break
        chosen.append(pk)
    return forget_nodes(PubsubNode.objects.filter(pk__in=chosen), unsubscribe=True) if chosen else 0
