"""Writes the claim, the pages and the result of a full sync.

Only one process synchronises a node at a time. It holds a claim, which each page renews and which expires if the owner
dies. Each page records the revision that the node had when the page was requested. Changes that notifications made
since then are newer than the page.
"""

import uuid
from collections.abc import Container
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Max, Model, Q

from pubsubcache.conf import settings
from pubsubcache.exceptions import NodeTooLarge, SyncFailed
from pubsubcache.models import (
    NodeTraits,
    PendingUnsubscription,
    PubsubEvicted,
    PubsubItem,
    PubsubNode,
    PubsubTombstone,
    SyncRun,
)
from pubsubcache.store import runs
from pubsubcache.store.evicting import BATCH, empty_node, evict_items
from pubsubcache.store.leases import current_lease, fenced
from pubsubcache.store.nodes import count_unavailable, hide, set_state
from pubsubcache.types import MAX_NUMBER, Item
from pubsubcache.utils import backoff, clock
from pubsubcache.utils.bounds import max_listed
from pubsubcache.utils.cleaning import one_line

SyncState = PubsubNode.SyncState

# Each full sync has a range of positions. Items of notifications that arrive meanwhile get the second half of it.
EPOCH = 1 << 32
HALF_EPOCH = 1 << 31
MAX_PUBLISHER = 3071
LEFT_OUT_COLUMNS = ("reason", "position", "created", "updated", "revision")
UPSERT_COLUMNS = ("data", "parsed", "parse_error", "publisher", "text", "position", "updated", "revision")


class ClaimLost(SyncFailed):
    """The node was removed, or another process has taken over the claim."""


@dataclass(slots=True, kw_only=True)
class PreparedItem:
    """An item ready to be stored, with the result of the analyser's parser and the text for full text search."""

    item: Item
    parsed: Any = None
    parse_error: str = ""
    text: str = ""

    @property
    def publisher(self) -> str:
        """The publisher of the item, or "" if it is missing or too long for a JID."""
        publisher = self.item.publisher or ""
        return publisher if len(publisher) <= MAX_PUBLISHER else ""


@dataclass(slots=True, kw_only=True)
class Claim:
    """The claim on a node, with the progress of the sync."""

    node_pk: int
    owner: str
    token: int  # of the account when the claim was made
    base: int  # the first position of this sync
    revision: int  # of the node when the claim was made
    started: datetime
    newest_first: bool = False  # whether the service lists the newest items first
    last_position: int = 0
    added: int = 0
    updated: int = 0
    requests: int = 0  # sent to the service
    fetch_evicted: bool = False  # whether to store evicted items again
    seen: dict[str, None] = field(default_factory=dict)

    @property
    def written(self) -> int:
        """The number of items added and changed so far."""
        return self.added + self.updated

    def start_listing(self, *, newest_first: bool) -> None:
        """Start to assign positions to listed items, beginning with the first page."""
        self.newest_first = newest_first
        self.last_position = self.base + HALF_EPOCH if newest_first else 0

    def next_position(self, position: int | None) -> int:
        """Return the position of the next listed item.

        Args:
            position: The present position of the item, None for a new one. It is kept if it fits the order.
        """
        if position is not None and (position - self.last_position) * (-1 if self.newest_first else 1) > 0:
            self.last_position = position
        elif self.newest_first:
            self.last_position -= 1
        else:
            self.last_position = max(self.base, self.last_position + 1)
        return self.last_position


def new_owner() -> str:
    """Return a unique name for the owner of a claim.

    In a worker it starts with the name of the worker, so that a takeover of the account can find the claim.
    """
    lease = current_lease()
    return (f"{lease.worker}/" if lease else "") + uuid.uuid4().hex


