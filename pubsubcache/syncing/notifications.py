"""Applies notifications to the cache: in order for each node, with fair turns between nodes.

One task empties the queue of an account. It never waits for a service: if a batch needs items from one, it is set
aside until another task has fetched them. If the notifications of a node cannot be applied, the node is invalidated
and then revalidated, so no change is lost silently.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar, TypeVarTuple

from django.db import InterfaceError, OperationalError

from pubsubcache.exceptions import InvalidRequest, LeaseLost, PubsubCacheError, ServiceUnreachable
from pubsubcache.models import PubsubNode
from pubsubcache.services.protocol import PubsubService
from pubsubcache.signals import announce, announce_items, items_published, items_retracted, node_deleted, node_purged
from pubsubcache.store import in_thread, nodes
from pubsubcache.store.activity import counters
from pubsubcache.store.changes import Change, Outcome, PurgeAll, Retraction, apply_changes
from pubsubcache.store.leases import Lease, acting_under
from pubsubcache.store.syncing import stored_data
from pubsubcache.syncing.analysis import TIMEOUT, Finding, analyse, is_due, look_again, namespaces_of
from pubsubcache.syncing.floods import Floods
from pubsubcache.syncing.notification_queue import MAX_BYTES, MAX_EVENTS, Batch, EventQueue, Place, Scope
from pubsubcache.syncing.payloads import Fetcher
from pubsubcache.syncing.preparing import prepare
from pubsubcache.types import Item, NodeAddress, Publish, PubsubEvent, Retract, is_short
from pubsubcache.utils import backoff, jid
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

BATCH_SIZE = 200  # maximum number of changes written in one transaction
ATTEMPTS = 5  # to write a batch that the database refuses although it answers other queries
GRACE = 0.25  # seconds that a node stays valid while missing payloads are fetched
DELAY, MAX_DELAY = 0.1, 5.0  # seconds between attempts to write; the delay doubles each time
MAX_ANALYSES = 100  # of nodes at once

SyncState = PubsubNode.SyncState
T = TypeVar("T")
Args = TypeVarTuple("Args")
NodeCallback = Callable[[int], None]
Analysis = Callable[[], Awaitable[Finding | None]]


class _Void(Exception):
    """The batch was dropped while it was being applied."""


@dataclass(slots=True)
class _Arrived:
    """An item from a notification, not yet parsed."""

    item: Item
    has_payload: bool
    delayed: bool = False  # the last item, sent on subscription or presence; it may be outdated


Arrival = _Arrived | Retraction | PurgeAll


@dataclass(slots=True)
class _Work:
    """The content of a batch's notifications, and the items fetched for them."""

    changes: list[Arrival] = field(default_factory=list)
    is_deleted: bool = False
    subscribed: bool | None = None
    must_revalidate: bool = False
    found: dict[str, Item] | None = None  # None if nothing was requested from the service
    error: Exception | None = None
    is_invalidated: bool = False


