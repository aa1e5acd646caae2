"""Test the fair scheduling of requests and the back-off from silent services."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from pubsubcache.exceptions import ServiceUnreachable
from pubsubcache.xmpp import turns
from pubsubcache.xmpp.turns import Turn, Turns


class Clock:
    """A clock that tests advance."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def end(turn: Turn) -> None:
    with turn.used():
        pass


def time_out(turn: Turn) -> None:
    with turn.used():
        turn.timed_out()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def silence(turns_: Turns, clock: Clock, service: str = "silent") -> None:
    """Let requests to `service` time out until it counts as silent."""
    for _ in range(turns.SILENT_AFTER):
        turn = await turns_.take(service)
        clock.now += 30
        time_out(turn)


async def take_all(turns_: Turns, service: str, number: int) -> list["asyncio.Task[Turn]"]:
    tasks = [asyncio.create_task(turns_.take(service)) for _ in range(number)]
    await settle()
    return tasks


async def answer(turns_: Turns, clock: Clock, service: str, size: int, seconds: float = 0.0) -> None:
    """Let a service answer one request, in so many bytes and seconds."""
    turn = await turns_.take(service)
    clock.now += seconds
    turns_.heard_from(service, size)
    end(turn)


def cancel(*tasks: "asyncio.Task[Turn]") -> None:
    for task in tasks:
        task.cancel()


async def test_heavy_service_has_few_requests_on_their_way(clock: Clock) -> None:
    line = Turns(clock)
    await answer(line, clock, "heavy", turns.HEAVY)
    await answer(line, clock, "heavy", 1)  # changes nothing
    heavy = await take_all(line, "heavy", 10)
    assert sum(task.done() for task in heavy) == turns.MAX_HEAVY
    clock.now += turns.HALF_LIFE
    end(heavy[0].result())
    await settle()
    assert sum(task.done() for task in heavy) == 1 + turns.MAX_PENDING_OF_SERVICE
    cancel(*heavy)


async def test_heavy_service_rests_while_a_lighter_one_is_asked(clock: Clock) -> None:
    line = Turns(clock)
    await answer(line, clock, "heavy", 100 * turns.HEAVY, seconds=0.25)
    await answer(line, clock, "light", 1)
    heavy = await take_all(line, "heavy", 3)
    for task in heavy:
        clock.now += 0.24
        await answer(line, clock, "light", 1)
        await settle()
        assert not task.done()
        clock.now += 0.01
        turn = await asyncio.wait_for(task, 60)  # nothing else wakes it
        light = await take_all(line, "light", 10)
        assert sum(task.done() for task in light) == turns.MAX_PENDING_OF_SERVICE
        assert sum(task.done() for task in heavy) == 1 + heavy.index(task)
        clock.now += 0.25
        line.heard_from("heavy", 100 * turns.HEAVY)
        end(turn)
        for waiting in light:
            end(await waiting)


async def test_heavy_service_need_not_rest_for_itself_or_its_like(clock: Clock) -> None:
    line = Turns(clock)
    await answer(line, clock, "light", 1)
    clock.now += turns.RECENTLY + 0.1
    for service in ("heavy", "similar"):
        await answer(line, clock, service, 100 * turns.HEAVY, seconds=0.1)
    tasks = [*await take_all(line, "heavy", 5), *await take_all(line, "similar", 5)]
    assert sum(task.done() for task in tasks) == 2 * turns.MAX_HEAVY
    cancel(*tasks)


async def test_rest_ends_when_lighter_services_are_not_asked_any_more(clock: Clock) -> None:
    line = Turns(clock)
    await answer(line, clock, "heavy", 2**30 * turns.HEAVY, seconds=25)
    end(await line.take("light"))
    (resting,) = await take_all(line, "heavy", 1)
    assert not resting.done()
    clock.now += turns.RECENTLY + 0.1
    end(await asyncio.wait_for(resting, 60))


async def test_cancelled_request_of_a_resting_service_leaves_its_turn(clock: Clock) -> None:
    line = Turns(clock)
    await answer(line, clock, "heavy", 100 * turns.HEAVY, seconds=0.1)
    end(await line.take("light"))
    first, second = await take_all(line, "heavy", 2)
    first.cancel()
    await settle()
    clock.now += 0.1
    end(await asyncio.wait_for(second, 60))
    assert line._pending == 0


async def test_one_service_takes_a_bounded_share() -> None:
    line = Turns()
    slow = await take_all(line, "slow", 40)
    assert sum(task.done() for task in slow) == turns.MAX_PENDING_OF_SERVICE
    end(await asyncio.wait_for(line.take("good"), 60))
    for task in slow:
        task.cancel()


async def test_room_is_left_for_later_services() -> None:
    line = Turns()
    taken = [task for number in range(12) for task in await take_all(line, f"slow-{number}", 40)]
    assert sum(task.done() for task in taken) < turns.MAX_PENDING
    end(await asyncio.wait_for(line.take("good"), 60))
    for task in taken:
        task.cancel()


async def test_services_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_PENDING", 1)
    line = Turns()
    first = await line.take("a")
    order: list[str] = []

    async def ask(service: str) -> None:
        turn = await line.take(service)
        order.append(service)
        await asyncio.sleep(0)
        end(turn)

    tasks = [asyncio.create_task(ask(service)) for service in "aaaabbc"]
    await settle()
    end(first)
    await asyncio.gather(*tasks)
    assert "".join(order) == "abcabaa"


