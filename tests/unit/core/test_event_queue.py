"""Test the queue of notifications: order, fair turns, bounds, and waiting for a node."""

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pubsubcache.syncing.notification_queue import MAX_INVALIDATIONS, Batch, EventQueue, Place, Scope, size_of
from pubsubcache.types import NodeAddress, PubsubEvent
from tests.fakes import make_item, publish_event, retract_event

LARGE = 1 << 40


def queue_of(max_events: int = 1000, max_bytes: int = LARGE) -> EventQueue:
    return EventQueue(max_events=max_events, max_bytes=max_bytes)


def address_of(service: str, node: str = "node") -> NodeAddress:
    return NodeAddress(service, node)


def held(queue: EventQueue) -> int:
    """Return the number of events in the queue, including those being applied."""
    return sum(len(lane.waiting) + (len(lane.batch.events) if lane.batch else 0) for lane in queue._lanes())


def put(queue: EventQueue, service: str, node: str = "node", name: str = "x") -> int:
    address = address_of(service, node)
    return queue.put(address, retract_event(name, address=address))


def taken(queue: EventQueue, limit: int = 10) -> Batch:
    batch = queue.take(limit)
    assert batch is not None
    return batch


def names(batch: Batch) -> list[str]:
    return [change.id for event in batch.events for change in event.changes]  # type: ignore[union-attr]


def invalidations(queue: EventQueue) -> list[Scope]:
    found = []
    while (entry := queue.next_invalidation()) is not None:
        found.append(entry[0])
        queue.resolve(*entry)
    return found


# Order and turns


def test_notifications_of_a_node_come_out_in_order() -> None:
    queue = queue_of()
    for number in range(25):
        put(queue, "a", name=str(number))
    found: list[str] = []
    while (batch := queue.take(10)) is not None:
        found += names(batch)
        queue.done(batch)
    assert found == [str(number) for number in range(25)]
    assert held(queue) == 0


def test_services_take_turns_then_their_nodes() -> None:
    queue = queue_of()
    for node in range(3):
        put(queue, "flood", str(node))
        put(queue, "flood", str(node))
    put(queue, "quiet")
    order = []
    while (batch := queue.take(1)) is not None:
        order.append((batch.address.service, batch.address.name))
        queue.done(batch)
    assert order[1] == ("quiet", "node")
    assert [name for service, name in order if service == "flood"] == ["0", "1", "2", "0", "1", "2"]


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(0, 3))
def test_flood_delays_another_service_by_at_most_one_turn_each(floods: list[int], taken_before: int) -> None:
    queue = queue_of(10_000)
    for number, nodes in enumerate(floods):
        for node in range(nodes):
            for _ in range(30):
                put(queue, f"flood-{number}", str(node))
    for _ in range(taken_before):
        queue.done(taken(queue))
    put(queue, "quiet")
    turns = 0
    while (batch := taken(queue)).address.service != "quiet":
        queue.done(batch)
        turns += 1
    assert turns <= len(floods)


def test_turn_is_bounded_in_changes_and_bytes() -> None:
    queue = queue_of()
    for number in range(10):
        queue.put(address_of("a"), retract_event(*(f"{number}-{change}" for change in range(4))))
    assert len(taken(queue).events) == 2
    text = "x" * 1_500_000
    for _ in range(5):
        queue.put(address_of("b"), publish_event(make_item("large", text)))
    assert len(taken(queue).events) == 1


def test_node_gets_no_turn_while_its_batch_is_out_or_aside() -> None:
    queue = queue_of()
    put(queue, "a", "one", "first")
    put(queue, "a", "two")
    batch = taken(queue)
    put(queue, "a", "one", "second")
    queue.done(taken(queue))
    assert queue.take(10) is None
    queue.set_aside(batch)
    assert queue.take(10) is None
    queue.put_back(batch)
    assert taken(queue) is batch
    queue.done(batch)
    assert names(taken(queue)) == ["second"]


# Bounds


def test_node_that_fills_the_queue_loses_its_own_notifications() -> None:
    queue = queue_of(10)
    put(queue, "a", "quiet")
    put(queue, "b")
    assert [put(queue, "a", "busy", str(number)) for number in range(9)] == [0] * 8 + [8]
    assert invalidations(queue) == [address_of("a", "busy")]
    found = {batch.address: names(batch) for batch in iter(lambda: queue.take(10), None)}
    assert found == {address_of("a", "quiet"): ["x"], address_of("b"): ["x"], address_of("a", "busy"): ["8"]}