@fenced
def claim(pk: int, owner: str, *, fetch_evicted: bool = False, reason: SyncRun.Reason | None = None) -> Claim | None:
    """Claim a node for a full sync, and record the start of its run.

    Args:
        pk: The primary key of the node.
        owner: The name of the owner, from `new_owner`.
        fetch_evicted: Whether to store evicted items again.
        reason: Why the sync starts; None if the row of the node says it.

    Returns:
        The claim. None if another live process has claimed the node, or the node was removed.
    """
    now = clock.now()
    free = PubsubNode.objects.unclaimed(now).select_related("account").for_update()
    if (node := free.filter(pk=pk).first()) is None:
        return None
    if fetch_evicted and reason is None:
        reason = SyncRun.Reason.STAFF
    runs.begin(node, reason or runs.reason_of(node, now), now)
    node.sync_owner, node.sync_heartbeat = owner, now
    node.sync_done, node.sync_total, node.sync_requested = 0, None, None
    base = (max(_highest(node), node.next_position) // EPOCH + 1) * EPOCH
    node.next_position = base + HALF_EPOCH
    node.confirmed_position = 0  # until the walk has ended
    if node.is_order_unknown:
        node.probe = []  # edits before it will be listed in their place, those noted meanwhile may not
    if node.sync_state is None:  # rows of evicted items may be left, if a removal was interrupted
        node.item_count, node.evicted_count = node.items.count(), node.evicted.count()
        fetch_evicted = fetch_evicted or bool(node.evicted_count)
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
    """Return the highest position of the stored and evicted items."""
    items, evicted = (rows.aggregate(highest=Max("position"))["highest"] for rows in (node.items, node.evicted))
    return max(items or 0, evicted or 0)


def _claimed_node(claim: Claim) -> PubsubNode:
    node = PubsubNode.objects.for_update().filter(pk=claim.node_pk, sync_owner=claim.owner).first()
    if node is None:
        raise ClaimLost("The node was removed, or another process has taken over its synchronisation.")
    return node


def stored_data(node_pk: int, item_ids: list[str]) -> dict[str, str]:
    """Return {item id: XML} for those of `item_ids` that are stored."""
    return dict(PubsubItem.objects.filter(node_id=node_pk, name__in=item_ids).values_list("name", "data"))


@fenced
def store_page(
    claim: Claim, page: list[Item], prepared: dict[str, PreparedItem], revision: int, total: int | None
) -> int:
    """Store a page of a listing. Items that notifications have changed since the page was requested are not changed.

    Args:
        claim: The claim. Its progress is updated.
        page: The items of the page.
        prepared: The new and changed items of the page, by item id.
        revision: The revision of the node when the page was requested.
        total: The number of items of the node according to the service.

    Returns:
        The current revision of the node.

    Raises:
        ClaimLost: The claim is no longer valid.
        NodeTooLarge: The node exceeds the maximum size.
    """
    node = _claimed_node(claim)
    if node.purged_revision > revision:
        page = []
    item_ids = [item.id for item in page]
    existing = {item.name: item for item in node.items.filter(name__in=item_ids)}
    evicted = {item.name: item for item in node.evicted.filter(name__in=item_ids)} if node.evicted_count else {}
    retracted = set(node.tombstones.filter(name__in=item_ids, revision__gt=revision).values_list("name", flat=True))
    written: list[PubsubItem] = []
    left_out: list[PubsubEvicted] = []
    now = clock.now()
    for item in page:
        if item.id in retracted:
            continue
        claim.seen[item.id] = None
        known = evicted.get(item.id)
        if item.left_out:
            stored = existing.get(item.id) or known
            if (new := _left_out_row(claim, node, stored, item, revision, now)) is not None:
                left_out.append(new)
            continue
        if known is not None and (known.revision > revision or not (known.reason or claim.fetch_evicted)):
            _keep_row(claim, known, revision)
            continue
        row = _item_row(claim, node, existing.get(item.id) or known, item, prepared.get(item.id), revision, now)
        if row is not None:
            written.append(row)
    _upsert(written)
    added = sum(1 for row in written if row.name not in existing)
    node.item_count += added
    upsert_left_out(node, left_out, known=evicted)
    if evicted:
        restored = [row.name for row in written if row.name in evicted]
        node.evicted.filter(name__in=restored).delete()
        node.evicted_count -= len(restored)
    claim.added += added
    node.sync_done += len(page)
    node.sync_total = total if total is None or total <= MAX_NUMBER else None
    node.sync_heartbeat = now
    trim(node)
    node.save()
    return node.revision


def _keep_row(claim: Claim, row: PubsubItem | PubsubEvicted, revision: int) -> None:
    """Keep a row of a listed item, correcting its position if necessary.

    The row is that of an evicted item, or it is newer than the page requested at `revision`.
    """
    if row.revision > revision and row.position >= claim.base + HALF_EPOCH:
        return  # a notification published or moved the item after this page was requested
    if (position := claim.next_position(row.position)) != row.position:
        row.position = position
        row.save(update_fields=["position"])


def _left_out_row(
    claim: Claim, node: PubsubNode, row: PubsubItem | PubsubEvicted | None, item: Item, revision: int, now: datetime
) -> PubsubEvicted | None:
    """Return the row to write for a listed item that is left out, or None if the stored row is correct."""
    if row is not None and row.revision > revision:
        _keep_row(claim, row, revision)
        return None
    position = claim.next_position(None if row is None else row.position)
    reason = row.reason if isinstance(row, PubsubEvicted) else None
    if row is not None and (reason, row.position) == (item.left_out, position):
        return None
    if row is not None and reason != item.left_out:
        claim.updated += 1
    return PubsubEvicted(
        node=node,
        name=item.id,
        position=position,
        created=now if row is None else row.created,
        updated=row.updated if row is not None and reason == item.left_out else now,
        reason=item.left_out,
        revision=node.revision,
    )


def upsert_left_out(node: PubsubNode, rows: list[PubsubEvicted], *, known: Container[str]) -> None:
    """Write rows of items that are left out, and remove their `PubsubItem` rows. The caller saves the node.

    Args:
        node: The node.
        rows: The rows.
        known: The ids of items that already have a `PubsubEvicted` row.
    """
    if not rows:
        return
    removed, _ = node.items.filter(name__in=[row.name for row in rows]).delete()
    node.item_count -= removed
    node.evicted_count += sum(1 for row in rows if row.name not in known)
    PubsubEvicted.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["node", "name"], update_fields=LEFT_OUT_COLUMNS
    )


