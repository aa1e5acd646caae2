"""Writes of a synchronisation: its claim, its pages, its end.

Exactly one process synchronises a node: it holds a claim, renewed with each page, that expires when its
owner dies. Pages carry the node's revision as it was when they were asked for; what a notification changed since
then is newer than the page.
"""

import random
import uuid
from collections.abc import Container
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max, Model, Q

from pubsubcache import clock
from pubsubcache.bounds import max_listed
from pubsubcache.cleaning import one_line
from pubsubcache.conf import settings
from pubsubcache.exceptions import NodeTooLarge, SyncFailed
from pubsubcache.models import PendingUnsubscription, PubsubEvicted, PubsubItem, PubsubNode, PubsubTombstone
from pubsubcache.store.leases import current_lease, fenced
from pubsubcache.store.nodes import hide, is_unavailable, set_state
from pubsubcache.store.purging import BATCH, empty, evict
from pubsubcache.types import MAX_NUMBER, Item

SyncState = PubsubNode.SyncState

# Positions of one synchronisation lie in a range of their own, those of notifications meanwhile behind them.
EPOCH = 1 << 32
HALF_EPOCH = 1 << 31
MAX_PUBLISHER = 3071
LEFT_OUT_COLUMNS = ("reason", "position", "created", "updated", "revision")
UPSERT_COLUMNS = ("data", "parsed", "parse_error", "publisher", "text", "position", "updated", "revision")


class ClaimLost(SyncFailed):
    """The node was removed, or another process took the synchronisation over."""


@dataclass(slots=True, kw_only=True)
class PreparedItem:
    """An item ready to be stored; `parsed` and `parse_error` are what the analyser's parser made of it."""

    item: Item
    parsed: Any = None
    parse_error: str = ""
    text: str = ""

    @property
    def publisher(self) -> str:
        """Who published the item, as far as it can be a JID."""
        publisher = self.item.publisher or ""
        return publisher if len(publisher) <= MAX_PUBLISHER else ""


@dataclass(slots=True, kw_only=True)
class Claim:
    """A claimed synchronisation, with what it did so far."""

    node_pk: int
    owner: str
    token: int  # of the account when the claim was made
    base: int  # positions that this listing gives start here
    revision: int  # of the node when the claim was made
    started: datetime
    newest_first: bool = False  # how the service lists the node
    last_position: int = 0
    added: int = 0
    updated: int = 0
    fetch_evicted: bool = False  # bring back what was purged from the cache
    seen: dict[str, None] = field(default_factory=dict)

    def begin_walk(self, *, newest_first: bool) -> None:
        """Begin to place what is listed, from the end that is listed first."""
        self.newest_first = newest_first
        self.last_position = self.base + HALF_EPOCH if newest_first else 0

    def place(self, position: int | None) -> int:
        """Return the place of the next item listed: `position`, where it stands, if that is right."""
        if position is not None and (position - self.last_position) * (-1 if self.newest_first else 1) > 0:
            self.last_position = position
        elif self.newest_first:
            self.last_position -= 1
        else:
            self.last_position = max(self.base, self.last_position + 1)
        return self.last_position


def new_owner() -> str:
    """Return a name for the owner of a claim; a worker's begins with its own name, so that its claims end with it."""
    lease = current_lease()
    return (f"{lease.worker}/" if lease else "") + uuid.uuid4().hex


