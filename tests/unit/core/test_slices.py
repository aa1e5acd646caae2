"""Test that long work pauses after each time slice, and that the service that worked least comes first."""

import asyncio
import time

import pytest

from pubsubcache.utils import slices
from pubsubcache.utils.slices import Slices, Work


async def work(service: str, pieces: int, done: list[str]) -> None:
    """Work in pieces that each take longer than a time slice."""
    own = Work(service)
    for _ in range(pieces):
        await own.pause()
        end = time.monotonic() + slices.SLICE
        while time.monotonic() < end:
            pass
        done.append(service)


async def test_short_work_does_not_pause() -> None:
    task = asyncio.current_task()
    own = Work("a")
    asyncio.get_running_loop().call_soon(lambda: task.cancel())  # nothing else runs in between
    await own.pause()
    assert task is not None
    assert task.cancelling() == 0
    with pytest.raises(asyncio.CancelledError):
        await asyncio.sleep(0)
    task.uncancel()


async def test_others_continue_after_each_slice() -> None:
    rounds = 0

    async def other() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await work("a", 10, [])
    task.cancel()
    assert rounds >= 9


async def test_one_slice_of_work_runs_in_each_round() -> None:
    done: list[str] = []
    tasks = [asyncio.create_task(work("many", 3, done)) for _ in range(8)]
    largest = 0
    while not all(task.done() for task in tasks):
        before = len(done)
        await asyncio.sleep(0)
        if before:  # in the first round all of them start before any waits
            largest = max(largest, len(done) - before)
    assert largest == 1
    assert len(done) == 24


async def test_services_take_turns() -> None:
    line = Slices()
    order: list[str] = []

    async def wait(service: str) -> None:
        await line.turn(service)
        order.append(service)

    async with asyncio.TaskGroup() as group:
        for service in ("many", "many", "many", "few"):
            group.create_task(wait(service))
    assert order == ["many", "few", "many", "many"]


async def test_turn_of_cancelled_work_goes_to_the_next() -> None:
    line = Slices()
    first, second = (asyncio.create_task(line.turn("a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(60):
        await second
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_service_that_worked_least_comes_first() -> None:
    line = Slices()
    order: list[str] = []

    async def wait(service: str) -> None:
        await line.turn(service)
        order.append(service)

    for _ in range(3):
        await line.turn("many")
    async with asyncio.TaskGroup() as group:
        for service in ("many", "many", *["few"] * 5):
            group.create_task(wait(service))
    assert order == ["few"] * 3 + ["many", "few", "many", "few"]


async def test_accounts_of_one_domain_are_one_service() -> None:
    done: list[str] = []
    many = [asyncio.create_task(work(f"user{number}@evil.org", 2, done)) for number in range(4)]
    await asyncio.sleep(0)
    await work("good.org", 2, done)
    assert len(done) <= 4 + 2 + 2  # the first piece of each, and the second ones in turn with the last of the good one
    await asyncio.gather(*many)


async def test_slices_are_counted_for_a_short_time(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Slices()
    for _ in range(5):
        await line.turn("many")
    monkeypatch.setattr(slices, "COUNTING_INTERVAL", 0.0)
    for number in range(100):
        await line.turn(f"service-{number}")
    assert len(line._taken) <= 2


async def test_loop_pauses_before_each_slice_if_a_reader_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "SLICE", 0.02)
    loop = asyncio.get_running_loop()
    line = Slices()
    for _ in range(slices.FEW):
        await line.turn("a")
    for reader, rests in ((False, False), (True, True)):
        if reader:
            line.reader_came()
        began = loop.time()
        await line.turn("a")
        assert (loop.time() - began >= 0.015) is rests


async def test_service_that_worked_little_does_not_wait_for_the_rest_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    line = Slices()
    for _ in range(slices.FEW):
        await line.turn("many")
    monkeypatch.setattr(slices, "SLICE", 3600.0)
    monkeypatch.setattr(slices, "COUNTING_INTERVAL", 3600.0)
    line.reader_came()
    resting = asyncio.create_task(line.turn("many"))
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        for _ in range(slices.FEW):
            await line.turn("few")
    assert not resting.done()
    resting.cancel()