def _item_row(
    claim: Claim,
    node: PubsubNode,
    known: PubsubItem | PubsubEvicted | None,
    item: Item,
    prepared: PreparedItem | None,
    revision: int,
    now: datetime,
) -> PubsubItem | None:
    """Return the row to write for a listed item, or None if the stored row is correct."""
    row = known if isinstance(known, PubsubItem) else None
    newer = row is not None and row.revision > revision
    if newer and row is not None and row.position >= claim.base + HALF_EPOCH:
        return None  # a notification published or moved the item after this page was requested
    changed = prepared is not None and not newer and (row is None or row.data != item.xml)
    position = claim.next_position(None if known is None else known.position)
    if row is None:
        if prepared is None:
            return None
        row = PubsubItem(node=node, name=item.id, created=now, updated=now)
        if isinstance(known, PubsubEvicted):
            row.created, row.updated = known.created, now if known.reason else known.updated
    elif changed:
        claim.updated += 1
        row.updated = now
    elif row.position == position and (prepared is None or newer):
        return None
    row.position = position
    if prepared is not None and not newer:
        row.data, row.publisher, row.text = item.xml, prepared.publisher, prepared.text
        row.parsed, row.parse_error = prepared.parsed, prepared.parse_error
        row.revision = node.revision
    return row


def _upsert(rows: list[PubsubItem]) -> None:
    for row in rows:
        row.pk = None  # rows are matched by node and item id; existing ones keep their primary key
    PubsubItem.objects.bulk_create(
        rows, update_conflicts=True, unique_fields=["node", "name"], update_fields=UPSERT_COLUMNS
    )


def trim(node: PubsubNode) -> None:
    """Evict the oldest items in excess of `MAX_NODE_ITEMS`. The caller saves the node.

    Evicted items are limited too, because a node that is never listed to its end would otherwise grow for ever.

    Raises:
        NodeTooLarge: The node has more evicted items than a listing may contain.
    """
    while (surplus := node.item_count - settings.MAX_NODE_ITEMS) > 0:
        oldest = node.items.in_order().values_list("pk", flat=True)[: min(surplus, BATCH)]
        if not evict_items(node, PubsubItem.objects.filter(pk__in=list(oldest))):
            break
        node.partial = True
    if node.evicted_count > max_listed():
        raise NodeTooLarge(f"The node {node.name} has over {max_listed()} items.")


