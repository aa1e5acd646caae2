"""Compares the items of a node and their order with those that the service lists."""

from datetime import datetime
from enum import Enum

from django.db import transaction
from django.db.models import Max, Model

from pubsubcache.models import PubsubEvicted, PubsubItem, PubsubNode, SyncRun
from pubsubcache.store import runs
from pubsubcache.store.changes import Outcome, Retraction
from pubsubcache.store.leases import fenced
from pubsubcache.store.syncing import record_count
from pubsubcache.store.written import apply_answer

SyncState = PubsubNode.SyncState


class CheckResult(Enum):
    """The result of an id check."""

    EQUAL = "equal"
    CHANGED = "changed"  # a notification arrived meanwhile
    DIFFERENT = "different"
    REFUSED = "refused"  # the service did not answer with ids, so only a full sync can tell
    UNREACHABLE = "unreachable"


@fenced
def check(pk: int, revision: int, item_ids: list[str] | int, *, newest: list[str] | None = None) -> CheckResult:
    """Compare the items of a node with those at the service, and correct their order if only that differs.

    Args:
        pk: The primary key of the node.
        revision: The revision of the node when the service was asked.
        item_ids: All item ids in the order of the service, or only their number.
        newest: With a number, the ids of the newest items in the order of the service, as many as `unconfirmed_ids`
            returned.

    Returns:
        EQUAL, CHANGED or DIFFERENT. EQUAL also if the node is not synchronised.
    """
    node = PubsubNode.objects.for_update().filter(pk=pk).first()
    if node is None or node.sync_state != SyncState.COMPLETED:
        return CheckResult.EQUAL
    if node.revision != revision or node.sync_owner:
        return CheckResult.CHANGED
    count = item_ids if isinstance(item_ids, int) else len(item_ids)
    if node.item_count + node.evicted_count != count:
        return CheckResult.DIFFERENT
    if node.traits.listed != count:
        record_count(node, count)
    if isinstance(item_ids, list):
        return _reorder(node, item_ids, start=0)
    if newest is not None:
        return _reorder(node, newest, start=_anchor(node))
    node.save(update_fields=["extra"])
    return CheckResult.EQUAL


@transaction.atomic
def difference(pk: int, revision: int, item_ids: list[str]) -> tuple[list[str], int] | None:
    """Compare the item ids of a node with those at the service.

    Args:
        pk: The primary key of the node.
        revision: The revision of the node when the service was asked.
        item_ids: The item ids at the service.

    Returns:
        The item ids that only the cache has, and the number of those that only the service has. None if the node
        changed meanwhile.
    """
    node = PubsubNode.objects.filter(pk=pk, revision=revision, sync_owner="").first()
    if node is None:
        return None
    models: tuple[type[Model], ...] = (PubsubItem, PubsubEvicted)
    known = {
        item_id
        for model in models
        for item_id in model._default_manager.filter(node=node).values_list("name", flat=True).iterator()
    }
    return sorted(known.difference(item_ids)), len(set(item_ids) - known)


@fenced
def remove_gone(
    node: PubsubNode, item_ids: list[str], reason: SyncRun.Reason, started: datetime, requests: int
) -> Outcome | None:
    """Remove items that the service no longer has, and record the id check that found them.

    Args:
        node: The row of the node, read before the service was asked.
        item_ids: The ids of the items.
        reason: Why the check started.
        started: When it started.
        requests: The number of requests that it sent.

    Returns:
        The outcome. None, without any change, if notifications or a sync may have changed the node since it was read.
    """
    outcome = apply_answer(node, [Retraction(item_id) for item_id in item_ids])
    if outcome is not None:
        runs.record_id_check(node, reason, started, removed=len(outcome.retracted), requests=requests)
    return outcome