async def test_too_many_waiting_requests_fail_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_WAITING", 3)
    line = Turns()
    tasks = await take_all(line, "slow", turns.MAX_PENDING_OF_SERVICE + 3)
    with pytest.raises(ServiceUnreachable, match="3 requests to slow are already waiting"):
        await line.take("slow")
    end(await line.take("good"))
    for task in tasks:
        task.cancel()


async def test_waiting_is_bounded_in_time(settings: Any) -> None:
    settings.PUBSUBCACHE_IQ_TIMEOUT = 0.05
    line = Turns()
    tasks = await take_all(line, "slow", turns.MAX_PENDING_OF_SERVICE)
    with pytest.raises(ServiceUnreachable, match="had no turn"):
        await line.take("slow")
    end(tasks[0].result())
    end(await line.take("slow"))


async def test_cancelled_requests_give_their_turns_back() -> None:
    line = Turns()
    dice = random.Random(1)
    for _ in range(50):
        tasks = [asyncio.create_task(line.take(dice.choice("abc"))) for _ in range(30)]
        for _ in range(dice.randrange(3)):
            await asyncio.sleep(0)
        for task in dice.sample(tasks, 10):
            if task.done():
                end(task.result())
                tasks.remove(task)
        for task in tasks:  # some have a turn, some wait, some were just granted one
            task.cancel()
        for turn in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(turn, Turn):
                end(turn)
    assert line._pending == 0
    assert {(lane.pending, len(lane.waiting)) for lane in line._lanes.values()} == {(0, 0)}


async def test_silent_service_is_not_asked(clock: Clock) -> None:
    line = Turns(clock)
    await silence(line, clock)
    assert line.silent() == {"silent"}
    with pytest.raises(ServiceUnreachable, match="silent has not answered for 90 seconds; it is asked again in 5 s"):
        await line.take("silent")
    end(await line.take("good"))


async def test_concurrent_timeouts_count_as_one(clock: Clock) -> None:
    line = Turns(clock)
    tasks = await take_all(line, "slow", turns.MAX_PENDING_OF_SERVICE)
    clock.now += 30
    for task in tasks:
        time_out(task.result())
    end(await line.take("slow"))
    assert line.silent() == frozenset()


async def test_service_that_timed_out_has_one_request_in_progress(clock: Clock) -> None:
    line = Turns(clock)
    first = await line.take("slow")
    clock.now += 30
    time_out(first)
    tasks = await take_all(line, "slow", 5)
    assert [task.done() for task in tasks].count(True) == 1
    line.heard_from("slow", 1)
    await settle()
    assert all(task.done() for task in tasks)


async def test_waiting_requests_fail_when_their_service_falls_silent(clock: Clock) -> None:
    line = Turns(clock)
    for _ in range(turns.SILENT_AFTER - 1):
        turn = await line.take("silent")
        clock.now += 30
        time_out(turn)
    last = await line.take("silent")
    tasks = await take_all(line, "silent", 5)
    clock.now += 30
    time_out(last)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {ServiceUnreachable}


async def test_back_off_lets_one_request_through_and_doubles(clock: Clock) -> None:
    line = Turns(clock)
    await silence(line, clock)
    waits = []
    for _ in range(9):
        began = clock.now
        while "silent" in line.silent():
            clock.now += 1
        waits.append(clock.now - began)
        probe = await line.take("silent")
        with pytest.raises(ServiceUnreachable, match="asked again just now"):
            await line.take("silent")
        time_out(probe)
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]


async def test_any_answer_ends_the_silence(clock: Clock) -> None:
    line = Turns(clock)
    await silence(line, clock)
    line.heard_from("silent", 1)
    assert line.silent() == frozenset()
    tasks = await take_all(line, "silent", 5)
    assert all(task.done() for task in tasks)


async def test_cancelled_probe_leaves_the_next_one_to_others(clock: Clock) -> None:
    line = Turns(clock)
    await silence(line, clock)
    clock.now += 6
    end(await line.take("silent"))  # cancelled: neither answered nor timed out
    end(await line.take("silent"))


async def test_number_of_remembered_services_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_SERVICES", 10)
    line = Turns()
    busy = await line.take("busy")
    for number in range(1000):
        end(await line.take(f"service-{number}"))
    assert len(line._lanes) <= 10
    assert "busy" in line._lanes
    end(busy)
    assert line._pending == 0


async def test_every_service_gets_its_share_under_load() -> None:
    line = Turns()
    served: Counter[str] = Counter()
    enough = asyncio.Event()

    async def keep_asking(service: str) -> None:
        while True:
            turn = await line.take(service)
            await asyncio.sleep(0)
            served[service] += 1
            if served["modest"] == 100:
                enough.set()
            end(turn)

    jobs = [asyncio.create_task(keep_asking("greedy")) for _ in range(100)]
    jobs += [asyncio.create_task(keep_asking("modest"))]
    await asyncio.wait_for(enough.wait(), 60)
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    assert served["greedy"] <= 3 * turns.MAX_PENDING_OF_SERVICE * served["modest"]