def test_service_that_fills_the_queue_loses_its_own_notifications() -> None:
    queue = queue_of(10)
    put(queue, "b")
    for number in range(10):
        put(queue, "a", str(number))
    assert invalidations(queue) == ["a"]
    assert {batch.address for batch in iter(lambda: queue.take(10), None)} == {address_of("b"), address_of("a", "9")}


def test_overflow_by_many_services_invalidates_all_nodes() -> None:
    queue = queue_of(200)
    assert sum(put(queue, str(number)) for number in range(201)) == 200
    assert invalidations(queue) == [None]
    assert held(queue) == 1


def test_batch_set_aside_counts_and_is_dropped_with_its_node() -> None:
    queue = queue_of(4)
    put(queue, "a")
    put(queue, "a")
    batch = taken(queue)
    queue.set_aside(batch)
    assert [put(queue, "b", str(number)) for number in range(2)] == [0, 0]
    assert put(queue, "b", "2") == 2
    assert batch.place is Place.GONE
    queue.put_back(batch)
    queue.done(batch)
    assert held(queue) == 3
    assert invalidations(queue) == [address_of("a")]


def test_batch_being_applied_is_not_dropped_by_a_flood() -> None:
    queue = queue_of(2)
    put(queue, "a")
    batch = taken(queue)
    for _ in range(5):
        put(queue, "a")
    assert batch.place is Place.OUT
    queue.done(batch)
    assert invalidations(queue) == [address_of("a")]


def test_notification_larger_than_the_queue_is_dropped() -> None:
    queue = queue_of(10, 20_000)
    event = publish_event(make_item("x", "y" * 30_000))
    assert queue.put(address_of("a"), event) == 1
    assert held(queue) == 0
    assert invalidations(queue) == [address_of("a")]


def test_bytes_are_bounded() -> None:
    queue = queue_of(1000, 1_000_000)
    for _ in range(100):
        queue.put(address_of("a"), publish_event(make_item("x", "y" * 30_000)))
        queue.put(address_of("b"), retract_event("x"))
    size = sum(size_of(event) for batch in iter(lambda: queue.take(1), None) for event in batch.events)
    assert size <= 1_000_000
    assert invalidations(queue) == [address_of("a")]


def test_many_invalidations_become_one_for_everything() -> None:
    queue = queue_of()
    for number in range(MAX_INVALIDATIONS + 1):
        queue.invalidate(str(number))
    assert invalidations(queue) == [None]


@pytest.mark.parametrize("scope", [address_of("a"), "a", None])
def test_invalidation_repeated_while_it_is_written_is_kept(scope: Scope) -> None:
    queue = queue_of()
    queue.invalidate(scope)
    entry = queue.next_invalidation()
    queue.invalidate(scope)
    assert entry is not None
    queue.resolve(*entry)
    assert invalidations(queue) == [scope]


def test_clear_drops_batches_handed_out_and_invalidates_their_nodes() -> None:
    queue = queue_of()
    for node in ("out", "aside", "waiting"):
        put(queue, "a", node)
    put(queue, "a", "out")
    out, aside = taken(queue, 1), taken(queue, 1)
    queue.set_aside(aside)
    assert queue.clear() == 4
    assert (out.place, aside.place, held(queue), queue.take(1)) == (Place.GONE, Place.GONE, 0, None)
    assert set(invalidations(queue)) == {address_of("a", node) for node in ("out", "aside", "waiting")}
    put(queue, "a", "out", "new")
    queue.done(out)
    queue.put_back(aside)
    assert names(taken(queue)) == ["new"]


# Waiting


async def finished(task: asyncio.Task[Any]) -> bool:
    """Return whether a task is done after all ready callbacks have run."""
    for _ in range(5):
        await asyncio.sleep(0)
    return task.done()


async def test_settled_waits_only_for_its_node() -> None:
    queue = queue_of()
    put(queue, "a", "silent")
    silent = taken(queue)
    queue.set_aside(silent)
    put(queue, "a", "other")
    waits = {node: asyncio.create_task(queue.settled(address_of("a", node))) for node in ("silent", "other", "third")}
    joined = asyncio.create_task(queue.join())
    assert [await finished(task) for task in waits.values()] == [False, False, True]
    queue.done(taken(queue))
    assert [await finished(task) for task in waits.values()] == [False, True, True]
    assert not await finished(joined)
    queue.put_back(silent)
    queue.done(taken(queue))
    await asyncio.gather(joined, *waits.values())


