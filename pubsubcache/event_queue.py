"""A queue of notifications: in order for each node, fair between services and between their nodes, bounded.

Services take turns, and so do the nodes of a service, so a flood on one node delays the others by one turn. When the
queue is full, the node or service that fills it loses its notifications; the others keep theirs. The queue remembers
the nodes that lost something in `doubts` until they are invalidated.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import Any

from pubsubcache.types import NodeAddress, Publish, PubsubEvent

#: What lost notifications: a node, all nodes of a service, or all nodes.
Scope = NodeAddress | str | None

BLAME = 64  # a service that takes less than this part of a full queue is not the one that fills it
MAX_DOUBTS = 256  # scopes to invalidate; with more, all nodes are
TURN_BYTES = 4 * 1024 * 1024  # of notifications applied in one turn, unless a single one is larger
BYTES_PER_EVENT = 1_000
BYTES_PER_TAG = 160


class Place(Enum):
    """Where a batch is."""

    OUT = "out"  # being applied
    ASIDE = "aside"  # waiting for something else, its node having no turns
    READY = "ready"  # waiting for its node's turn
    GONE = "gone"  # applied or dropped


@dataclass(eq=False, slots=True)
class Batch:
    """Consecutive notifications of one node, taken from the queue together.

    `progress` and `attempts` belong to whoever applies the batch. `task` is cancelled when the batch is dropped.
    `more` is set when another notification of the node arrives.
    """

    address: NodeAddress
    events: list[PubsubEvent]
    first: int  # the number of the first event
    cost: int
    place: Place = Place.OUT
    progress: Any = None
    attempts: int = 0
    task: asyncio.Task[None] | None = None
    more: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(eq=False, slots=True)
class _Lane:
    """The pending notifications of one node: at most one batch, and what came after it."""

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
        max_events: Notifications held at most, those being applied aside.
        max_bytes: Memory that they may take, as `size_of` estimates it.
    """

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        # One number bounds both: each event costs its size, but at least its share of the events.
        self._capacity = max(max_bytes, max_events)
        self._least = self._capacity // max_events
        self._cost = 0
        self._services: dict[str, _Service] = {}
        self._turns: deque[_Service] = deque()
        self._doubts: dict[Scope, int] = {}
        self._versions = count()
        self._fed = 0
        self._news = asyncio.Event()
        self._progress = asyncio.Event()

    def __len__(self) -> int:
        """Return the number of events held, those being applied included."""
        return sum(len(lane.waiting) + (len(lane.batch.events) if lane.batch else 0) for lane in self._lanes())

    # Taking in

    def put(self, address: NodeAddress, event: PubsubEvent) -> int:
        """Append a notification of a node; return how many notifications were dropped to make room."""
        self._fed += 1
        size = size_of(event)
        cost = self._cost_of(size)
        if cost > self._capacity:
            self.doubt(address)
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
                self.doubt(None)
                continue
            lane = max(heaviest.lanes.values(), key=lambda lane: lane.cost)
            if lane.cost * 2 >= heaviest.cost:
                dropped += self._drop(lane)
                self.doubt(lane.address)
            else:
                dropped += sum(self._drop(lane) for lane in list(heaviest.lanes.values()))
                self.doubt(heaviest.name)
        return dropped

    # Handing out

    async def wait(self) -> None:
        """Wait until there is a doubt or a batch to take."""
        while not self._turns and not self._doubts:
            self._news.clear()
            await self._news.wait()

    def take(self, limit: int) -> Batch | None:
        """Return the next batch in turn, of at most `limit` changes, or None when no node is ready.

        Nothing else of its node is handed out until the batch is given to `done`, or back.
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
        """Forget a batch, which was applied or given up."""
        if batch.place is Place.GONE:
            return
        lane = self._services[batch.address.service].lanes[batch.address.name]
        if batch.place is not Place.OUT:
            self._charge(lane, -batch.cost)
        batch.place = Place.GONE
        lane.batch = None
        self._tidy(lane)

    def set_aside(self, batch: Batch) -> None:
        """Let a batch wait: its node has no turn until the batch is put back; the others go on."""
        if batch.place is Place.OUT:
            batch.place = Place.ASIDE
            self._charge(self._lane(batch.address), batch.cost)

    def put_back(self, batch: Batch) -> None:
        """Return a batch to the front of its node's notifications, to be handed out again."""
        self.set_aside(batch)
        if batch.place is Place.ASIDE:
            batch.place = Place.READY
            self._give_turn(self._lane(batch.address))

    # Dropping

    def clear(self) -> int:
        """Drop everything, batches handed out included; return how many events were dropped."""
        dropped = 0
        for lane in list(self._lanes()):
            address, batch = lane.address, lane.batch
            dropped += self._drop(lane)
            if batch is not None and batch.place is Place.OUT:
                dropped += len(batch.events)
                self.done(batch)
            self.doubt(address)
        return dropped

    def shed(self, scope: NodeAddress | str) -> int:
        """Drop what waits of a node or a service, and remember it as lost; return how many events were dropped."""
        name, node = (scope, None) if isinstance(scope, str) else (scope.service, scope.name)
        service = self._services.get(name)
        lanes = [] if service is None else [lane for key, lane in service.lanes.items() if node in (None, key)]
        self.doubt(scope)
        return sum(self._drop(lane) for lane in lanes)

    def doubt(self, scope: Scope) -> None:
        """Remember that notifications of `scope` were lost."""
        if scope is None or None in self._doubts or len(self._doubts) >= MAX_DOUBTS:
            self._doubts = {None: next(self._versions)}
        else:
            self._doubts[scope] = next(self._versions)
        self._news.set()

    def next_doubt(self) -> tuple[Scope, int] | None:
        """Return the oldest scope to invalidate, with the version to give to `resolve`, or None."""
        return next(iter(self._doubts.items()), None)

    def resolve(self, scope: Scope, version: int) -> None:
        """Forget a doubt, unless it arose again since `version`."""
        if self._doubts.get(scope) == version:
            del self._doubts[scope]
        self._moved()

    def _drop(self, lane: _Lane) -> int:
        """Drop the pending events of a node, those being applied excepted; return their number."""
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
        """Wait until the notifications of a node taken in so far are applied or dropped, and its doubts written."""
        taken_in = self._fed
        while self._is_pending(address, taken_in):
            await self._progress.wait()

    async def join(self) -> None:
        """Wait until what was taken in is applied or dropped, and doubts are written."""
        taken_in = self._fed
        for address in [lane.address for lane in self._lanes()]:
            while self._is_pending(address, taken_in):
                await self._progress.wait()
        while self._doubts:
            await self._progress.wait()

    def _is_pending(self, address: NodeAddress, taken_in: int) -> bool:
        if not self._doubts.keys().isdisjoint((address, address.service, None)):
            return True
        service = self._services.get(address.service)
        lane = service.lanes.get(address.name) if service is not None else None
        return lane is not None and lane.oldest <= taken_in

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
        """Give a node its next turn, or forget it when nothing of it is left."""
        if lane.batch is None and lane.waiting:
            self._give_turn(lane)
        elif lane.batch is None:
            self._take_turn_from(lane)
            del lane.service.lanes[lane.address.name]
            if not lane.service.lanes:
                del self._services[lane.service.name]
        self._moved()


def size_of(event: PubsubEvent) -> int:
    """Estimate the memory that a notification takes, in bytes: its texts, and the elements parsed from them."""
    size = BYTES_PER_EVENT + sys.getsizeof(event.node) + sys.getsizeof(event.sender)
    for change in event.changes:
        if isinstance(change, Publish):
            xml = change.item.xml
            size += BYTES_PER_EVENT + 2 * sys.getsizeof(xml) + BYTES_PER_TAG * (xml.count("<") + xml.count("="))
        else:
            size += sys.getsizeof(change) + sys.getsizeof(change.id)
    return size


__all__ = ["Batch", "EventQueue", "Place", "Scope", "size_of"]
