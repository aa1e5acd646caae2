"""Test that floods are detected by their rate and shed while they last, without loss for others."""

import asyncio

import pytest

from pubsubcache.syncing import floods
from pubsubcache.syncing.floods import BURST, MAX_LEVELS, RATE, Floods
from pubsubcache.syncing.notification_queue import EventQueue
from pubsubcache.types import NodeAddress
from tests.fakes import retract_event
from tests.unit.core.test_event_queue import held

EVIL, GOOD = "evil.example.org", "good.example.org"


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Line:
    """A queue behind the shedding of floods."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.queue = EventQueue(max_events=100_000, max_bytes=1 << 40)
        self.floods = Floods(self.queue, self.clock)

    def feed(self, service: str, number: int, nodes: int = 1, per_second: float = 0.0) -> int:
        """Send notifications of several nodes in turn; return how many were shed."""
        shed = 0
        for place in range(number):
            address = NodeAddress(service, f"node-{place % nodes}")
            if self.floods.take(address):
                shed += 1
            else:
                self.queue.put(address, retract_event("x", address=address))
            self.clock.now += 1 / per_second if per_second else 0
        return shed

    async def next_invalidated(self) -> object:
        async with asyncio.timeout(60):
            while (invalidation := self.queue.next_invalidation()) is None:
                await self.queue.wait()
        self.queue.resolve(*invalidation)
        self.floods.invalidated(invalidation[0], [])
        return invalidation[0]


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setattr(floods, "INTERVAL", 0.001)
    return Line()


async def test_burst_is_applied(line: Line) -> None:
    assert line.feed(EVIL, int(BURST)) == 0
    assert line.queue.next_invalidation() is None
    assert held(line.queue) == BURST


async def test_permitted_rate_is_never_shed(line: Line) -> None:
    assert line.feed(EVIL, int(BURST * 3), per_second=RATE) == 0
    assert line.queue.next_invalidation() is None


async def test_only_the_flooding_node_is_shed_with_its_waiting_notifications(line: Line) -> None:
    line.feed(EVIL, 10, nodes=10)
    assert line.feed(EVIL, int(BURST) + 500) >= 500
    assert NodeAddress(EVIL, "node-0") in line.floods
    assert NodeAddress(EVIL, "node-1") not in line.floods
    assert await line.next_invalidated() == NodeAddress(EVIL, "node-0")
    assert held(line.queue) == 9
    assert line.feed(EVIL, 10, nodes=10) == 1


async def test_service_is_shed_when_its_nodes_share_the_flood(line: Line) -> None:
    line.feed(GOOD, 5)
    assert line.feed(EVIL, int(BURST) + 500, nodes=5) == 500
    assert NodeAddress(EVIL, "another") in line.floods
    assert NodeAddress(GOOD, "node-0") not in line.floods
    assert await line.next_invalidated() == EVIL
    assert held(line.queue) == 5
    assert line.floods.dropped == BURST + 500


async def test_flood_invalidates_repeatedly_until_it_ends(line: Line) -> None:
    line.feed(EVIL, int(BURST) + 1, nodes=5)
    for _ in range(3):  # repeatedly, as a node may have been read between two notifications
        assert line.feed(EVIL, 100, nodes=5, per_second=2 * RATE) == 100
        assert await line.next_invalidated() == EVIL
    assert EVIL in line.floods.pks
    line.clock.now += BURST / RATE
    assert await line.next_invalidated() == EVIL
    assert EVIL not in line.floods.pks
    assert line.feed(EVIL, 10, nodes=5) == 0


async def test_flood_ends_even_if_all_nodes_are_invalidated(line: Line) -> None:
    line.feed(EVIL, int(BURST) + 1, nodes=5)
    line.queue.invalidate(None)
    line.clock.now += BURST / RATE
    assert await line.next_invalidated() is None
    assert await line.next_invalidated() == EVIL
    assert EVIL not in line.floods.pks


async def test_number_of_counters_is_bounded(line: Line) -> None:
    for number in range(3 * MAX_LEVELS):
        line.floods.take(NodeAddress(EVIL, f"node-{number}"))
        line.floods.take(NodeAddress(f"{number}.example.org", "node"))
        line.clock.now += 2 / RATE
    assert len(line.floods._services) <= MAX_LEVELS
    assert len(line.floods._services[EVIL].nodes) <= MAX_LEVELS