@fenced
def claim(pk: int, owner: str, *, fetch_evicted: bool = False) -> Claim | None:
    """Claim the synchronisation of a node; None when another process that is alive has it, or the node is gone.

    `fetch_evicted`: bring back what was purged from the cache.
    """
    now = clock.now()
    won = (
        PubsubNode.objects.unclaimed(now)
        .filter(pk=pk)
        .update(sync_owner=owner, sync_heartbeat=now, sync_done=0, sync_total=None, sync_requested=None)
    )
    if not won:
        return None
    node = PubsubNode.objects.select_related("account").select_for_update(of=("self",)).get(pk=pk)
    base = (max(_highest(node), node.next_position) // EPOCH + 1) * EPOCH
    node.next_position = base + HALF_EPOCH
    node.extra["confirmed"] = 0  # until the walk has ended
    if "probe" in node.extra:
        node.extra["probe"] = []  # edits before it will be listed in their place, those noted meanwhile may not
    fetch_evicted, node.bring_back = fetch_evicted or node.bring_back, False
    if node.sync_state != SyncState.COMPLETED:
        set_state(node, SyncState.IN_PROGRESS)
    PubsubTombstone.objects.filter(node=node).delete()
    node.save()
    return Claim(
        node_pk=pk,
        owner=owner,
        token=node.account.fencing_token,
        base=base,
        revision=node.revision,
        started=now,
        fetch_evicted=fetch_evicted,
    )


def _highest(node: PubsubNode) -> int:
    """Return the position of the newest item that is known of."""
    items, evicted = (rows.aggregate(highest=Max("position"))["highest"] for rows in (node.items, node.evicted))
    return max(items or 0, evicted or 0)


def _owned(claim: Claim) -> PubsubNode:
    node = PubsubNode.objects.select_for_update().filter(pk=claim.node_pk, sync_owner=claim.owner).first()
    if node is None:
        raise ClaimLost("The node was removed, or another process took its synchronisation over.")
    return node


def stored_data(node_pk: int, names: list[str]) -> dict[str, str]:
    """Return {item id: data} of those of `names` that a node has stored."""
    return dict(PubsubItem.objects.filter(node_id=node_pk, name__in=names).values_list("name", "data"))


@fenced
def store_page(
    claim: Claim, page: list[Item], prepared: dict[str, PreparedItem], revision: int, total: int | None
) -> int:
    """Store a page of the listing, asked for at the node's `revision`; `prepared` has its new and changed items.

    What notifications changed since the page was asked for is left as it is. Raises `ClaimLost`.
    """
    node = _owned(claim)
    if node.purged_revision > revision:
        page = []
    names = [item.id for item in page]
    existing = {item.name: item for item in node.items.filter(name__in=names)}
    evicted = {item.name: item for item in node.evicted.filter(name__in=names)} if node.evicted_count else {}
    buried = set(node.tombstones.filter(name__in=names, revision__gt=revision).values_list("name", flat=True))
    written: list[PubsubItem] = []
    left_out: list[PubsubEvicted] = []
    now = clock.now()
    for item in page:
        if item.id in buried:
            continue
        claim.seen[item.id] = None
        known = evicted.get(item.id)
        if item.left_out:
            if (odd := _place_left_out(claim, node, existing.get(item.id) or known, item, revision, now)) is not None:
                left_out.append(odd)
            continue
        if known is not None and (known.revision > revision or not (known.reason or claim.fetch_evicted)):
            _pass_evicted(claim, known, revision)
            continue
        row = _place(claim, node, existing.get(item.id) or known, item, prepared.get(item.id), revision, now)
        if row is not None:
            written.append(row)
    _upsert(written)
    added = sum(1 for row in written if row.name not in existing)
    node.item_count += added
    upsert_left_out(node, left_out, known=evicted)
    if evicted:
        back = [row.name for row in written if row.name in evicted]
        node.evicted.filter(name__in=back).delete()
        node.evicted_count -= len(back)
    claim.added += added
    node.sync_done += len(page)
    node.sync_total = total if total is None or total <= MAX_NUMBER else None
    node.sync_heartbeat = now
    trim(node)
    node.save()
    return node.revision


def _pass_evicted(claim: Claim, row: PubsubItem | PubsubEvicted, revision: int) -> None:
    """Go past an item that was purged, or that is newer than the page of `revision`, keeping its place right."""
    if row.revision > revision and row.position >= claim.base + HALF_EPOCH:
        return  # a notification published or moved it after this page was asked for
    if (place := claim.place(row.position)) != row.position:
        row.position = place
        row.save(update_fields=["position"])


def _place_left_out(
    claim: Claim, node: PubsubNode, row: PubsubItem | PubsubEvicted | None, item: Item, revision: int, now: datetime
) -> PubsubEvicted | None:
    """Return the row to be written for a listed item that is left out, or None when what is stored is right."""
    if row is not None and row.revision > revision:
        _pass_evicted(claim, row, revision)
        return None
    place = claim.place(None if row is None else row.position)
    reason = row.reason if isinstance(row, PubsubEvicted) else None
    if row is not None and (reason, row.position) == (item.left_out, place):
        return None
    if row is not None and reason != item.left_out:
        claim.updated += 1
    return PubsubEvicted(
        node=node,
        name=item.id,
        position=place,
        created=now if row is None else row.created,
        updated=row.updated if row is not None and reason == item.left_out else now,
        reason=item.left_out,
        revision=node.revision,
    )


def upsert_left_out(node: PubsubNode, rows: list[PubsubEvicted], *, known: Container[str]) -> None:
    """Write `rows` of items left out of `node`, in the place of their `PubsubItem` if there is one.

    `known` holds the ids that have such a row already. The caller saves.
    """
    if not rows:
        return
    removed, _ = node.items.filter(name__in=[row.name for row in rows]).delete()
    node.item_count -= removed
    node.evicted_count += sum(1 for row in rows if row.name not in known)
    PubsubEvicted.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["node", "name"], update_fields=LEFT_OUT_COLUMNS
    )