@fenced
def finish(
    claim: Claim,
    *,
    subscribed: bool,
    traits: NodeTraits | None = None,
    access_model: str | None = None,
    reverse: bool,
    order_unknown: bool = False,
    analyser: str | None = None,
) -> int:
    """Complete a full sync: remove items that were not listed, and release the claim.

    Items that notifications added meanwhile stay.

    Args:
        claim: The claim.
        subscribed: Whether the account is subscribed to the node.
        traits: The observed behaviour of the service, if any.
        access_model: The access model of the node; None if the service does not state it.
        reverse: Whether to reverse the order, because the service turned out to list the newest items first.
        order_unknown: Whether the order of edited items is still unknown.
        analyser: The analyser of the node when its items were parsed; if it has another one now, a sync is requested.

    Returns:
        The number of removed items.

    Raises:
        ClaimLost: The claim is no longer valid.
    """
    node = _claimed_node(claim)
    removed = _remove_unlisted(node, claim)
    if reverse:
        _reverse(node)
    node.item_count = node.items.count()
    node.evicted_count = node.evicted.count()
    # Listed items may have kept the positions that notifications gave them.
    node.next_position = max(node.next_position, _highest(node))
    node.partial = node.partial and node.evicted.filter(reason="").exists()
    node.tombstones.all().delete()
    if traits is not None:
        node.traits = node.traits.updated(traits)
    if access_model is not None:
        node.access_model = access_model
    node.confirmed_position = claim.base + HALF_EPOCH - 1
    notified = Q(position__gte=claim.base + HALF_EPOCH)
    if order_unknown or node.items.filter(notified).exists() or node.evicted.filter(notified).exists():
        node.probe = node.probe or []  # the order of items of notifications that arrived meanwhile is unknown
    elif not node.probe:
        node.probe = None
    set_state(node, SyncState.COMPLETED)
    node.subscribed = subscribed
    if subscribed:  # again, before a worker ended an earlier subscription
        PendingUnsubscription.objects.filter(account_id=node.account_id, service=node.service, name=node.name).delete()
    node.compared_at = claim.started
    # The listing is fresh only as of its start. If another sync was requested meanwhile, for example because a
    # notification could not be written, the node stays stale.
    node.checked_at = claim.started if node.sync_requested is None else None
    node.checked_token = claim.token
    node.parse_anew = analyser is not None and node.analyser != analyser
    if node.parse_anew:
        node.sync_requested = clock.now()
    node.failures, node.next_attempt = 0, None
    node.unavailable_count, node.unavailable_since = 0, None
    node.sync_owner, node.sync_done, node.sync_total = "", 0, None
    node.save()
    _end_run(claim, SyncRun.Outcome.DONE, removed=removed)
    return removed


def _remove_unlisted(node: PubsubNode, claim: Claim) -> int:
    removed = 0
    unseen = node.items.filter(revision__lte=claim.revision).values_list("pk", "name")
    gone = [pk for pk, item_id in unseen if item_id not in claim.seen]
    unseen_evicted = node.evicted.filter(revision__lte=claim.revision).values_list("pk", "name")
    gone_evicted = [pk for pk, item_id in unseen_evicted if item_id not in claim.seen]
    _detect_limit(node, [*((PubsubItem, pk) for pk in gone), *((PubsubEvicted, pk) for pk in gone_evicted)])
    for start in range(0, len(gone), 1000):
        removed += PubsubItem.objects.filter(pk__in=gone[start : start + 1000]).delete()[0]
    for start in range(0, len(gone_evicted), 1000):
        PubsubEvicted.objects.filter(pk__in=gone_evicted[start : start + 1000]).delete()
    return removed


