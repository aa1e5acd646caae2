"""Removes items from the cache that the service still has."""

from datetime import datetime
from functools import partial
from itertools import accumulate
from typing import Any

from django.db import connection, transaction
from django.db.models import Max, Model, QuerySet, Value
from django.db.models.functions import Length

from pubsubcache.models import PubsubEvicted, PubsubItem, PubsubNode, PubsubTombstone
from pubsubcache.store.batches import Batch, Report, Selection, each_node, run

BATCH = 1000
CHUNK = 25  # items evicted between two looks at the clock
CHUNK_SIZE = 256 * 1024  # characters of their words
EVICTED_AT_ONCE = 2000  # rows of evicted items removed in one transaction
EVICTED_COLUMNS = ("name", "position", "created", "updated", "revision")
SyncState = PubsubNode.SyncState


def drop_items(node: PubsubNode, evicted: int | None = None) -> int:
    """Remove all rows of items of `node`, including evicted ones; return the number of stored items.

    The caller saves the node.

    Args:
        node: The node.
        evicted: The maximum number of rows of evicted items to remove; `drop_evicted` removes the rest.
    """
    count, _ = PubsubItem.objects.filter(node=node).delete()
    rows = PubsubEvicted.objects.filter(node=node)
    if evicted is not None and node.evicted_count > evicted:
        rows = PubsubEvicted.objects.filter(pk__in=list(rows.values_list("pk", flat=True)[:evicted]))
    rows.delete()
    PubsubTombstone.objects.filter(node=node).delete()
    node.item_count = node.evicted_count = 0
    return count


def drop_evicted(node: PubsubNode, batch: Batch) -> bool:
    """Remove rows of evicted items that `drop_items` left; return whether all are removed."""
    rows = list(PubsubEvicted.objects.filter(node=node).values_list("pk", flat=True)[:EVICTED_AT_ONCE])
    PubsubEvicted.objects.filter(pk__in=rows).delete()
    batch.rows -= len(rows)
    return len(rows) < EVICTED_AT_ONCE


def empty_node(pk: int) -> None:
    """Remove all rows of items of a node in the state ERROR, in small transactions."""
    for model in (PubsubItem, PubsubEvicted, PubsubTombstone):
        while _drop_batch(model, pk):
            pass


@transaction.atomic
def _drop_batch(model: type[Model], pk: int) -> int:
    node = PubsubNode.objects.for_update().filter(pk=pk, sync_state=SyncState.ERROR, sync_owner="").first()
    if node is None:
        return 0
    rows = model._default_manager.filter(node=node)
    count, _ = rows.filter(pk__in=list(rows.values_list("pk", flat=True)[:BATCH])).delete()
    return count


def evict_items(node: PubsubNode, items: QuerySet[PubsubItem]) -> int:
    """Evict `items` of `node`, recording their ids and positions; return their number. The caller saves the node."""
    total = 0
    while batch := list(items.filter(node=node).only(*EVICTED_COLUMNS)[:BATCH]):
        _evict(node, batch)
        total += len(batch)
    return total


def _evict(node: PubsubNode, items: list[PubsubItem]) -> None:
    PubsubEvicted.objects.bulk_create(
        [PubsubEvicted(node=node, **{column: getattr(item, column) for column in EVICTED_COLUMNS}) for item in items],
        ignore_conflicts=True,
    )
    PubsubItem.objects.filter(pk__in=[item.pk for item in items]).delete()
    node.item_count -= len(items)
    node.evicted_count += len(items)


def _chunk(items: QuerySet[PubsubItem]) -> tuple[list[PubsubItem], bool]:
    """Return the first of `items`, few enough to evict in a moment, and whether there are no others."""
    found = list(items.only(*EVICTED_COLUMNS).annotate(size=_size_of_words())[: CHUNK + 1])
    sizes = accumulate(item.size for item in found)
    fitting = sum(1 for size in sizes if size <= CHUNK_SIZE)
    chunk: list[PubsubItem] = [*found[: min(max(fitting, 1), CHUNK)]]
    return chunk, len(chunk) == len(found)


def _size_of_words() -> Any:
    """Return the size of an item's text, which SQLite reads to remove the item from the full text index."""
    return Length("text") if connection.vendor == "sqlite" else Value(0)


def _evict_chunks(node: PubsubNode, items: QuerySet[PubsubItem], batch: Batch, *, keep_last: bool = False) -> bool:
    """Evict `items` of a locked node, as many as the batch may.

    Args:
        node: The node.
        items: The items, sorted.
        batch: The batch.
        keep_last: Whether to keep the last chunk.

    Returns:
        Whether no others are left, except for the last chunk.
    """
    number = 0
    chunk, is_last = _chunk(items)
    while chunk and not (is_last and keep_last):
        _evict(node, chunk)
        batch.spend(len(chunk))
        number += len(chunk)
        if is_last or batch.is_spent:
            break
        chunk, is_last = _chunk(items)
    if number:
        node.save(update_fields=["item_count", "evicted_count"])
        batch.note(items=number)
    return is_last


def shrink(node: PubsubNode, batch: Batch) -> bool:
    """Evict items of a locked node that is about to lose all of them, until `drop_items` can remove the rest at once.

    Reads stay correct meanwhile: they ask the service for evicted items.

    Returns:
        Whether only such a rest is left.
    """
    return _evict_chunks(node, PubsubItem.objects.filter(node=node).order_by("position"), batch, keep_last=True)


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
    report: Report | None = None,
) -> int:
    """Evict items of `nodes` in batches; return their number.

    The nodes stay synchronised. Reads that need evicted items ask the service.

    Args:
        nodes: The nodes.
        created_before: Evict only items created before this time.
        updated_before: Evict only items updated before this time.
        report: Called with the number of rows done so far and the total.
    """
    chosen = Selection(nodes.values_list("pk", flat=True))
    work = partial(evict_batch, nodes=chosen, created_before=created_before, updated_before=updated_before)
    return run(work, report, chosen.size if report else None)["items"]


def evict_batch(
    batch: Batch, nodes: Selection, created_before: datetime | None = None, updated_before: datetime | None = None
) -> None:
    """Evict items of `nodes`, as many as the batch may. Items that come in meanwhile stay."""
    if "newest" not in batch.cursor:
        batch.cursor["newest"] = PubsubItem.objects.aggregate(newest=Max("pk"))["newest"] or 0
    # Each order has an index that finds the matching items without the others.
    order = ["updated"] if updated_before else ["created"] if created_before else []

    def work(pk: int) -> bool:
        node = PubsubNode.objects.for_update().filter(pk=pk).first()
        if node is None:
            return True
        present = PubsubItem.objects.filter(node=node, pk__lte=batch.cursor["newest"])
        items = _older(present, created_before, updated_before)
        return _evict_chunks(node, items.order_by(*order, "position"), batch)

    each_node(batch, nodes, work)


def evictable(
    nodes: QuerySet[PubsubNode], created_before: datetime | None = None, updated_before: datetime | None = None
) -> QuerySet[PubsubItem]:
    """Return the items that `evict` would remove."""
    return _older(PubsubItem.objects.filter(node__in=nodes), created_before, updated_before)


def _older(
    items: QuerySet[PubsubItem], created_before: datetime | None, updated_before: datetime | None
) -> QuerySet[PubsubItem]:
    if created_before is not None:
        items = items.filter(created__lt=created_before)
    if updated_before is not None:
        items = items.filter(updated__lt=updated_before)
    return items