def _place(
    claim: Claim,
    node: PubsubNode,
    known: PubsubItem | PubsubEvicted | None,
    item: Item,
    prepared: PreparedItem | None,
    revision: int,
    now: datetime,
) -> PubsubItem | None:
    """Return the row to be written for a listed item, or None when what is stored is right."""
    row = known if isinstance(known, PubsubItem) else None
    newer = row is not None and row.revision > revision
    if newer and row is not None and row.position >= claim.base + HALF_EPOCH:
        return None  # a notification published or moved it after this page was asked for
    changed = prepared is not None and not newer and (row is None or row.data != item.xml)
    place = claim.place(None if known is None else known.position)
    if row is None:
        if prepared is None:
            return None
        row = PubsubItem(node=node, name=item.id, created=now, updated=now)
        if isinstance(known, PubsubEvicted):
            row.created, row.updated = known.created, now if known.reason else known.updated
    elif changed:
        claim.updated += 1
        row.updated = now
    elif row.position == place and (prepared is None or newer):
        return None
    row.position = place
    if prepared is not None and not newer:
        row.data, row.publisher, row.text = item.xml, prepared.publisher, prepared.text
        row.parsed, row.parse_error = prepared.parsed, prepared.parse_error
        row.revision = node.revision
    return row


def _upsert(rows: list[PubsubItem]) -> None:
    for row in rows:
        row.pk = None  # found by node and name: rows that are there keep their key
    PubsubItem.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["node", "name"], update_fields=UPSERT_COLUMNS
    )


def trim(node: PubsubNode) -> None:
    """Evict the oldest items over `MAX_NODE_ITEMS`. The caller saves.

    Raises `NodeTooLarge` when more were evicted than a node may list: those of a node that is never listed to its
    end would grow for ever.
    """
    while (surplus := node.item_count - settings.MAX_NODE_ITEMS) > 0:
        oldest = node.items.in_order().values_list("pk", flat=True)[: min(surplus, BATCH)]
        if not evict(node, PubsubItem.objects.filter(pk__in=list(oldest))):
            break
        node.partial = True
    if node.evicted_count > max_listed():
        raise NodeTooLarge(f"The node {node.name} has over {max_listed()} items.")


@fenced
def finish(
    claim: Claim,
    *,
    subscribed: bool,
    extra: dict[str, Any],
    changes: dict[str, Any],
    reverse: bool,
    unsure: bool = False,
) -> int:
    """End a complete listing: what it did not have is gone. Return how many items were removed.

    Items that notifications brought meanwhile stay. `reverse`: the service lists newest first, as turned out
    only now; `unsure`: the order is to be seen yet. Raises `ClaimLost`.
    """
    node = _owned(claim)
    removed = _remove_unlisted(node, claim)
    if reverse:
        _reverse(node)
    node.item_count = node.items.count()
    node.evicted_count = node.evicted.count()
    node.next_position = max(node.next_position, _highest(node))  # what was listed may stand among what was notified
    node.partial = node.partial and node.evicted.filter(reason="").exists()
    node.tombstones.all().delete()
    node.extra |= extra
    node.extra["confirmed"] = claim.base + HALF_EPOCH - 1
    notified = Q(position__gte=claim.base + HALF_EPOCH)
    if unsure or node.items.filter(notified).exists() or node.evicted.filter(notified).exists():
        node.extra.setdefault("probe", [])  # notifications came in between: where their items belong is to be seen
    elif not node.extra.get("probe"):
        node.extra.pop("probe", None)
    for name, value in changes.items():
        setattr(node, name, value)
    set_state(node, SyncState.COMPLETED)
    node.subscribed = subscribed
    if subscribed:  # taken up again before an earlier subscription was given up
        PendingUnsubscription.objects.filter(account_id=node.account_id, service=node.service, name=node.name).delete()
    node.compared_at = claim.started
    # As of the start: what came since is only known through notifications. Asked for again meanwhile, as when one of
    # those could not be taken in, this was not enough.
    node.checked_at = claim.started if node.sync_requested is None else None
    node.checked_token = claim.token
    node.failures, node.next_attempt = 0, None
    node.unavailable_count, node.unavailable_since = 0, None
    node.sync_owner, node.sync_done, node.sync_total = "", 0, None
    node.save()
    return removed