@fenced
def mark_checked(pk: int, as_of: datetime) -> None:
    """Record that a node was fresh at `as_of`, unless it was invalidated meanwhile."""
    fresh = PubsubNode.objects.filter(pk=pk, sync_state=SyncState.COMPLETED, sync_owner="", sync_requested=None)
    fresh.filter(checked_at__isnull=False).update(checked_at=as_of)


def unconfirmed_ids(pk: int, limit: int) -> list[str]:
    """Return the ids of the newest items whose order is known only from notifications, oldest first.

    The first id is that of the preceding item, if there is one. If the service still lists it there, no older item has
    moved.

    Args:
        pk: The primary key of the node.
        limit: The maximum number of ids.
    """
    node = PubsubNode.objects.get(pk=pk)
    rows = _rows_from(node, _anchor(node), limit)
    ordered = sorted((position, item_id) for item_id, (position, _, _) in rows.items())
    return [item_id for _, item_id in ordered][:limit]


def _anchor(node: PubsubNode) -> int:
    """Return the position of the newest item whose position a listing confirmed; if none, the position after those."""
    confirmed = node.confirmed_position
    models: tuple[type[Model], ...] = (PubsubItem, PubsubEvicted)
    positions = [
        model._default_manager.filter(node=node, position__lte=confirmed).aggregate(newest=Max("position"))["newest"]
        for model in models
    ]
    return max((position for position in positions if position is not None), default=confirmed + 1)


def _rows_from(node: PubsubNode, start: int, limit: int | None = None) -> dict[str, tuple[int, type[Model], int]]:
    """Return {item id: (position, model, primary key)} of stored and evicted items from position `start` on."""
    models: tuple[type[Model], ...] = (PubsubItem, PubsubEvicted)
    return {
        item_id: (position, model, pk)
        for model in models
        for pk, item_id, position in model._default_manager.filter(node=node, position__gte=start)
        .order_by("position")
        .values_list("pk", "name", "position")[:limit]
    }


def _reorder(node: PubsubNode, item_ids: list[str], *, start: int) -> CheckResult:
    """Sort the items from position `start` on like `item_ids`, if these are exactly their ids."""
    rows = _rows_from(node, start)
    if rows.keys() != set(item_ids):
        return CheckResult.DIFFERENT
    ordered = sorted(position for position, _, _ in rows.values())
    # An item of a listing and one of a notification may have the same position.
    for index in range(1, len(ordered)):
        ordered[index] = max(ordered[index], ordered[index - 1] + 1)
    for model in {model for _, model, _ in rows.values()}:
        moved = [
            model(pk=rows[item_id][2], position=position)
            for item_id, position in zip(item_ids, ordered, strict=True)
            if rows[item_id][1] is model and rows[item_id][0] != position
        ]
        model._default_manager.bulk_update(moved, ["position"], batch_size=500)
    _learn_moves(node, [rows[item_id][0] for item_id in item_ids])
    node.confirmed_position = max(ordered, default=0)
    node.next_position = max([node.next_position, *ordered[-1:]])
    node.save(update_fields=["extra", "moves", "probe", "confirmed_position", "next_position"])
    return CheckResult.EQUAL


def _learn_moves(node: PubsubNode, listed: list[int]) -> None:
    """Learn from the probe of an edit whether the service moves edited items to the end. The caller saves the node.

    Args:
        node: The node. `changes` sets its probe.
        listed: Positions of the items in the cache, in the order of the service. If they contradict what was learned
            before, that is forgotten.
    """
    confirmed = [position for position in listed if position <= node.confirmed_position]
    if node.probe is None and listed[: len(confirmed)] != sorted(confirmed):
        node.moves = None
    probe, node.probe = node.probe or [], None
    positions: dict[str, int] = {}
    for rows in (node.items, node.evicted) if probe and node.is_followed() else ():
        positions |= dict(rows.filter(name__in=probe).values_list("name", "position"))
    if len(positions) == 2:
        edited, follower = probe
        node.moves = positions[edited] > positions[follower]
