"""Notifications, applied to the cache in order for each node, with fair turns between nodes.

One task empties the queue of an account. It never waits for a service: a batch that needs one is set aside until
another task has fetched what is missing. Nothing is lost silently: a node whose notifications could not be applied is
invalidated, then revalidated.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import InterfaceError, OperationalError

from pubsubcache import jid
from pubsubcache.cleaning import get_logger
from pubsubcache.conf import settings
from pubsubcache.event_fetching import Fetcher
from pubsubcache.event_queue import Batch, EventQueue, Place, Scope
from pubsubcache.exceptions import InvalidRequest, LeaseLost, PubsubCacheError, ServiceUnreachable
from pubsubcache.floods import Floods
from pubsubcache.models import PubsubNode
from pubsubcache.service import PubsubService
from pubsubcache.signals import announce, items_published, items_retracted, node_deleted, node_purged
from pubsubcache.store import in_thread, nodes
from pubsubcache.store.changes import Change, Outcome, PurgeAll, Removal, apply_changes
from pubsubcache.store.leases import Lease, acting_under
from pubsubcache.store.syncing import stored_data
from pubsubcache.sync import prepare
from pubsubcache.types import Item, NodeAddress, Publish, PubsubEvent, Retract, is_short

logger = get_logger(__name__)

ATTEMPTS = 5  # to write notifications that the database refuses while it answers otherwise
GRACE = 0.25  # seconds that a node stays vouched for while a service is asked for what a notification left out
DELAY, MAX_DELAY = 0.1, 5.0  # seconds between attempts to write, doubled each time

NodeCallback = Callable[[int], None]


class _Void(Exception):
    """The batch being applied was dropped meanwhile."""


@dataclass(slots=True)
class _Arrived:
    """An item that a notification brought, not yet parsed."""

    item: Item
    has_payload: bool
    delayed: bool = False  # sent on subscription or presence as the last item, which may be outdated by then


Arrival = _Arrived | Removal | PurgeAll


@dataclass(slots=True)
class _Work:
    """What the notifications of a batch say, and what was fetched for them."""

    changes: list[Arrival] = field(default_factory=list)
    is_deleted: bool = False
    subscribed: bool | None = None
    is_doubtful: bool = False
    found: dict[str, Item] | None = None  # None: nothing was asked of the service
    error: Exception | None = None
    is_invalidated: bool = False


@dataclass
class EventApplier:
    """Applies the notifications of one account.

    `feed` takes them in, synchronously; `run` works until cancelled.

    Args:
        account: The bare JID of the account.
        service: Where items are fetched that notifications do not carry.
        on_unsure: Called with the key of a node whose ids must be compared with the service's.
        on_doubt: Called with the key of a node that was invalidated and must be revalidated.
        on_overflow: Called when all nodes of the account were invalidated because too much was dropped.
        dropped: How many notifications were not applied, by reason.
    """

    account: str
    service: PubsubService
    on_unsure: NodeCallback = lambda pk: None
    on_doubt: NodeCallback = lambda pk: None
    on_overflow: Callable[[], None] = lambda: None
    dropped: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._queue = EventQueue(max_events=settings.EVENT_QUEUE_SIZE, max_bytes=settings.EVENT_QUEUE_BYTES)
        self._floods = Floods(self._queue)
        self._fetcher = Fetcher(self.service)
        self._fetches: set[asyncio.Task[None]] = set()
        self._may_ask = True
        self._tasks: asyncio.TaskGroup
        self._delay = DELAY
        self._lease: Lease | None = None
        self._is_open = asyncio.Event()
        self._is_open.set()

    # Taking in

    def feed(self, event: PubsubEvent) -> None:
        """Take a notification in; returns at once."""
        address = self._address(event)
        if address is None:
            return
        if event.kind == "lost":
            self._queue.doubt(address.service)
            return
        if self._floods.take(address):
            self.dropped["flood"] = self._floods.dropped
            return
        for part in _parts(event, settings.EVENT_BATCH_SIZE):
            if dropped := self._queue.put(address, part):
                self.dropped["overflow"] += dropped

    def is_shed(self, sender: str, node: str) -> bool:
        """Whether nothing that notifications of a sender say of a node is looked at, as there are too many."""
        try:
            return bool(self._floods.pks) and NodeAddress(jid.normalise(sender), node) in self._floods
        except InvalidRequest:
            return False

    @property
    def flooded(self) -> tuple[int, ...]:
        """The keys of nodes whose notifications are shed, which are not to be synchronised before that ends."""
        return tuple(pk for pks in self._floods.pks.values() for pk in pks)

    def _address(self, event: PubsubEvent) -> NodeAddress | None:
        """Return the node that a notification is about, None when its sender cannot be a service."""
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
        """Wait until the notifications taken in so far are applied or dropped.

        Args:
            address: Wait for those of this node only.
        """
        await (self._queue.join() if address is None else self._queue.settled(address))

    async def finish(self) -> None:
        """Apply what was taken in, without waiting for services: nodes that need them are invalidated."""
        self._may_ask = False
        for fetch in self._fetches:
            fetch.cancel()
        for flood in self._floods.pks:
            self._queue.doubt(flood)
        await self._queue.join()

    # Sessions and leases

    def void(self) -> None:
        """Forget everything taken in so far, for a session that does not continue the last one.

        What was fed before is not written after this returns: a write under way runs in the thread of the store, before
        any store function called from now on. The nodes concerned are invalidated.
        """
        if dropped := self._queue.clear():
            self.dropped["void"] += dropped

    def open(self, lease: Lease | None = None) -> None:
        """Apply notifications from now on.

        Args:
            lease: Under which they are written.
        """
        self._lease = lease
        self._is_open.set()

    def close(self) -> None:
        """Apply nothing until `open` is called; what is fed meanwhile waits."""
        self._is_open.clear()

    # The database

    async def _write(self, function: Callable[..., Any], *args: Any, batch: Batch | None = None) -> Any:
        """Call a store function that writes; every write of the applier passes here.

        Raises:
            _Void: `batch`, to which the write belongs, was dropped.
        """
        await self._is_open.wait()
        if batch is not None and batch.place is Place.GONE:
            raise _Void
        with acting_under(self._lease):
            return await in_thread(function)(*args)

    async def _find(self, address: NodeAddress) -> PubsubNode | None:
        node: PubsubNode | None = await in_thread(nodes.find_node)(self.account, address)
        return node

    async def _database_answers(self, address: NodeAddress) -> bool:
        try:
            await self._find(address)
        except (OperationalError, InterfaceError):
            return False
        return True

    # Turns

    async def run(self) -> None:
        """Apply notifications until cancelled; what is not applied by then stays in the queue."""
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                await self._queue.wait()
                await self._is_open.wait()
                if (doubt := self._queue.next_doubt()) is not None:
                    await self._invalidate(*doubt)
                elif (batch := self._queue.take(settings.EVENT_BATCH_SIZE)) is not None:
                    await self._turn(batch)

    async def _invalidate(self, scope: Scope, version: int) -> None:
        """Stop vouching for nodes whose notifications were lost, and have them revalidated."""
        try:
            if isinstance(scope, NodeAddress):
                node = await self._find(scope)
                pks = [] if node is None else [node.pk]
                for pk in pks:
                    await self._write(nodes.doubt_node, pk)
            else:
                pks = await self._write(nodes.doubt_all, self.account, scope)
        except (OperationalError, InterfaceError) as error:
            await self._wait_for_database(error)
            return
        except LeaseLost:
            pks = []
        except Exception as error:
            logger.warning("Nodes of %s could not be invalidated.", self.account, exc_info=error)
            pks = []
        self._delay = DELAY
        self._queue.resolve(scope, version)
        if scope is None:
            logger.warning("Notifications for %s were dropped; all its nodes are revalidated.", self.account)
            self.on_overflow()
        if self._floods.invalidated(scope, pks):
            return
        for pk in pks:
            self.on_doubt(pk)

    async def _turn(self, batch: Batch) -> None:
        """Apply a batch, set it aside, or give it up and invalidate its node."""
        try:
            await self._apply(batch)
        except _Void:
            return
        except LeaseLost:
            self._queue.done(batch)  # whoever holds the account now revalidates its nodes
        except (OperationalError, InterfaceError) as error:
            await self._retry(batch, error)
        except Exception as error:
            bug = None if isinstance(error, PubsubCacheError) else error
            logger.warning("Notifications of %s could not be applied: %s", batch.address.uri, error, exc_info=bug)
            self._give_up(batch)
        else:
            self._delay = DELAY
        finally:
            if batch.place is Place.OUT:  # cancelled
                self._queue.put_back(batch)

    def _give_up(self, batch: Batch) -> None:
        if batch.place is not Place.GONE:
            self._queue.doubt(batch.address)
            self._queue.done(batch)

    async def _retry(self, batch: Batch, error: Exception) -> None:
        """Try a batch again later: with the database away all wait, otherwise only its node does."""
        if not await self._database_answers(batch.address):
            await self._wait_for_database(error)
            self._queue.put_back(batch)
            return
        batch.attempts += 1
        logger.warning("The database refused notifications of %s (%s).", batch.address.uri, type(error).__name__)
        if batch.attempts >= ATTEMPTS:
            self._give_up(batch)
        else:
            self._queue.set_aside(batch)
            batch.task = self._tasks.create_task(self._rest(batch, DELAY * 2 ** (batch.attempts - 1)))

    async def _rest(self, batch: Batch, delay: float) -> None:
        try:
            await asyncio.sleep(delay)
        finally:
            self._queue.put_back(batch)

    async def _wait_for_database(self, error: Exception) -> None:
        logger.warning("The database does not take notifications now (%s); trying again.", type(error).__name__)
        await asyncio.sleep(self._delay)
        self._delay = min(self._delay * 2, MAX_DELAY)

    # Applying a batch

    async def _apply(self, batch: Batch) -> None:
        node = await self._find(batch.address)
        if node is None:
            self.dropped["unknown node"] += len(batch.events)
            self._queue.done(batch)
            return
        work: _Work = batch.progress or self._read(batch.events)
        batch.progress = work
        if work.error is not None:
            raise work.error
        if work.is_deleted:
            await self._write(nodes.remove_node, node.pk, batch=batch)
            await announce(node_deleted, node_pk=node.pk, account=self.account, address=node.address)
        elif work.found is None and (wanted := await self._wanted(node, work)):
            self._fetch_later(batch, node.pk, wanted)
            return
        else:
            await self._apply_to(node, batch, work)
        self._queue.done(batch)

    def _read(self, events: list[PubsubEvent]) -> _Work:
        """Return what notifications say. What follows a deletion is about another node of that name."""
        work = _Work()
        for event in events:
            work.is_doubtful = work.is_doubtful or bool(event.unreadable)
            match event.kind:
                case "items":
                    work.changes += [_change(change, event.delayed) for change in event.changes]
                case "purge":
                    work.changes.append(PurgeAll())
                case "delete":
                    work.is_deleted = True
                    break
                case "configuration":
                    work.is_doubtful = True
                case "subscription" if self._is_ours(event):
                    work.subscribed = event.subscription == "subscribed"
                    work.is_doubtful = True
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
        if work.changes:
            await self._apply_changes(node, batch, work)
        if work.is_doubtful:
            self._queue.doubt(node.address)
        if work.is_invalidated:
            self.on_doubt(node.pk)

    async def _apply_changes(self, node: PubsubNode, batch: Batch, work: _Work) -> None:
        names_publishers = await self._names_publishers(node, batch, work)
        changes = _completed(work.changes, work.found or {}, keep_publisher=names_publishers)
        last = {change.item.id: change.item for change in changes if isinstance(change, _Arrived)}
        prepared = await prepare(node.analyser, node.address, list(last.values()))
        ready: list[Change] = [prepared[c.item.id] if isinstance(c, _Arrived) else c for c in changes]
        outcome = await self._write(apply_changes, node.pk, ready, batch=batch)
        if outcome is None:
            self.dropped["node not synchronised"] += 1
        else:
            await self._tell(outcome)

    async def _tell(self, outcome: Outcome) -> None:
        if outcome.grown or outcome.order_unknown:
            self.on_unsure(outcome.node_pk)
        if outcome.purged:
            await announce(node_purged, node_pk=outcome.node_pk)
        if outcome.published:
            await announce(items_published, node_pk=outcome.node_pk, names=outcome.published)
        if outcome.retracted:
            await announce(items_retracted, node_pk=outcome.node_pk, names=outcome.retracted)

    # What the service must be asked for

    async def _wanted(self, node: PubsubNode, work: _Work) -> set[str]:
        """Return the ids of items to fetch before a batch can be applied.

        Those without a payload (XEP-0060, 4.3); those sent late that differ from what the cache has; and one item
        whose notification names its publisher, until it is known whether the service does so in answers too.
        """
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
        if "publishers" not in node.extra and (named := _last_named(work.changes)) is not None:
            wanted.add(named.id)
        return wanted

    async def _names_publishers(self, node: PubsubNode, batch: Batch, work: _Work) -> bool:
        """Whether the service names publishers in answers; learn it from what was fetched."""
        named = _last_named(work.changes)
        if "publishers" not in node.extra and named is not None and named.id in (work.found or {}):
            found: Item = (work.found or {})[named.id]
            node.extra["publishers"] = bool(found.publisher)
            await self._write(_learn_publishers, node.pk, bool(found.publisher), batch=batch)
        return bool(node.extra.get("publishers"))

    def _fetch_later(self, batch: Batch, node_pk: int, wanted: set[str]) -> None:
        if not self._may_ask:
            raise ServiceUnreachable("The session has ended.")
        self._queue.set_aside(batch)
        batch.task = self._tasks.create_task(self._fetch(batch, node_pk, wanted))
        self._fetches.add(batch.task)
        batch.task.add_done_callback(self._fetches.discard)

    async def _fetch(self, batch: Batch, node_pk: int, wanted: set[str]) -> None:
        """Fetch what a batch lacks, and put it back; its node is not vouched for meanwhile."""
        work: _Work = batch.progress
        invalidating = asyncio.create_task(self._keep_invalid(batch, node_pk))
        try:
            work.found = await self._fetcher.fetch(batch.address, wanted)
        except Exception as error:
            work.error = error
        finally:
            invalidating.cancel()
            self._queue.put_back(batch)

    async def _keep_invalid(self, batch: Batch, node_pk: int) -> None:
        """Invalidate a node that waits for its service; again when more of it comes, as it may be in sync by then."""
        while True:
            await asyncio.sleep(GRACE)
            batch.more.clear()
            batch.progress.is_invalidated = True
            try:
                await self._write(nodes.doubt_node, node_pk, batch=batch)
            except (OperationalError, InterfaceError):
                continue
            except (_Void, LeaseLost):
                return
            except Exception as error:
                logger.warning("%s could not be invalidated.", batch.address.uri, exc_info=error)
                return
            await batch.more.wait()


def _parts(event: PubsubEvent, size: int) -> Iterator[PubsubEvent]:
    """Split a notification of many changes, so that none takes more than a turn."""
    if len(event.changes) <= size:
        yield event
        return
    for start in range(0, len(event.changes), size):
        yield replace(event, changes=event.changes[start : start + size])


def _change(change: Publish | Retract, delayed: bool) -> Arrival:
    if isinstance(change, Retract):
        return Removal(change.id)
    return _Arrived(change.item, change.has_payload, delayed)


def _last_named(changes: list[Arrival]) -> Item | None:
    """Return the last item whose notification names its publisher."""
    for change in reversed(changes):
        if isinstance(change, _Arrived) and change.item.publisher:
            return change.item
    return None


def _completed(changes: list[Arrival], found: dict[str, Item], *, keep_publisher: bool) -> list[Arrival]:
    """Return changes with each item as the service would answer for it; those that are gone since are left out."""
    completed: list[Arrival] = []
    for change in changes:
        if not isinstance(change, _Arrived):
            completed.append(change)
        elif change.has_payload:
            completed.append(_Arrived(change.item if keep_publisher else change.item.without_publisher(), True))
        elif change.item.id in found:
            completed.append(_Arrived(found[change.item.id], True))
    return completed


def _learn_publishers(node_pk: int, named: bool) -> None:
    nodes.learn(node_pk, publishers=named)


__all__ = ["EventApplier"]
