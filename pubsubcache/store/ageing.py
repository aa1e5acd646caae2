"""Nodes that are in the cache only because somebody read them: noted when they are read, forgotten when nobody does."""

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

NOTED_EVERY = timedelta(hours=1)
BATCH = 100  # nodes forgotten in one transaction
BATCH_ITEMS = 1000  # and their items, unless a single node has more
PATIENCE = 50  # milliseconds that a reader waits for SQLite's lock


def note_read(node: PubsubNode) -> None:
    """Keep that `node` was read, at most once an hour.

    A database that does not take it at once is no reason to keep the reader waiting: the next read tries again.
    """
    now = node.as_of or clock.now()
    if abs(now - node.last_read) < NOTED_EVERY:
        return
    unchanged = PubsubNode.objects.filter(pk=node.pk, last_read=node.last_read)
    try:
        with _impatient(unchanged.db), transaction.atomic(using=unchanged.db):
            if unchanged.select_for_update(skip_locked=True).exists():
                unchanged.update(last_read=now)
    except DatabaseError as error:
        logger.debug("It could not be kept that %s was read: %s", node, error)


@contextmanager
def _impatient(alias: str) -> Iterator[None]:
    """Wait only shortly for the lock of a SQLite database."""
    connection = connections[alias]
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        patience = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        cursor.execute(f"PRAGMA busy_timeout = {PATIENCE}")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {patience}")


@transaction.atomic
def forget_unread(account_pk: int) -> int:
    """Forget a batch of unpinned nodes of an account, least recently read first; return how many, 0 at the end.

    Those go that nobody read for `UNREAD_NODE_AGE`, and those over `MAX_UNPINNED_NODES`. Workers end their
    subscriptions. Nodes with a policy other than auto stay, and so do nodes that are being synchronised.
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
