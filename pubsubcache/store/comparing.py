"""Comparisons of a node with what its service lists: which items, and in what order."""

from datetime import datetime
from enum import Enum
from typing import Any

from django.db import transaction
from django.db.models import Max

from pubsubcache.models import PubsubEvicted, PubsubItem, PubsubNode
from pubsubcache.store.leases import fenced
from pubsubcache.store.syncing import note_count

SyncState = PubsubNode.SyncState


class Verdict(Enum):
    """What a comparison of a node with the service's list of ids found."""

    EQUAL = "equal"
    CHANGED = "changed"  # a notification came in between
    DIFFERENT = "different"
    REFUSED = "refused"  # the service did not say: the node is to be compared whole
    UNREACHED = "unreached"


@fenced
def compare(pk: int, revision: int, ids: list[str] | int, *, newest: list[str] | None = None) -> Verdict:
    """Compare a node, as it was at `revision`, with the service's ids in order, or only their number.

    With the number, `newest` may be the ids in order of as many newest items as `unconfirmed` named. When just the
    order differs it is put right.
    """
    node = PubsubNode.objects.select_for_update().filter(pk=pk).first()
    if node is None or node.sync_state != SyncState.COMPLETED:
        return Verdict.EQUAL
    if node.revision != revision or node.sync_owner:
        return Verdict.CHANGED
    count = ids if isinstance(ids, int) else len(ids)
    if node.item_count + node.evicted_count != count:
        return Verdict.DIFFERENT
    if node.extra.get("listed") != count:
        note_count(node, count)
    if isinstance(ids, list):
        return _put_in_order(node, ids, start=0)
    if newest is not None:
        return _put_in_order(node, newest, start=_anchor(node))
    node.save(update_fields=["extra"])
    return Verdict.EQUAL


@transaction.atomic
def differing(pk: int, revision: int, ids: list[str]) -> tuple[list[str], int] | None:
    """Return which items of a node, as it was at `revision`, are not among `ids`, and how many of `ids` it lacks.

    None when it changed meanwhile.
    """
    node = PubsubNode.objects.filter(pk=pk, revision=revision, sync_owner="").first()
    if node is None:
        return None
    models: tuple[type[Any], ...] = (PubsubItem, PubsubEvicted)
    known = {
        name
        for model in models
        for name in model._default_manager.filter(node=node).values_list("name", flat=True).iterator()
    }
    return sorted(known.difference(ids)), len(set(ids) - known)


@fenced
def confirm(pk: int, as_of: datetime) -> None:
    """Keep that a node was found equal to the service at `as_of`, unless it was put in doubt meanwhile."""
    equal = PubsubNode.objects.filter(pk=pk, sync_state=SyncState.COMPLETED, sync_owner="", sync_requested=None)
    equal.filter(checked_at__isnull=False).update(checked_at=as_of)


def unconfirmed(pk: int, limit: int) -> list[str]:
    """Return the ids of the newest items, at most `limit`, whose order is only that of their notifications.

    Before them the item that precedes them, if there is one: where it still does, no older one has moved.
    """
    node = PubsubNode.objects.get(pk=pk)
    places = sorted((position, name) for name, (position, _, _) in _places(node, _anchor(node), limit).items())
    return [name for _, name in places][:limit]


def _anchor(node: PubsubNode) -> int:
    """Return the position of the newest item whose place the service itself gave; if none, the first one after."""
    confirmed: int = node.extra.get("confirmed", 0)
    models: tuple[type[Any], ...] = (PubsubItem, PubsubEvicted)
    places = [
        model._default_manager.filter(node=node, position__lte=confirmed).aggregate(place=Max("position"))["place"]
        for model in models
    ]
    return max((place for place in places if place is not None), default=confirmed + 1)


def _places(node: PubsubNode, start: int, limit: int | None = None) -> dict[str, tuple[int, type[Any], int]]:
    """Return {id: (position, model, primary key)} of the items that are known of, from position `start` on."""
    models: tuple[type[Any], ...] = (PubsubItem, PubsubEvicted)
    return {
        name: (position, model, pk)
        for model in models
        for pk, name, position in model._default_manager.filter(node=node, position__gte=start)
        .order_by("position")
        .values_list("pk", "name", "position")[:limit]
    }


def _put_in_order(node: PubsubNode, ids: list[str], *, start: int) -> Verdict:
    """Give the items from position `start` on the order of `ids`, if they are those."""
    places = _places(node, start)
    if places.keys() != set(ids):
        return Verdict.DIFFERENT
    ordered = sorted(place for place, _, _ in places.values())
    for number in range(1, len(ordered)):  # where what was listed stands among what was notified, two may share a place
        ordered[number] = max(ordered[number], ordered[number - 1] + 1)
    for model in {model for _, model, _ in places.values()}:
        moved = [
            model(pk=places[name][2], position=place)
            for name, place in zip(ids, ordered, strict=True)
            if places[name][1] is model and places[name][0] != place
        ]
        model._default_manager.bulk_update(moved, ["position"], batch_size=500)
    _learn_moves(node, [places[name][0] for name in ids])
    node.extra["confirmed"] = max(ordered, default=0)
    node.next_position = max([node.next_position, *ordered[-1:]])
    node.save(update_fields=["extra", "next_position"])
    return Verdict.EQUAL


def _learn_moves(node: PubsubNode, listed: list[int]) -> None:
    """Learn whether the service moves edited items to the end, from the edit that `changes` noted in `probe`.

    `listed` has the positions that the items had in the cache, in the service's order. Where they contradict what was
    learned before, that is deleted.
    """
    confirmed = [place for place in listed if place <= node.extra.get("confirmed", 0)]
    if "probe" not in node.extra and listed[: len(confirmed)] != sorted(confirmed):
        node.extra.pop("moves", None)
    probe = node.extra.pop("probe", None) or []
    places: dict[str, int] = {}
    for rows in (node.items, node.evicted) if probe and node.is_followed() else ():
        places |= dict(rows.filter(name__in=probe).values_list("name", "position"))
    if len(places) == 2:
        edited, follower = probe
        node.extra["moves"] = places[edited] > places[follower]
