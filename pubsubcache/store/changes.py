"""Writes the changes that notifications report: a batch for one node, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pubsubcache.models import PubsubEvicted, PubsubItem, PubsubNode, PubsubTombstone
from pubsubcache.store.evicting import drop_items
from pubsubcache.store.leases import fenced
from pubsubcache.store.syncing import PreparedItem, trim, upsert_left_out
from pubsubcache.types import Item
from pubsubcache.utils import clock

SyncState = PubsubNode.SyncState


@dataclass(slots=True)
class PurgeAll:
    """The service purged the node (XEP-0060, 8.5)."""


@dataclass(slots=True)
class Retraction:
    """The service retracted the item with this id."""

    item_id: str


Change = PreparedItem | Retraction | PurgeAll


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The result of a batch of changes.

    Attributes:
        node_pk: The primary key of the node.
        published: The ids of new and changed items.
        retracted: The ids of retracted items.
        purged: Whether the node was purged.
        grown: Whether the node has new items.
        order_unknown: Whether the order of the items at the service may differ from that in the cache.
    """

    node_pk: int
    published: list[str] = field(default_factory=list)
    retracted: list[str] = field(default_factory=list)
    purged: bool = False
    grown: bool = False
    order_unknown: bool = False


@dataclass(slots=True)
class _LastChange:
    """The last change of an item in a batch."""

    prepared: PreparedItem | None  # None if the item was retracted
    index: int  # of the change in the batch
    was_retracted: bool  # earlier in the batch, so that the item takes a new position


def _merge(changes: Sequence[Change]) -> tuple[bool, dict[str, _LastChange]]:
    """Return whether the changes include a purge, and the last change of each item after it."""
    purged = False
    last_changes: dict[str, _LastChange] = {}
    for index, change in enumerate(changes):
        match change:
            case PurgeAll():
                purged = True
                last_changes.clear()
            case Retraction(item_id):
                last_changes[item_id] = _LastChange(None, index, True)
            case PreparedItem():
                before = last_changes.get(change.item.id)
                was_retracted = before is not None and before.was_retracted
                last_changes[change.item.id] = _LastChange(change, index, was_retracted)
    return purged, last_changes


@fenced
def apply_changes(node_pk: int, changes: Sequence[Change]) -> Outcome | None:
    """Apply changes to a node.

    Args:
        node_pk: The primary key of the node.
        changes: The changes, in the order of the notifications.

    Returns:
        The outcome, or None if the node is not in the cache.

    Raises:
        NodeTooLarge: The changes make the node exceed the maximum size.
    """
    node = PubsubNode.objects.for_update().filter(pk=node_pk).first()
    if node is None or node.sync_state not in (SyncState.COMPLETED, SyncState.IN_PROGRESS):
        return None
    node.revision += 1
    outcome = Outcome(node_pk=node_pk)
    purged, last_changes = _merge(changes)
    if purged:
        outcome.purged = True
        drop_items(node)
        node.purged_revision = node.revision
    if (probe := node.probe) and (list(last_changes) != probe[:1] or last_changes[probe[0]].was_retracted):
        node.probe = probe[:1] * 2  # another change: the edit no longer proves anything
    ordered = sorted(last_changes.items(), key=lambda pair: pair[1].index)
    writer = _Writer(node, outcome, [item_id for item_id, _ in ordered])
    for item_id, last in ordered:
        if last.prepared is None:
            writer.retract(item_id)
        else:
            writer.publish(last.prepared, was_retracted=last.was_retracted)
    writer.write()
    limit = node.traits.limit
    if limit and node.item_count + node.evicted_count > limit:
        _remove_oldest(node, node.item_count + node.evicted_count - limit)
    trim(node)
    node.save()
    return outcome