async def test_settled_ignores_later_notifications() -> None:
    queue = queue_of()
    put(queue, "a")
    waiting = asyncio.create_task(queue.settled(address_of("a")))
    assert not await finished(waiting)
    put(queue, "a")
    queue.done(taken(queue, 1))
    assert await finished(waiting)
    assert held(queue) == 1


@pytest.mark.parametrize("scope", [address_of("a"), "a", None])
async def test_settled_waits_until_an_invalidation_is_written(scope: Scope) -> None:
    queue = queue_of()
    queue.invalidate(scope)
    waiting = asyncio.create_task(queue.settled(address_of("a")))
    assert not await finished(waiting)
    invalidations(queue)
    assert await finished(waiting)


async def test_wait_returns_when_there_is_work() -> None:
    queue = queue_of()
    waiting = asyncio.create_task(queue.wait())
    assert not await finished(waiting)
    put(queue, "a")
    assert await finished(waiting)


# Random use


class QueueMachine(RuleBasedStateMachine):
    """Uses a small queue at random and compares it with a model."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = queue_of(12)
        self.last_put: Counter[NodeAddress] = Counter()
        self.last_done: dict[NodeAddress, int] = {}
        self.out: list[Batch] = []
        self.aside: list[Batch] = []
        self.invalidated: set[Scope] = set()

    @rule(service=st.sampled_from("abc"), node=st.sampled_from("xyz"))
    def put(self, service: str, node: str) -> None:
        address = address_of(service, node)
        self.last_put[address] += 1
        put(self.queue, service, node, str(self.last_put[address]))
        self.given_back = 0

    @rule(limit=st.integers(1, 4))
    def take(self, limit: int) -> None:
        batch = self.queue.take(limit)
        if batch is not None:
            busy = {other.address for other in (*self.out, *self.aside) if other.place is not Place.GONE}
            assert batch.address not in busy
            self.out.append(batch)

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        batch = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        if batch.place is not Place.GONE:
            numbers = [int(name) for name in names(batch)]
            assert all(before < after for before, after in pairwise([self.last_done.get(batch.address, 0), *numbers]))
            gap = numbers[0] - self.last_done.get(batch.address, 0) - 1
            gap += sum(after - before - 1 for before, after in pairwise(numbers))
            self.check_gap(batch.address, gap)
            self.last_done[batch.address] = numbers[-1]
        self.queue.done(batch)

    def check_gap(self, address: NodeAddress, gap: int) -> None:
        """Assert that a node with missing notifications was invalidated first."""
        if gap:
            assert self.invalidated & {address, address.service, None}

    @precondition(lambda self: self.out)
    @rule(data=st.data(), back=st.booleans())
    def give_back(self, data: st.DataObject, back: bool) -> None:
        batch = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        if batch.place is Place.OUT:
            self.given_back += len(batch.events)
        if back:
            self.queue.put_back(batch)
        else:
            self.queue.set_aside(batch)
            self.aside.append(batch)

    @precondition(lambda self: self.aside)
    @rule()
    def return_aside(self) -> None:
        self.queue.put_back(self.aside.pop(0))

    @rule()
    def clear(self) -> None:
        self.queue.clear()
        assert held(self.queue) == 0

    @invariant()
    def note_invalidations(self) -> None:
        self.invalidated.update(invalidations(self.queue))

    @invariant()
    def is_bounded(self) -> None:
        """Assert the bound; batches that come back may exceed it until the next notification makes room."""
        out = sum(len(batch.events) for batch in self.out if batch.place is Place.OUT)
        assert held(self.queue) - out <= 12

    def teardown(self) -> None:
        for batch in self.out + self.aside:
            self.queue.put_back(batch)
        while (batch := self.queue.take(3)) is not None:
            self.queue.done(batch)
        assert held(self.queue) == 0
        assert not self.queue._services
        assert self.queue._cost == 0


TestQueueMachine = QueueMachine.TestCase


def test_estimated_size_grows_with_the_notification() -> None:
    small: PubsubEvent = publish_event(make_item("x"))
    assert size_of(retract_event("x")) < size_of(small) < size_of(publish_event(make_item("x"), make_item("y")))
    assert size_of(publish_event(make_item("x", "text" * 1000))) > size_of(small) + 4000