@dataclass
class EventApplier:
    """Applies the notifications of one account.

    `feed` queues a notification and returns at once. `run` applies them until cancelled.

    Args:
        account: The bare JID of the account.
        service: Provides the items that notifications do not carry.
        on_id_check: Called with the key of a node that needs an id check.
        on_invalidated: Called with the key of a node that must be revalidated, or synchronised for the first time.
        on_overflow: Called when all nodes of the account were invalidated because too much was dropped.
        dropped: The number of notifications that were not applied, by reason.
    """

    account: str
    service: PubsubService
    on_id_check: NodeCallback = lambda pk: None
    on_invalidated: NodeCallback = lambda pk: None
    on_overflow: Callable[[], None] = lambda: None
    dropped: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._queue = EventQueue(max_events=MAX_EVENTS, max_bytes=MAX_BYTES)
        self._floods = Floods(self._queue)
        self._fetcher = Fetcher(self.service)
        self._fetches: set[asyncio.Task[None]] = set()
        self._analyses: dict[int, asyncio.Task[None]] = {}  # by the key of the node
        self._may_ask = True
        self._tasks: asyncio.TaskGroup
        self._failures = 0  # of the database, since its last successful write
        self._lease: Lease | None = None
        self._is_open = asyncio.Event()
        self._is_open.set()

    # Receiving

    def feed(self, event: PubsubEvent) -> None:
        """Queue a notification. Does not block."""
        address = self._address(event)
        if address is None:
            return
        if event.kind == "lost":
            self._queue.invalidate(address.service)
            return
        counters.count(self.account, "notifications")
        if self._floods.take(address):
            self.dropped["flood"] = self._floods.dropped
            return
        for part in _parts(event, BATCH_SIZE):
            if dropped := self._queue.put(address, part):
                self.dropped["overflow"] += dropped

    def is_shed(self, sender: str, node: str) -> bool:
        """Whether the sender's notifications about a node are discarded unread, because there are too many."""
        try:
            return bool(self._floods.pks) and NodeAddress(jid.normalise(sender), node) in self._floods
        except InvalidRequest:
            return False

    @property
    def flooded(self) -> tuple[int, ...]:
        """The keys of nodes whose notifications are shed. They must not be synchronised until the flood ends."""
        return tuple(pk for pks in self._floods.pks.values() for pk in pks)

    def _address(self, event: PubsubEvent) -> NodeAddress | None:
        """Return the node that a notification is about, or None if the sender cannot be a service."""
        try:
            sender = jid.normalise(event.sender) if event.sender else self.account
        except InvalidRequest:
            self.dropped["malformed sender"] += 1
            return None
        if "/" in sender:
            self.dropped["full JID"] += 1
            return None
        return NodeAddress(sender, event.node)

    async def join(self, address: NodeAddress | None = None) -> None:
        """Wait until the notifications fed so far are applied or dropped.

        Args:
            address: Wait only for the notifications of this node, not for analyses.
        """
        if address is not None:
            await self._queue.settled(address)
            return
        await self._queue.join()
        await asyncio.gather(*self._analyses.values(), return_exceptions=True)

    async def finish(self) -> None:
        """Apply all queued notifications without waiting for services; nodes that need one are invalidated."""
        self._may_ask = False
        for fetch in self._fetches:
            fetch.cancel()
        for flood in self._floods.pks:
            self._queue.invalidate(flood)
        await self.join()

    # Sessions and leases

    def void(self) -> None:
        """Drop all queued notifications, because a new session does not resume the previous one.

        Nothing queued so far is written after this call: a write in progress runs in the store's thread, before any
        store function called from now on. The nodes concerned are invalidated.
        """
        if dropped := self._queue.clear():
            self.dropped["void"] += dropped

    def open(self, lease: Lease | None = None) -> None:
        """Apply notifications from now on.

        Args:
            lease: The lease under which they are written.
        """
        self._lease = lease
        self._is_open.set()

    def close(self) -> None:
        """Apply nothing until `open` is called. Notifications stay queued meanwhile."""
        self._is_open.clear()

    # The database

    async def _write(self, function: Callable[[*Args], T], *args: *Args, batch: Batch | None = None) -> T:
        """Call a store function that writes. Every write of the applier goes through this method.

        Raises:
            _Void: The write belongs to `batch`, which was dropped.
        """
        await self._is_open.wait()
        if batch is not None and batch.place is Place.GONE:
            raise _Void
        with acting_under(self._lease):
            return await in_thread(function)(*args)

    async def _find(self, address: NodeAddress) -> PubsubNode | None:
        return await in_thread(nodes.find_node)(self.account, address)

    async def _database_answers(self, address: NodeAddress) -> bool:
        try:
            await self._find(address)
        except (OperationalError, InterfaceError):
            return False
        return True

    # Turns

    async def run(self) -> None:
        """Apply notifications until cancelled. The rest stays in the queue."""
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                await self._queue.wait()
                await self._is_open.wait()
                if (invalidation := self._queue.next_invalidation()) is not None:
                    await self._invalidate(*invalidation)
                elif (batch := self._queue.take(BATCH_SIZE)) is not None:
                    await self._turn(batch)

    async def _invalidate(self, scope: Scope, version: int) -> None:
        """Invalidate nodes whose notifications were lost, and request their revalidation."""
        try:
            if isinstance(scope, NodeAddress):
                node = await self._find(scope)
                pks = [] if node is None else [node.pk]
                for pk in pks:
                    await self._write(nodes.invalidate_node, pk)
            else:
                pks = await self._write(nodes.invalidate_all, self.account, scope)
        except (OperationalError, InterfaceError) as error:
            await self._wait_for_database(error)
            return
        except LeaseLost:
            pks = []
        except Exception as error:
            logger.warning("Nodes of %s could not be invalidated.", self.account, exc_info=error)
            pks = []
        self._failures = 0
        self._queue.resolve(scope, version)
        if scope is None:
            logger.warning("Notifications for %s were dropped; all its nodes are revalidated.", self.account)
            self.on_overflow()
        if self._floods.invalidated(scope, pks):
            return
        for pk in pks:
            self.on_invalidated(pk)

    async def _turn(self, batch: Batch) -> None:
        """Apply a batch or set it aside. If that fails, drop it and invalidate its node."""
        try:
            await self._apply(batch)
        except _Void:
            return
        except LeaseLost:
            self._queue.done(batch)  # the worker that holds the account now revalidates its nodes
        except (OperationalError, InterfaceError) as error:
            await self._retry(batch, error)
        except Exception as error:
            bug = None if isinstance(error, PubsubCacheError) else error
            logger.warning("Notifications of %s could not be applied: %s", batch.address.uri, error, exc_info=bug)
            self._discard(batch)
        else:
            self._failures = 0
        finally:
            if batch.place is Place.OUT:  # cancelled
                self._queue.put_back(batch)

    def _discard(self, batch: Batch) -> None:
        """Drop a batch that cannot be applied, and invalidate its node."""
        if batch.place is not Place.GONE:
            self._queue.invalidate(batch.address)
            self._queue.done(batch)

    async def _retry(self, batch: Batch, error: Exception) -> None:
        """Try a batch again later. If the database is unavailable, all batches wait, otherwise only this one."""
        if not await self._database_answers(batch.address):
            await self._wait_for_database(error)
            self._queue.put_back(batch)
            return
        batch.attempts += 1
        logger.warning("The database refused notifications of %s (%s).", batch.address.uri, type(error).__name__)
        if batch.attempts >= ATTEMPTS:
            self._discard(batch)
        else:
            self._queue.set_aside(batch)
            batch.task = self._tasks.create_task(self._rest(batch, backoff.delay(batch.attempts, DELAY, MAX_DELAY)))

    async def _rest(self, batch: Batch, delay: float) -> None:
        try:
            await asyncio.sleep(delay)
        finally:
            self._queue.put_back(batch)

    async def _wait_for_database(self, error: Exception) -> None:
        logger.warning("Notifications cannot be written to the database now (%s); retrying.", type(error).__name__)
        self._failures += 1
        await asyncio.sleep(backoff.delay(self._failures, DELAY, MAX_DELAY))

    # Applying a batch

    async def _apply(self, batch: Batch) -> None:
        node = await self._find(batch.address)
        if node is None:
            self.dropped["unknown node"] += len(batch.events)
            self._queue.done(batch)
            return
        work = batch.progress if isinstance(batch.progress, _Work) else self._read(batch.events)
        batch.progress = work
        if work.error is not None:
            raise work.error
        if work.is_deleted:
            await self._write(nodes.remove_node, node.pk, batch=batch)
            await announce(node_deleted, node_pk=node.pk, account=self.account, address=node.address)
        elif work.found is None and (wanted := await self._wanted(node, work)):
            self._fetch_later(batch, node.pk, work, wanted)
            return
        else:
            await self._apply_to(node, batch, work)
        self._queue.done(batch)

    def _read(self, events: list[PubsubEvent]) -> _Work:
        """Interpret notifications. Those that follow a deletion are about a new node of the same name: ignore them."""
        work = _Work()
        for event in events:
            work.must_revalidate = work.must_revalidate or bool(event.unreadable)
            match event.kind:
                case "items":
                    work.changes += [_change(change, event.delayed) for change in event.changes]
                case "purge":
                    work.changes.append(PurgeAll())
                case "delete":
                    work.is_deleted = True
                    break
                case "configuration":
                    work.must_revalidate = True
                case "subscription" if self._is_ours(event):
                    work.subscribed = event.subscription == "subscribed"
                    work.must_revalidate = True
        return work

    def _is_ours(self, event: PubsubEvent) -> bool:
        """Whether a notification is about a subscription of this account."""
        try:
            return not event.subscriber or jid.bare(event.subscriber) == self.account
        except InvalidRequest:
            return False

    async def _apply_to(self, node: PubsubNode, batch: Batch, work: _Work) -> None:
        if work.subscribed is not None:
            await self._write(nodes.set_subscribed, node.pk, work.subscribed, batch=batch)
        if work.changes and node.sync_state == SyncState.NO_SYNC:
            self.dropped["node not synchronised"] += 1
            arrived = [change.item for change in work.changes if isinstance(change, _Arrived)]
            if is_due(node, namespaces_of(arrived), newest=False):
                self._analyse_later(node, partial(analyse, node.address, arrived))
        elif work.changes:
            await self._apply_changes(node, batch, work)
        if work.must_revalidate:
            self._queue.invalidate(node.address)
        if work.is_invalidated:
            self.on_invalidated(node.pk)

    async def _apply_changes(self, node: PubsubNode, batch: Batch, work: _Work) -> None:
        names_publishers = await self._names_publishers(node, batch, work)
        changes = _completed(work.changes, work.found or {}, keep_publisher=names_publishers)
        last = {change.item.id: change.item for change in changes if isinstance(change, _Arrived)}
        prepared = await prepare(node.analyser, node.address, list(last.values()))
        ready: list[Change] = [prepared[c.item.id] if isinstance(c, _Arrived) else c for c in changes]
        outcome = await self._write(apply_changes, node.pk, ready, batch=batch)
        if outcome is None:
            self.dropped["node not synchronised"] += 1
            return
        await self._tell(outcome)
        if node.sync_state == SyncState.COMPLETED and is_due(node, namespaces_of(list(last.values())), newest=True):
            self._analyse_later(node, partial(look_again, node))

    async def _tell(self, outcome: Outcome) -> None:
        counters.count(self.account, "stored", len(outcome.published))
        if outcome.grown or outcome.order_unknown:
            self.on_id_check(outcome.node_pk)
        if outcome.purged:
            await announce(node_purged, node_pk=outcome.node_pk)
        await announce_items(items_published, outcome.node_pk, outcome.published)
        await announce_items(items_retracted, outcome.node_pk, outcome.retracted)

    # Analyses

    def _analyse_later(self, node: PubsubNode, analysis: Analysis) -> None:
        """Analyse a node in a task, because a `match_cb` may take long. If too many do, the next notification tries."""
        if node.pk in self._analyses or len(self._analyses) >= MAX_ANALYSES:
            return
        self._analyses[node.pk] = task = self._tasks.create_task(self._analyse(node, analysis))
        task.add_done_callback(lambda _: self._analyses.pop(node.pk, None))

    async def _analyse(self, node: PubsubNode, analysis: Analysis) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                finding = await analysis()
            if finding is not None:
                await self._write(nodes.update_analysis, node.pk, *finding)
                self.on_invalidated(node.pk)
        except LeaseLost:
            return
        except Exception as error:  # the next notification or read tries again
            logger.warning("%s could not be analysed again.", node.address.uri, exc_info=error)

    # Requests to the service

    async def _wanted(self, node: PubsubNode, work: _Work) -> set[str]:
        """Return the ids of the items to fetch before a batch can be applied.

        These are items without a payload (XEP-0060, 4.3), delayed items that differ from the cached ones, and, until it
        is known whether the service names publishers in answers too, one item whose notification names its publisher.
        """
        if node.sync_state == SyncState.NO_SYNC:
            return set()
        arrivals = [change for change in work.changes if isinstance(change, _Arrived)]
        late = [
            arrived for arrived in arrivals if arrived.delayed and arrived.has_payload and not is_short(arrived.item.id)
        ]
        if late:
            stored = await in_thread(stored_data)(node.pk, [arrived.item.id for arrived in late])
            for arrived in late:
                item = arrived.item
                arrived.has_payload = stored.get(item.id) in (item.xml, item.without_publisher().xml)
        wanted = {arrived.item.id for arrived in arrivals if not arrived.has_payload}
        if node.traits.publishers is None and (named := _last_named(work.changes)) is not None:
            wanted.add(named.id)
        return wanted

    async def _names_publishers(self, node: PubsubNode, batch: Batch, work: _Work) -> bool:
        """Whether the service names publishers in answers. Learns it from a fetched item if there is one."""
        named = _last_named(work.changes)
        if node.traits.publishers is None and named is not None and named.id in (work.found or {}):
            found: Item = (work.found or {})[named.id]
            node.traits = replace(node.traits, publishers=bool(found.publisher))
            await self._write(nodes.record_publishers, node.pk, bool(found.publisher), batch=batch)
        return bool(node.traits.publishers)

    def _fetch_later(self, batch: Batch, node_pk: int, work: _Work, wanted: set[str]) -> None:
        if not self._may_ask:
            raise ServiceUnreachable("The session has ended.")
        self._queue.set_aside(batch)
        batch.task = self._tasks.create_task(self._fetch(batch, node_pk, work, wanted))
        self._fetches.add(batch.task)
        batch.task.add_done_callback(self._fetches.discard)

    async def _fetch(self, batch: Batch, node_pk: int, work: _Work, wanted: set[str]) -> None:
        """Fetch the items that a batch needs, and put it back. If that takes long, its node is invalidated."""
        invalidating = asyncio.create_task(self._keep_invalid(batch, node_pk, work))
        try:
            work.found = await self._fetcher.fetch(batch.address, wanted)
        except Exception as error:
            work.error = error
        finally:
            invalidating.cancel()
            self._queue.put_back(batch)

    async def _keep_invalid(self, batch: Batch, node_pk: int, work: _Work) -> None:
        """Invalidate a node while it waits for its service.

        Invalidates it again with each further notification, because a revalidation may have completed in between.
        """
        while True:
            await asyncio.sleep(GRACE)
            batch.more.clear()
            work.is_invalidated = True
            try:
                await self._write(nodes.invalidate_node, node_pk, batch=batch)
            except (OperationalError, InterfaceError):
                continue
            except (_Void, LeaseLost):
                return
            except Exception as error:
                logger.warning("%s could not be invalidated.", batch.address.uri, exc_info=error)
                return
            await batch.more.wait()