class _Writer:
    """Collects the rows of a batch and writes them in bulk."""

    def __init__(self, node: PubsubNode, outcome: Outcome, item_ids: list[str]) -> None:
        self.node = node
        self.outcome = outcome
        self.item_ids = item_ids
        self.next_position = node.next_position
        self.now: datetime = clock.now()
        self.existing = {item.name: item for item in node.items.filter(name__in=item_ids)}
        self.evicted = {row.name: row for row in node.evicted.filter(name__in=item_ids)} if node.evicted_count else {}
        self.rows: list[PubsubItem] = []
        self.left_out: list[PubsubEvicted] = []
        self.removed: list[int] = []
        self.removed_evicted: list[int] = []

    def retract(self, item_id: str) -> None:
        """Remove an item, leaving a tombstone if the node is being synchronised."""
        if (row := self.existing.pop(item_id, None)) is not None and row.pk is not None:
            self.removed.append(row.pk)
            self.node.item_count -= 1
        if (evicted := self.evicted.pop(item_id, None)) is not None:
            self.removed_evicted.append(evicted.pk)
            self.node.evicted_count -= 1
        if self.node.sync_owner:
            PubsubTombstone.objects.update_or_create(
                node=self.node, name=item_id, defaults={"revision": self.node.revision}
            )
        self.outcome.retracted.append(item_id)

    def publish(self, prepared: PreparedItem, *, was_retracted: bool) -> None:
        """Store a new or edited item.

        Args:
            prepared: The item.
            was_retracted: Whether the batch retracted the item before. It then counts as new, and an existing row keeps
                only its primary key.
        """
        item = prepared.item
        if item.left_out:
            self._leave_out(item, was_retracted=was_retracted)
            return
        row = self.existing.get(item.id)
        evicted = self.evicted.get(item.id)
        if row is None:
            row = PubsubItem(node=self.node, name=item.id, created=evicted.created if evicted else self.now)
            known = evicted is not None
            if evicted is not None:
                row.position = evicted.position
                self.removed_evicted.append(evicted.pk)
                self.node.evicted_count -= 1
            self.node.item_count += 1
        else:
            known = True
        if known and not was_retracted and row.data == item.xml:
            # The notification is late and a full sync has already stored the item, or it is a duplicate, or the item
            # was republished unchanged.
            self._place_known(row, is_edit=False)
            row.revision = self.node.revision
            self.rows.append(row)
            return
        if not known or was_retracted:
            row.position = self._next_position()
            row.created = self.now
            self.outcome.grown = True
            self.outcome.order_unknown = self.outcome.order_unknown or bool(self.node.sync_owner)
        else:
            self._place_known(row, is_edit=True)
        row.updated = self.now if known else row.created
        row.data, row.publisher, row.text = item.xml, prepared.publisher, prepared.text
        row.parsed, row.parse_error = prepared.parsed, prepared.parse_error
        row.revision = self.node.revision
        self.rows.append(row)
        self.outcome.published.append(item.id)

    def _leave_out(self, item: Item, *, was_retracted: bool) -> None:
        """Record the id and position of a new or edited item that cannot be stored."""
        before = self.existing.get(item.id) or self.evicted.get(item.id)
        row = PubsubEvicted(
            node=self.node, name=item.id, created=self.now, updated=self.now, position=0,
            reason=item.left_out, revision=self.node.revision,
        )  # fmt: skip
        if before is None or was_retracted:
            row.position = self._next_position()
            self.outcome.grown = True
            self.outcome.order_unknown = self.outcome.order_unknown or bool(self.node.sync_owner)
        else:
            row.created, row.position = before.created, before.position
            self._place_known(row, is_edit=not getattr(before, "reason", ""))  # no copy to compare if left out
        self.left_out.append(row)

    def _next_position(self) -> int:
        self.node.next_position += 1
        return self.node.next_position

    def _place_known(self, row: PubsubItem | PubsubEvicted, *, is_edit: bool) -> None:
        """Place a known item that was published again: at the end if the service is assumed to move edited items.

        Unless the service is known to keep them in place, the order must be checked. A notification without a change
        (not `is_edit`) may be late: the item was listed before.
        """
        if (moves := self.node.moves) is False:
            return
        follower = self._first_after(row.position)
        if follower is None and self.node.next_position == self.next_position:
            return  # nothing follows it, neither in the node nor in this batch
        self.outcome.order_unknown = True
        if moves:
            row.position = self._next_position()
        if not is_edit and not self.node.sync_owner:
            self.node.probe = self.node.probe or []
        elif not is_edit or not moves:
            is_last = row.name == self.item_ids[-1]
            is_proof = follower is not None and follower[0] <= self.node.confirmed_position and is_last
            self.node.probe = [row.name, follower[1] if follower and is_proof else row.name]

    def _first_after(self, position: int) -> tuple[int, str] | None:
        """Return position and id of the first item after a position, or None if there is none."""
        managers: list[Any] = [self.node.items, self.node.evicted] if self.node.evicted_count else [self.node.items]
        found = [
            row
            for rows in managers
            for row in rows.filter(position__gt=position).order_by("position").values_list("position", "name")[:1]
        ]
        return min(found, default=None)

    def write(self) -> None:
        """Write the collected rows."""
        for model, pks in ((PubsubItem, self.removed), (PubsubEvicted, self.removed_evicted)):
            if pks:
                model._default_manager.filter(pk__in=pks).delete()
        upsert_left_out(self.node, self.left_out, known=self.evicted)
        for row in self.rows:
            row.pk = None
        PubsubItem.objects.bulk_create(
            self.rows,
            update_conflicts=True,
            unique_fields=["node", "name"],
            update_fields=[
                "data", "parsed", "parse_error", "publisher", "text", "position", "created", "updated", "revision",
            ],
        )  # fmt: skip


def _remove_oldest(node: PubsubNode, surplus: int) -> None:
    """Remove the oldest items of a node whose service keeps a limited number of items."""
    entries = sorted(
        [(row.position, row) for row in node.items.only("position").in_order()[:surplus]]
        + [(row.position, row) for row in node.evicted.order_by("position")[:surplus]],
        key=lambda pair: pair[0],
    )[:surplus]
    for _, row in entries:
        row.delete()
        if isinstance(row, PubsubItem):
            node.item_count -= 1
        else:
            node.evicted_count -= 1


__all__ = ["Change", "Outcome", "PurgeAll", "Retraction", "apply_changes"]
