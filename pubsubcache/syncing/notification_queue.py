"""A bounded queue of notifications: in order for each node, fair between services and between their nodes.

Services take turns, and so do the nodes of a service, so a flood on one node delays the others by one turn. When the
queue is full, it drops the notifications of the node or service that fills it; the others keep theirs.
`_invalidations` lists the nodes that lost notifications until they are invalidated.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import count

from pubsubcache.types import NodeAddress, Publish, PubsubEvent

#: Where notifications were lost: a node, all nodes of a service, or all nodes.
Scope = NodeAddress | str | None

MAX_EVENTS = 20_000  # of one account
MAX_BYTES = 64 * 1024 * 1024
BLAME = 64  # if no service takes 1/64 of a full queue, the notifications of all services are dropped
MAX_INVALIDATIONS = 256  # scopes to invalidate; if there are more, all nodes are invalidated
TURN_BYTES = 4 * 1024 * 1024  # of notifications applied in one turn, unless a single one is larger
BYTES_PER_EVENT = 1_000
BYTES_PER_TAG = 160


class Place(Enum):
    """Where a batch is."""

    OUT = "out"  # being applied
    ASIDE = "aside"  # waiting for a service or the database; its node gets no turns
    READY = "ready"  # waiting for its node's turn
    GONE = "gone"  # applied or dropped


@dataclass(eq=False, slots=True)
class Batch:
    """Consecutive notifications of one node, taken from the queue together.

    `progress` and `attempts` belong to the code that applies the batch. `task` is cancelled if the batch is dropped.
    `more` is set when another notification of the node arrives.
    """

    address: NodeAddress
    events: list[PubsubEvent]
    first: int  # the number of the first event
    cost: int
    place: Place = Place.OUT
    progress: object = None
    attempts: int = 0
    task: asyncio.Task[None] | None = None
    more: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False, slots=True)
class _Lane:
    """The pending notifications of one node: at most one batch, and the notifications that arrived after it."""

    address: NodeAddress
    service: "_Service"
    batch: Batch | None = None
    waiting: deque[tuple[int, PubsubEvent, int]] = field(default_factory=deque)  # number, event, size
    cost: int = 0
    has_turn: bool = False

    @property
    def oldest(self) -> int:
        """The number of the oldest pending event."""
        return self.batch.first if self.batch is not None else self.waiting[0][0]


@dataclass(eq=False, slots=True)
class _Service:
    name: str
    lanes: dict[str, _Lane] = field(default_factory=dict)
    ready: deque[_Lane] = field(default_factory=deque)
    cost: int = 0


class EventQueue:
    """Pending notifications of one account.

    Args:
        max_events: The maximum number of notifications, not counting those being applied.
        max_bytes: The maximum memory they take, as estimated by `size_of`.
    """

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        # One number limits both: an event costs its size, but at least an equal share of the capacity.
        self._capacity = max(max_bytes, max_events)
        self._least = self._capacity // max_events
        self._cost = 0
        self._services: dict[str, _Service] = {}
        self._turns: deque[_Service] = deque()
        self._invalidations: dict[Scope, int] = {}
        self._versions = count()
        self._fed = 0
        self._news = asyncio.Event()
        self._progress = asyncio.Event()

    # Adding

    def put(self, address: NodeAddress, event: PubsubEvent) -> int:
        """Append a notification of a node; return the number of notifications dropped to make room."""
        self._fed += 1
        size = size_of(event)
        cost = self._cost_of(size)
        if cost > self._capacity:
            self.invalidate(address)
            return 1
        dropped = self._make_room(cost)
        lane = self._lane(address)
        lane.waiting.append((self._fed, event, size))
        self._charge(lane, cost)
        if lane.batch is None:
            self._give_turn(lane)
        else:
            lane.batch.more.set()
        return dropped

    def _make_room(self, cost: int) -> int:
        dropped = 0
        while self._cost + cost > self._capacity:
            heaviest = max(self._services.values(), key=lambda service: service.cost)
            if heaviest.cost * BLAME < self._capacity:
                dropped += sum(self._drop(lane) for lane in list(self._lanes()))
                self.invalidate(None)
                continue
            lane = max(heaviest.lanes.values(), key=lambda lane: lane.cost)
            if lane.cost * 2 >= heaviest.cost:
                dropped += self._drop(lane)
                self.invalidate(lane.address)
            else:
                dropped += sum(self._drop(lane) for lane in list(heaviest.lanes.values()))
                self.invalidate(heaviest.name)
        return dropped

    # Handing out

    async def wait(self) -> None:
        """Wait until there is an invalidation or a batch to take."""
        while not self._turns and not self._invalidations:
            self._news.clear()
            await self._news.wait()

    def take(self, limit: int) -> Batch | None:
        """Return the next batch in turn, of at most `limit` changes, or None if no node is ready.

        The node gets no further turn until the batch is passed to `done` or `put_back`.
        """
        if not self._turns:
            return None
        service = self._turns.popleft()
        lane = service.ready.popleft()
        lane.has_turn = False
        if service.ready:
            self._turns.append(service)
        batch = lane.batch
        if batch is None:
            batch = lane.batch = self._gather(lane, limit)
        self._charge(lane, -batch.cost)
        batch.place = Place.OUT
        return batch

    def _gather(self, lane: _Lane, limit: int) -> Batch:
        first, event, size = lane.waiting.popleft()
        batch = Batch(lane.address, [event], first, self._cost_of(size))
        changes, total = max(1, len(event.changes)), size
        while lane.waiting:
            _, event, size = lane.waiting[0]
            changes += max(1, len(event.changes))
            total += size
            if changes > limit or total > TURN_BYTES:
                break
            lane.waiting.popleft()
            batch.events.append(event)
            batch.cost += self._cost_of(size)
        return batch

    def _cost_of(self, size: int) -> int:
        return max(self._least, size)

    def done(self, batch: Batch) -> None:
        """Remove a batch that was applied or dropped."""
        if batch.place is Place.GONE:
            return
        lane = self._services[batch.address.service].lanes[batch.address.name]
        if batch.place is not Place.OUT:
            self._charge(lane, -batch.cost)
        batch.place = Place.GONE
        lane.batch = None
        self._tidy(lane)

    def set_aside(self, batch: Batch) -> None:
        """Set a batch aside: its node gets no turn until the batch is put back; other nodes do.

        The batch counts towards the limits again, so other notifications may be dropped to make room.
        """
        if batch.place is Place.OUT:
            batch.place = Place.ASIDE
            self._charge(self._lane(batch.address), batch.cost)
            self._make_room(0)

    def put_back(self, batch: Batch) -> None:
        """Return a batch to the front of its node's notifications; `take` will return it again."""
        self.set_aside(batch)
        if batch.place is Place.ASIDE:
            batch.place = Place.READY
            self._give_turn(self._lane(batch.address))

    # Dropping

    def clear(self) -> int:
        """Drop everything, including batches that are being applied; return the number of dropped events."""
        dropped = 0
        for lane in list(self._lanes()):
            address, batch = lane.address, lane.batch
            dropped += self._drop(lane)
            if batch is not None and batch.place is Place.OUT:
                dropped += len(batch.events)
                self.done(batch)
            self.invalidate(address)
        return dropped

    def shed(self, scope: NodeAddress | str) -> int:
        """Drop the pending notifications of a node or service and invalidate it; return their number."""
        name, node = (scope, None) if isinstance(scope, str) else (scope.service, scope.name)
        service = self._services.get(name)
        lanes = [] if service is None else [lane for key, lane in service.lanes.items() if node in (None, key)]
        self.invalidate(scope)
        return sum(self._drop(lane) for lane in lanes)

    def invalidate(self, scope: Scope) -> None:
        """Record that notifications of `scope` were lost."""
        if scope is None or None in self._invalidations or len(self._invalidations) >= MAX_INVALIDATIONS:
            self._invalidations = {None: next(self._versions)}
        else:
            self._invalidations[scope] = next(self._versions)
        self._news.set()

    def next_invalidation(self) -> tuple[Scope, int] | None:
        """Return the oldest scope to invalidate, with the version to pass to `resolve`, or None."""
        return next(iter(self._invalidations.items()), None)

    def resolve(self, scope: Scope, version: int) -> None:
        """Remove an invalidation unless it was requested again after `version`."""
        if self._invalidations.get(scope) == version:
            del self._invalidations[scope]
        self._moved()

    def _drop(self, lane: _Lane) -> int:
        """Drop the pending events of a node, except those being applied; return their number."""
        dropped = len(lane.waiting)
        self._charge(lane, -sum(self._cost_of(size) for _, _, size in lane.waiting))
        lane.waiting.clear()
        batch = lane.batch
        if batch is not None and batch.place is not Place.OUT:
            dropped += len(batch.events)
            if batch.task is not None:
                batch.task.cancel()
            self.done(batch)
        else:
            self._tidy(lane)
        return dropped

    # Waiting

    async def settled(self, address: NodeAddress) -> None:
        """Wait until a node's notifications so far are applied or dropped, and its invalidation is written."""
        last = self._fed
        while self._is_pending(address, last):
            await self._progress.wait()

    async def join(self) -> None:
        """Wait until all notifications so far are applied or dropped, and invalidations are written."""
        last = self._fed
        for address in [lane.address for lane in self._lanes()]:
            while self._is_pending(address, last):
                await self._progress.wait()
        while self._invalidations:
            await self._progress.wait()

    def _is_pending(self, address: NodeAddress, last: int) -> bool:
        """Whether a node has unfinished notifications up to the number `last`, or an unwritten invalidation."""
        if not self._invalidations.keys().isdisjoint((address, address.service, None)):
            return True
        service = self._services.get(address.service)
        lane = service.lanes.get(address.name) if service is not None else None
        return lane is not None and lane.oldest <= last

    def _moved(self) -> None:
        self._progress.set()
        self._progress = asyncio.Event()

    # Lanes

    def _lanes(self) -> Iterator[_Lane]:
        for service in self._services.values():
            yield from service.lanes.values()

    def _lane(self, address: NodeAddress) -> _Lane:
        service = self._services.get(address.service)
        if service is None:
            service = self._services[address.service] = _Service(address.service)
        lane = service.lanes.get(address.name)
        if lane is None:
            lane = service.lanes[address.name] = _Lane(address, service)
        return lane

    def _charge(self, lane: _Lane, cost: int) -> None:
        lane.cost += cost
        lane.service.cost += cost
        self._cost += cost

    def _give_turn(self, lane: _Lane) -> None:
        if lane.has_turn:
            return
        lane.has_turn = True
        lane.service.ready.append(lane)
        if len(lane.service.ready) == 1:
            self._turns.append(lane.service)
        self._news.set()

    def _take_turn_from(self, lane: _Lane) -> None:
        if lane.has_turn:
            lane.has_turn = False
            lane.service.ready.remove(lane)
            if not lane.service.ready:
                self._turns.remove(lane.service)

    def _tidy(self, lane: _Lane) -> None:
        """Give a node its next turn, or remove it if it has no more notifications."""
        if lane.batch is None and lane.waiting:
            self._give_turn(lane)
        elif lane.batch is None:
            self._take_turn_from(lane)
            del lane.service.lanes[lane.address.name]
            if not lane.service.lanes:
                del self._services[lane.service.name]
        self._moved()


def size_of(event: PubsubEvent) -> int:
    """Estimate the memory that a notification takes, in bytes: its text, and the elements parsed from it."""
    size = BYTES_PER_EVENT + sys.getsizeof(event.node) + sys.getsizeof(event.sender)
    for change in event.changes:
        if isinstance(change, Publish):
            xml = change.item.xml
            size += BYTES_PER_EVENT + 2 * sys.getsizeof(xml) + BYTES_PER_TAG * (xml.count("<") + xml.count("="))
        else:
            size += sys.getsizeof(change) + sys.getsizeof(change.id)
    return size


__all__ = ["Batch", "EventQueue", "Place", "Scope", "size_of"]