def _detect_limit(node: PubsubNode, gone: list[tuple[type[Model], int]]) -> None:
    """Detect a limit on the number of items: for each new item, the service has removed the oldest one."""
    rows = [(model, pk) for _, model, pk in _by_age(node)]
    remaining = len(rows) - len(gone)
    if gone and remaining and remaining == node.traits.listed and set(rows[: len(gone)]) == set(gone):
        node.traits = replace(node.traits, limit=remaining)
    record_count(node, remaining)


def record_count(node: PubsubNode, count: int) -> None:
    """Record the number of items at the service, and drop a limit below it. The caller saves the node."""
    limit = node.traits.limit
    node.traits = replace(node.traits, listed=count, limit=None if limit is None or count > limit else limit)


def _by_age(node: PubsubNode) -> list[tuple[int, type[Model], int]]:
    """Return (position, model, primary key) of all stored and evicted items, oldest first."""
    models: tuple[type[Model], ...] = (PubsubItem, PubsubEvicted)
    rows = [
        (position, pk, model)
        for model in models
        for position, pk in model._default_manager.filter(node=node).values_list("position", "pk")
    ]
    return [(position, model, pk) for position, pk, model in sorted(rows, key=lambda row: row[:2])]


def _reverse(node: PubsubNode) -> None:
    rows = _by_age(node)
    for model in {model for _, model, _ in rows}:
        reversed_rows = [
            model(pk=pk, position=position)
            for (_, model_of_row, pk), (position, _, _) in zip(rows, reversed(rows), strict=True)
            if model_of_row is model
        ]
        model._default_manager.bulk_update(reversed_rows, ["position"], batch_size=500)


@fenced
def fail(claim: Claim, error: str, *, retry: bool = True, condition: str = "") -> None:
    """Record a failed full sync and release the claim. Stored items stay, except for a node that gets hidden.

    A node is hidden when its owner appears to be gone; see `count_unavailable`.

    Args:
        claim: The claim.
        error: Why the sync failed.
        retry: Whether to schedule another attempt.
        condition: The error condition in the answer of the service, "" if it did not answer.
    """
    node = PubsubNode.objects.for_update().filter(pk=claim.node_pk, sync_owner=claim.owner).first()
    if node is None:
        return
    if count_unavailable(node, condition):
        error = f"The service has answered {condition} {node.unavailable_count} times in a row."
        hide(node, error, requests=claim.requests)
    if node.sync_state == SyncState.COMPLETED:
        node.sync_error = one_line(error)
        node.checked_at = None
    else:
        set_state(node, SyncState.ERROR, error)
    node.failures += 1
    delay = backoff.delay(node.failures, settings.RETRY_DELAY, settings.RETRY_MAX_DELAY, spread=0.2)
    node.next_attempt = clock.now() + timedelta(seconds=delay) if retry else None
    node.sync_owner, node.sync_done, node.sync_total = "", 0, None
    node.tombstones.all().delete()
    node.save()
    _end_run(claim, SyncRun.Outcome.FAILED, error)


def refuse(claim: Claim, error: str) -> None:
    """Record that a node is too large for the cache, remove its items and release the claim.

    The next attempt follows after `RETRY_MAX_DELAY`, however often the sync has failed.

    Args:
        claim: The claim.
        error: Why the node was refused.
    """
    if _refuse(claim, error):
        empty_node(claim.node_pk)


@fenced
def _refuse(claim: Claim, error: str) -> bool:
    node = PubsubNode.objects.for_update().filter(pk=claim.node_pk, sync_owner=claim.owner).first()
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
    _end_run(claim, SyncRun.Outcome.REFUSED, error)
    return True


def _end_run(claim: Claim, outcome: SyncRun.Outcome, error: str = "", *, removed: int = 0) -> None:
    counts = {"added": claim.added, "updated": claim.updated, "removed": removed, "requests": claim.requests}
    runs.end(claim.node_pk, outcome, error, **counts)


@transaction.atomic
def release(pk: int, owner: str) -> None:
    """Release the claim of `owner`, if it has one, so that another process can claim the node at once."""
    held = PubsubNode.objects.filter(pk=pk, sync_owner=owner)
    runs.abandon(held, clock.now())
    held.update(sync_owner="", sync_heartbeat=None)
