"""Notifications, applied to the cache in the order in which they came.

One queue for each session and one task that empties it: per node, what a batch brought is written in one
transaction. What cannot be taken in is never lost silently: the node is compared with the service instead.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from django.db import InterfaceError, OperationalError

from pubsubcache import jid, live
from pubsubcache.conf import settings
from pubsubcache.exceptions import InvalidRequest, PubsubCacheError
from pubsubcache.models import PubsubNode
from pubsubcache.service import PubsubService
from pubsubcache.signals import announce, items_published, items_retracted, node_deleted, node_purged
from pubsubcache.store import in_thread, nodes
from pubsubcache.store.changes import Change, Outcome, PurgeAll, Removal, apply_changes
from pubsubcache.store.syncing import stored_data
from pubsubcache.sync import prepare
from pubsubcache.texts import get_logger
from pubsubcache.types import Item, NodeAddress, Publish, PubsubEvent, Retract

logger = get_logger(__name__)

ATTEMPTS = 5  # to write notifications that the database refuses, before what they bring is taken to be the reason

NodeCallback = Callable[[int], None]


@dataclass(slots=True)
class _Arrived:
    """An item that a notification brought, not yet parsed."""

    item: Item
    has_payload: bool
    delayed: bool = False  # as the last item, told on subscription or presence, which may be an old one by then


Arrival = _Arrived | Removal | PurgeAll


@dataclass
class EventApplier:
    """Applies the notifications of one account's session.

    `feed` takes them in, synchronously; `run` works until cancelled. `on_unsure` is called with the key
    of a node whose ids are to be compared with the service's, `on_doubt` with that of a node that is to be compared
    whole, `on_overflow` when notifications had to be dropped, so that any node may be wrong. `dropped` counts those
    that were not ours to apply, by reason.
    """

    account: str
    service: PubsubService
    on_unsure: NodeCallback = lambda pk: None
    on_doubt: NodeCallback = lambda pk: None
    on_overflow: Callable[[], None] = lambda: None
    dropped: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._queue: asyncio.Queue[PubsubEvent] = asyncio.Queue(maxsize=settings.EVENT_QUEUE_SIZE)
        self._overflown = False

    def feed(self, event: PubsubEvent) -> None:
        """Take a notification in; returns at once."""
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self.dropped["overflow"] += 1
            self._overflown = True

    async def join(self) -> None:
        """Wait until all notifications taken in so far are applied."""
        await self._queue.join()

    async def run(self) -> None:
        """Apply notifications until cancelled."""
        while True:
            batch = [await self._queue.get()]
            while len(batch) < settings.EVENT_BATCH_SIZE and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            try:
                await self._apply(batch)
            finally:
                for _ in batch:
                    self._queue.task_done()
            if self._overflown and self._queue.empty():
                self._overflown = False
                logger.warning("Notifications for %s were dropped; its nodes are compared anew.", self.account)
                self.on_overflow()

    async def _apply(self, batch: list[PubsubEvent]) -> None:
        by_node: dict[NodeAddress, list[PubsubEvent]] = {}
        for event in batch:
            if (address := self._address(event)) is not None:
                by_node.setdefault(address, []).append(event)
        for address, events in by_node.items():
            await self._apply_to_node(address, events)

    def _address(self, event: PubsubEvent) -> NodeAddress | None:
        """Return the node that a notification is about, None when its sender cannot be a service of ours."""
        try:
            sender = jid.normalise(event.sender) if event.sender else self.account
        except InvalidRequest:
            self.dropped["malformed sender"] += 1
            return None
        if "/" in sender:
            self.dropped["full JID"] += 1
            return None
        return NodeAddress(sender, event.node)

    async def _apply_to_node(self, address: NodeAddress, events: list[PubsubEvent]) -> None:
        """Apply events of one node; while the database is away, wait for it."""
        delay, attempts, doubtful = 0.1, 0, False
        while True:
            try:
                await (self._doubt(address) if doubtful else self._try(address, events))
            except (OperationalError, InterfaceError) as error:
                logger.warning("The database does not take notifications now (%s); trying again.", type(error).__name__)
                await asyncio.sleep(delay)
                delay, attempts = min(delay * 2, 5.0), attempts + 1
                doubtful = doubtful or (attempts >= ATTEMPTS and await self._database_answers(address))
            except Exception as error:
                bug = None if isinstance(error, PubsubCacheError) else error
                logger.warning("Notifications of %s could not be applied: %s", address.uri, error, exc_info=bug)
                if doubtful:
                    return
                doubtful = True
            else:
                return

    async def _database_answers(self, address: NodeAddress) -> bool:
        """Whether the database is there, so that it is what the events bring that it does not take."""
        try:
            await in_thread(nodes.find_node)(self.account, address)
        except (OperationalError, InterfaceError):
            return False
        return True

    async def _doubt(self, address: NodeAddress) -> None:
        node = await in_thread(nodes.find_node)(self.account, address)
        if node is not None:
            await in_thread(nodes.doubt_node)(node.pk)
            self.on_doubt(node.pk)

    async def _try(self, address: NodeAddress, events: list[PubsubEvent]) -> None:
        node = await in_thread(nodes.find_node)(self.account, address)
        if node is None:
            self.dropped["unknown node"] += len(events)
            return
        changes: list[Arrival] = []
        doubtful = False
        for event in events:
            doubtful = doubtful or bool(event.unreadable)
            match event.kind:
                case "items":
                    changes += [_change(change, event.delayed) for change in event.changes]
                case "purge":
                    changes.append(PurgeAll())
                case "delete":
                    # What comes after it is of another node of that name, which is not in the cache.
                    await self._delete(node)
                    return
                case "configuration":
                    doubtful = True
                case "subscription":
                    doubtful = await self._subscription(node, event) or doubtful
        await self._write(node, changes)
        if doubtful:
            await in_thread(nodes.doubt_node)(node.pk)
            self.on_doubt(node.pk)

    async def _delete(self, node: PubsubNode) -> None:
        await in_thread(nodes.remove_node)(node.pk)
        await announce(node_deleted, node_pk=node.pk, account=self.account, address=node.address)

    async def _subscription(self, node: PubsubNode, event: PubsubEvent) -> bool:
        """Keep a change of our subscription; return whether something may have been missed."""
        try:
            if event.subscriber and jid.bare(event.subscriber) != self.account:
                return False
        except InvalidRequest:
            return False
        subscribed = event.subscription == "subscribed"
        await in_thread(nodes.set_subscribed)(node.pk, subscribed)
        return True

    async def _write(self, node: PubsubNode, changes: list[Arrival]) -> None:
        if not changes:
            return
        changes = await self._complete(node, changes)
        last = {change.item.id: change for change in changes if isinstance(change, _Arrived)}
        prepared = await prepare(node.analyser, node.address, [change.item for change in last.values()])
        ready: list[Change] = [prepared[c.item.id] if isinstance(c, _Arrived) else c for c in changes]
        outcome = await in_thread(apply_changes)(node.pk, ready)
        if outcome is None:
            self.dropped["node not synchronised"] += 1
            return
        await self._tell(outcome)

    async def _complete(self, node: PubsubNode, changes: list[Arrival]) -> list[Arrival]:
        """Bring items to what the service would answer for them.

        Those without a payload (XEP-0060, 4.3) are fetched, and left out when gone since; also those told late that
        are not what the cache has. Some services name the publisher only in notifications: whether ours does is
        seen by fetching an item once.
        """
        arrivals = [change for change in changes if isinstance(change, _Arrived)]
        await self._leave_out_late(node, arrivals)
        wanted = {change.item.id for change in arrivals if not change.has_payload}
        named = [change.item for change in arrivals if change.item.publisher]
        if named and "publishers" not in node.extra:
            wanted.add(named[-1].id)
        found: dict[str, Item] = {}
        if wanted:
            found = {item.id: item for item in await live.read_ids(self.service, node.address, sorted(wanted))}
        if named and "publishers" not in node.extra and named[-1].id in found:
            await in_thread(nodes.learn)(node.pk, publishers=bool(found[named[-1].id].publisher))
            node.extra["publishers"] = bool(found[named[-1].id].publisher)
        completed: list[Arrival] = []
        for change in changes:
            if not isinstance(change, _Arrived):
                completed.append(change)
            elif not change.has_payload:
                if change.item.id in found:
                    completed.append(_Arrived(found[change.item.id], True))
            else:
                secret = not node.extra.get("publishers")
                completed.append(_Arrived(change.item.without_publisher() if secret else change.item, True))
        return completed

    async def _leave_out_late(self, node: PubsubNode, arrivals: list[_Arrived]) -> None:
        """Have the payload of what was told late fetched, unless the cache has just that."""
        late = [arrived for arrived in arrivals if arrived.delayed and arrived.has_payload]
        if late:
            stored = await in_thread(stored_data)(node.pk, [arrived.item.id for arrived in late])
            for arrived in late:
                item = arrived.item
                arrived.has_payload = stored.get(item.id) in (item.xml, item.without_publisher().xml)

    async def _tell(self, outcome: Outcome) -> None:
        if outcome.grown or outcome.order_unknown:
            self.on_unsure(outcome.node_pk)
        if outcome.purged:
            await announce(node_purged, node_pk=outcome.node_pk)
        if outcome.published:
            await announce(items_published, node_pk=outcome.node_pk, names=outcome.published)
        if outcome.retracted:
            await announce(items_retracted, node_pk=outcome.node_pk, names=outcome.retracted)


def _change(change: Publish | Retract, delayed: bool) -> Arrival:
    if isinstance(change, Retract):
        return Removal(change.id)
    return _Arrived(change.item, change.has_payload, delayed)
