"""Writes of notifications: a batch of changes of one node, in one transaction."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pubsubcache import clock
from pubsubcache.models import PubsubEvicted, PubsubItem, PubsubNode, PubsubTombstone
from pubsubcache.store.leases import fenced
from pubsubcache.store.purging import drop_items
from pubsubcache.store.syncing import PreparedItem, trim, upsert_left_out
from pubsubcache.types import Item

SyncState = PubsubNode.SyncState


@dataclass(slots=True)
class PurgeAll:
    """All items of the node were removed at the service."""


@dataclass(slots=True)
class Removal:
    """The item of this id was retracted."""

    name: str


Change = PreparedItem | Removal | PurgeAll


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a batch did: ids by what happened to them; `grown` says that the node has new items."""

    node_pk: int
    published: list[str] = field(default_factory=list)
    retracted: list[str] = field(default_factory=list)
    purged: bool = False
    grown: bool = False
    order_unknown: bool = False


@dataclass(slots=True)
class _Final:
    """What is to become of one item after the whole batch."""

    prepared: PreparedItem | None  # None: retracted
    place: int  # among the batch's changes
    anew: bool  # retracted before within the batch, so that it takes a new place


def _fold(changes: Sequence[Change]) -> tuple[bool, dict[str, _Final]]:
    """Return whether everything was purged first, and the last change of each item."""
    purged = False
    final: dict[str, _Final] = {}
    for place, change in enumerate(changes):
        match change:
            case PurgeAll():
                purged = True
                final.clear()
            case Removal(name):
                final[name] = _Final(None, place, True)
            case PreparedItem():
                before = final.get(change.item.id)
                final[change.item.id] = _Final(change, place, before is not None and before.anew)
    return purged, final


@fenced
def apply_changes(node_pk: int, changes: Sequence[Change]) -> Outcome | None:
    """Apply changes that notifications brought, in their order; None when the node is not in the cache.

    Raises `NodeTooLarge` when they make the node larger than one may be.
    """
    node = PubsubNode.objects.select_for_update().filter(pk=node_pk).first()
    if node is None or node.sync_state not in (SyncState.COMPLETED, SyncState.IN_PROGRESS):
        return None
    node.revision += 1
    outcome = Outcome(node_pk=node_pk)
    purged, final = _fold(changes)
    if purged:
        outcome.purged = True
        drop_items(node)
        node.purged_revision = node.revision
    if (probe := node.extra.get("probe")) and (list(final) != probe[:1] or final[probe[0]].anew):
        node.extra["probe"] = probe[:1] * 2  # another change: the edit proves nothing any more
    ordered = sorted(final.items(), key=lambda pair: pair[1].place)
    writer = _Writer(node, outcome, [name for name, _ in ordered])
    for name, last in ordered:
        if last.prepared is None:
            writer.retract(name)
        else:
            writer.publish(last.prepared, anew=last.anew)
    writer.write()
    limit = node.extra.get("limit")
    if limit and node.item_count + node.evicted_count > limit:
        _forget_oldest(node, node.item_count + node.evicted_count - limit)
    trim(node)
    node.save()
    return outcome