def _remove_unlisted(node: PubsubNode, claim: Claim) -> int:
    removed = 0
    unseen = node.items.filter(revision__lte=claim.revision).values_list("pk", "name")
    gone = [pk for pk, name in unseen if name not in claim.seen]
    absent = node.evicted.filter(revision__lte=claim.revision).values_list("pk", "name")
    lost = [pk for pk, name in absent if name not in claim.seen]
    _learn_limit(node, [*((PubsubItem, pk) for pk in gone), *((PubsubEvicted, pk) for pk in lost)])
    for start in range(0, len(gone), 1000):
        removed += PubsubItem.objects.filter(pk__in=gone[start : start + 1000]).delete()[0]
    for start in range(0, len(lost), 1000):
        PubsubEvicted.objects.filter(pk__in=lost[start : start + 1000]).delete()
    return removed


def _learn_limit(node: PubsubNode, gone: list[tuple[type[Model], int]]) -> None:
    """Take it that the service keeps a limited number of items when for each new one, just an oldest one is gone."""
    kept = [(model, pk) for _, model, pk in _by_age(node)]
    remaining = len(kept) - len(gone)
    if gone and remaining and remaining == node.extra.get("listed") and set(kept[: len(gone)]) == set(gone):
        node.extra["limit"] = remaining
    note_count(node, remaining)


def note_count(node: PubsubNode, count: int) -> None:
    """Keep how many items the service has; more than its limit, and it has none. The caller saves."""
    node.extra["listed"] = count
    if count > node.extra.get("limit", count):
        del node.extra["limit"]


def _by_age(node: PubsubNode) -> list[tuple[int, type[Model], int]]:
    """Return (position, model, primary key) of all items that are known of, oldest first."""
    models: tuple[type[Model], ...] = (PubsubItem, PubsubEvicted)
    places = [
        (position, pk, model)
        for model in models
        for position, pk in model._default_manager.filter(node=node).values_list("position", "pk")
    ]
    return [(position, model, pk) for position, pk, model in sorted(places, key=lambda place: place[:2])]


def _reverse(node: PubsubNode) -> None:
    places = _by_age(node)
    for model in {model for _, model, _ in places}:
        mirrored = [
            model(pk=pk, position=position)
            for (_, kept_in, pk), (position, _, _) in zip(places, reversed(places), strict=True)
            if kept_in is model
        ]
        model._default_manager.bulk_update(mirrored, ["position"], batch_size=500)


@fenced
def fail(claim: Claim, error: str, *, retry: bool = True, condition: str = "") -> None:
    """End a listing that did not come to its end: what is stored stays; `error` says why, with a retry later.

    `condition` is the error condition that the service answered with, "" if it did not answer. A node whose account is
    blocked or deleted, as far as such answers tell, is hidden.
    """
    node = PubsubNode.objects.select_for_update().filter(pk=claim.node_pk, sync_owner=claim.owner).first()
    if node is None:
        return
    if is_unavailable(node, condition):
        error = f"The service has answered {condition} {node.unavailable_count} times in a row."
        hide(node, error)
    if node.sync_state == SyncState.COMPLETED:
        node.sync_error = one_line(error)
        node.checked_at = None
    else:
        set_state(node, SyncState.ERROR, error)
    node.failures += 1
    delay = min(settings.RETRY_DELAY * 2 ** min(node.failures - 1, 20), settings.RETRY_MAX_DELAY)
    node.next_attempt = clock.now() + timedelta(seconds=delay * random.uniform(0.8, 1.2)) if retry else None  # noqa: S311
    node.sync_owner, node.sync_done, node.sync_total = "", 0, None
    node.tombstones.all().delete()
    node.save()


def refuse(claim: Claim, error: str) -> None:
    """End a listing of a node that is too large for the cache: nothing of it stays; `error` says why.

    It is tried again after `RETRY_MAX_DELAY`, however often it failed before.
    """
    if _refuse(claim, error):
        empty(claim.node_pk)


@fenced
def _refuse(claim: Claim, error: str) -> bool:
    node = PubsubNode.objects.select_for_update().filter(pk=claim.node_pk, sync_owner=claim.owner).first()
    if node is None:
        return False
    set_state(node, SyncState.ERROR, error)
    node.failures += 1
    node.next_attempt = clock.now() + timedelta(seconds=settings.RETRY_MAX_DELAY)
    node.checked_at = None
    node.item_count = node.evicted_count = 0
    node.partial = False
    node.sync_owner, node.sync_done, node.sync_total = "", 0, None
    node.save()
    return True


@transaction.atomic
def release(pk: int, owner: str) -> None:
    """Give a claim back: another process may take the node up at once. Does nothing if `owner` has no claim."""
    PubsubNode.objects.filter(pk=pk, sync_owner=owner).update(sync_owner="", sync_heartbeat=None)