def _parts(event: PubsubEvent, size: int) -> Iterator[PubsubEvent]:
    """Split a notification into parts of at most `size` changes, so that each fits into one turn."""
    if len(event.changes) <= size:
        yield event
        return
    for start in range(0, len(event.changes), size):
        yield replace(event, changes=event.changes[start : start + size])


def _change(change: Publish | Retract, delayed: bool) -> Arrival:
    if isinstance(change, Retract):
        return Retraction(change.id)
    return _Arrived(change.item, change.has_payload, delayed)


def _last_named(changes: list[Arrival]) -> Item | None:
    """Return the last item whose notification names its publisher."""
    for change in reversed(changes):
        if isinstance(change, _Arrived) and change.item.publisher:
            return change.item
    return None


def _completed(changes: list[Arrival], found: dict[str, Item], *, keep_publisher: bool) -> list[Arrival]:
    """Return the changes with each item as the service would return it, without items that no longer exist."""
    completed: list[Arrival] = []
    for change in changes:
        if not isinstance(change, _Arrived):
            completed.append(change)
        elif change.has_payload:
            completed.append(_Arrived(change.item if keep_publisher else change.item.without_publisher(), True))
        elif change.item.id in found:
            completed.append(_Arrived(found[change.item.id], True))
    return completed


__all__ = ["EventApplier"]