class _Writer:
    """Collects the rows of a batch and writes them together."""

    def __init__(self, node: PubsubNode, outcome: Outcome, names: list[str]) -> None:
        self.node = node
        self.outcome = outcome
        self.names = names
        self.next_position = node.next_position
        self.now: datetime = clock.now()
        self.existing = {item.name: item for item in node.items.filter(name__in=names)}
        self.evicted = {row.name: row for row in node.evicted.filter(name__in=names)} if node.evicted_count else {}
        self.rows: list[PubsubItem] = []
        self.left_out: list[PubsubEvicted] = []
        self.gone: list[int] = []
        self.gone_evicted: list[int] = []

    def retract(self, name: str) -> None:
        """Remove an item; while the node is synchronised, remember that it is gone."""
        if (row := self.existing.pop(name, None)) is not None and row.pk is not None:
            self.gone.append(row.pk)
            self.node.item_count -= 1
        if (evicted := self.evicted.pop(name, None)) is not None:
            self.gone_evicted.append(evicted.pk)
            self.node.evicted_count -= 1
        if self.node.sync_owner:
            PubsubTombstone.objects.update_or_create(
                node=self.node, name=name, defaults={"revision": self.node.revision}
            )
        self.outcome.retracted.append(name)

    def publish(self, prepared: PreparedItem, *, anew: bool) -> None:
        """Store a new or edited item; `anew`: it was retracted before, so an existing row keeps only its key."""
        item = prepared.item
        if item.left_out:
            self._leave_out(item, anew=anew)
            return
        row = self.existing.get(item.id)
        evicted = self.evicted.get(item.id)
        if row is None:
            row = PubsubItem(node=self.node, name=item.id, created=evicted.created if evicted else self.now)
            known = evicted is not None
            if evicted is not None:
                row.position = evicted.position
                self.gone_evicted.append(evicted.pk)
                self.node.evicted_count -= 1
            self.node.item_count += 1
        else:
            known = True
        if known and not anew and row.data == item.xml:
            # Late, its item having been listed meanwhile; or told again; or published again without a change.
            self._place_again(row, is_edit=False)
            row.revision = self.node.revision
            self.rows.append(row)
            return
        if not known or anew:
            row.position = self._next_position()
            row.created = self.now
            self.outcome.grown = True
            self.outcome.order_unknown = self.outcome.order_unknown or bool(self.node.sync_owner)
        else:
            self._place_again(row, is_edit=True)
        row.updated = self.now if known else row.created
        row.data, row.publisher, row.text = item.xml, prepared.publisher, prepared.text
        row.parsed, row.parse_error = prepared.parsed, prepared.parse_error
        row.revision = self.node.revision
        self.rows.append(row)
        self.outcome.published.append(item.id)

    def _leave_out(self, item: Item, *, anew: bool) -> None:
        """Keep the id and place of a new or edited item that cannot be stored."""
        before = self.existing.get(item.id) or self.evicted.get(item.id)
        row = PubsubEvicted(
            node=self.node, name=item.id, created=self.now, updated=self.now, position=0,
            reason=item.left_out, revision=self.node.revision,
        )  # fmt: skip
        if before is None or anew:
            row.position = self._next_position()
            self.outcome.grown = True
            self.outcome.order_unknown = self.outcome.order_unknown or bool(self.node.sync_owner)
        else:
            row.created, row.position = before.created, before.position
            self._place_again(row, is_edit=not getattr(before, "reason", ""))  # if it was left out, nobody knows
        self.left_out.append(row)

    def _next_position(self) -> int:
        self.node.next_position += 1
        return self.node.next_position

    def _place_again(self, row: PubsubItem | PubsubEvicted, *, is_edit: bool) -> None:
        """Place a known item that was published again: at the end, if the service is thought to move edited items.

        Unless the service is known to keep them in place, the order has to be checked. Without an edit the notification
        may be late: the item was listed before.
        """
        if (moves := self.node.extra.get("moves")) is False:
            return
        follower = self._follower(row.position)
        if follower is None and self.node.next_position == self.next_position:
            return  # nothing follows it, in the node or in this batch
        self.outcome.order_unknown = True
        if moves:
            row.position = self._next_position()
        extra = self.node.extra
        if not is_edit and not self.node.sync_owner:
            extra.setdefault("probe", [])
        elif not is_edit or not moves:
            confirmed, is_last = extra.get("confirmed", 0), row.name == self.names[-1]
            is_proof = follower is not None and follower[0] <= confirmed and is_last
            extra["probe"] = [row.name, follower[1] if follower and is_proof else row.name]

    def _follower(self, position: int) -> tuple[int, str] | None:
        """Return position and id of the item after a position, None at the end."""
        managers: list[Any] = [self.node.items, self.node.evicted] if self.node.evicted_count else [self.node.items]
        found = [
            place
            for rows in managers
            for place in rows.filter(position__gt=position).order_by("position").values_list("position", "name")[:1]
        ]
        return min(found, default=None)

    def write(self) -> None:
        """Write what was collected."""
        for model, pks in ((PubsubItem, self.gone), (PubsubEvicted, self.gone_evicted)):
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


def _forget_oldest(node: PubsubNode, surplus: int) -> None:
    """Remove the oldest items of a node whose service keeps a limited number."""
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


__all__ = ["Change", "Outcome", "PurgeAll", "Removal", "apply_changes"]
