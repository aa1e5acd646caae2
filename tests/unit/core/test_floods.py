"""Test that floods are detected by their rate, shed while they last, and cost others no notification."""

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
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Line:
    """A queue with floods shed before it."""

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

    async def doubted(self) -> object:
        async with asyncio.timeout(10):
            while (doubt := self.queue.next_invalidation()) is None:
                await self.queue.wait()
        self.queue.resolve(*doubt)
        self.floods.invalidated(doubt[0], [])
        return doubt[0]


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    monkeypatch.setattr(floods, "INTERVAL", 0.001)
    return Line()


async def test_burst_is_applied(line: Line) -> None:
    assert line.feed(EVIL, int(BURST)) == 0
    assert line.queue.next_invalidation() is None
    assert held(line.queue) == BURST


async def test_rate_is_applied_for_as_long_as_it_lasts(line: Line) -> None:
    assert line.feed(EVIL, int(BURST * 3), per_second=RATE) == 0
    assert line.queue.next_invalidation() is None


async def test_node_that_floods_is_shed_alone_with_what_waits_of_it(line: Line) -> None:
    line.feed(EVIL, 10, nodes=10)
    assert line.feed(EVIL, int(BURST) + 500) >= 500
    assert NodeAddress(EVIL, "node-0") in line.floods
    assert NodeAddress(EVIL, "node-1") not in line.floods
    assert await line.doubted() == NodeAddress(EVIL, "node-0")
    assert held(line.queue) == 9
    assert line.feed(EVIL, 10, nodes=10) == 1


async def test_service_is_shed_when_its_nodes_share_the_flood(line: Line) -> None:
    line.feed(GOOD, 5)
    assert line.feed(EVIL, int(BURST) + 500, nodes=5) == 500
    assert NodeAddress(EVIL, "another") in line.floods
    assert NodeAddress(GOOD, "node-0") not in line.floods
    assert await line.doubted() == EVIL
    assert held(line.queue) == 5
    assert line.floods.dropped == BURST + 500


async def test_flood_is_lost_again_and_again_and_ends(line: Line) -> None:
    line.feed(EVIL, int(BURST) + 1, nodes=5)
    for _ in range(3):  # while it lasts: a node may have been read between two notifications
        assert line.feed(EVIL, 100, nodes=5, per_second=2 * RATE) == 100
        assert await line.doubted() == EVIL
    assert EVIL in line.floods.pks
    line.clock.now += BURST / RATE
    assert await line.doubted() == EVIL
    assert EVIL not in line.floods.pks
    assert line.feed(EVIL, 10, nodes=5) == 0


async def test_flood_ends_though_its_service_is_invalidated_with_all_others(line: Line) -> None:
    line.feed(EVIL, int(BURST) + 1, nodes=5)
    line.queue.invalidate(None)
    line.clock.now += BURST / RATE
    assert await line.doubted() is None
    assert await line.doubted() == EVIL
    assert EVIL not in line.floods.pks


async def test_what_is_counted_is_bounded(line: Line) -> None:
    for number in range(3 * MAX_LEVELS):
        line.floods.take(NodeAddress(EVIL, f"node-{number}"))
        line.floods.take(NodeAddress(f"{number}.example.org", "node"))
        line.clock.now += 2 / RATE
    assert len(line.floods._services) <= MAX_LEVELS
    assert len(line.floods._services[EVIL].nodes) <= MAX_LEVELS
