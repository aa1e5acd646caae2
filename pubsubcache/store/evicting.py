"""Removes items from the cache that the service still has."""

from datetime import datetime

from django.db import transaction
from django.db.models import Model, QuerySet

from pubsubcache.models import PubsubEvicted, PubsubItem, PubsubNode, PubsubTombstone

BATCH = 1000
SyncState = PubsubNode.SyncState


def drop_items(node: PubsubNode) -> int:
    """Remove all rows of items of `node`, including evicted ones; return the number of stored items.

    The caller saves the node.
    """
    count, _ = PubsubItem.objects.filter(node=node).delete()
    PubsubEvicted.objects.filter(node=node).delete()
    PubsubTombstone.objects.filter(node=node).delete()
    node.item_count = node.evicted_count = 0
    return count


def empty_node(pk: int) -> None:
    """Remove all rows of items of a node in the state ERROR, in small transactions."""
    for model in (PubsubItem, PubsubEvicted, PubsubTombstone):
        while _drop_batch(model, pk):
            pass


@transaction.atomic
def _drop_batch(model: type[Model], pk: int) -> int:
    node = PubsubNode.objects.select_for_update().filter(pk=pk, sync_state=SyncState.ERROR, sync_owner="").first()
    if node is None:
        return 0
    rows = model._default_manager.filter(node=node)
    count, _ = rows.filter(pk__in=list(rows.values_list("pk", flat=True)[:BATCH])).delete()
    return count


def evict_items(node: PubsubNode, items: QuerySet[PubsubItem]) -> int:
    """Evict `items` of `node`, recording their ids and positions; return their number. The caller saves the node."""
    total = 0
    columns = ("name", "position", "created", "updated", "revision")
    while batch := list(items.filter(node=node).only(*columns)[:BATCH]):
        PubsubEvicted.objects.bulk_create(
            [PubsubEvicted(node=node, **{column: getattr(item, column) for column in columns}) for item in batch],
            ignore_conflicts=True,
        )
        PubsubItem.objects.filter(pk__in=[item.pk for item in batch]).delete()
        total += len(batch)
    node.item_count -= total
    node.evicted_count += total
    return total


@transaction.atomic
def mark_left_out(pk: int, reasons: dict[str, str]) -> None:
    """Mark evicted items of a node as left out, because they cannot be stored.

    Args:
        pk: The primary key of the node.
        reasons: The reason for each item id.
    """
    for row in PubsubEvicted.objects.filter(node_id=pk, name__in=reasons, reason=""):
        row.reason = reasons[row.name]
        row.save(update_fields=["reason"])


def evict(
    nodes: QuerySet[PubsubNode],
    *,
    created_before: datetime | None = None,
    updated_before: datetime | None = None,
) -> int:
    """Evict items of `nodes`; return their number.

    The nodes stay synchronised. Reads that need evicted items ask the service.

    Args:
        nodes: The nodes.
        created_before: Evict only items created before this time.
        updated_before: Evict only items updated before this time.
    """
    total = 0
    for pk in nodes.values_list("pk", flat=True):
        total += _evict_from_node(pk, created_before, updated_before)
    return total


def evictable(
    nodes: QuerySet[PubsubNode], created_before: datetime | None = None, updated_before: datetime | None = None
) -> QuerySet[PubsubItem]:
    """Return the items that `evict` would remove."""
    items = PubsubItem.objects.filter(node__in=nodes)
    if created_before is not None:
        items = items.filter(created__lt=created_before)
    if updated_before is not None:
        items = items.filter(updated__lt=updated_before)
    return items


@transaction.atomic
def _evict_from_node(pk: int, created_before: datetime | None, updated_before: datetime | None) -> int:
    node = PubsubNode.objects.select_for_update().filter(pk=pk).first()
    if node is None:
        return 0
    total = evict_items(node, evictable(PubsubNode.objects.filter(pk=pk), created_before, updated_before))
    node.save(update_fields=["item_count", "evicted_count"])
    return total
