"""Long work gives way to others after each slice, and services take turns."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from pubsubcache import slices
from pubsubcache.slices import Slices, sliced


def long_work(pieces: int) -> Iterator[int]:
    """Yield numbers, each of which takes over a slice of time."""
    for number in range(pieces):
        end = time.monotonic() + slices.SLICE
        while time.monotonic() < end:
            pass
        yield number


async def test_all_is_yielded_in_order() -> None:
    assert [number async for number in sliced(range(1000), "a")] == list(range(1000))


async def test_others_go_on_after_each_slice() -> None:
    rounds = 0

    async def other() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    async for _ in sliced(long_work(10), "a"):
        pass
    task.cancel()
    assert rounds >= 9


async def test_of_many_works_one_has_a_slice_in_each_round() -> None:
    done: list[str] = []

    async def work(service: str) -> None:
        async for _ in sliced(long_work(3), service):
            done.append(service)  # noqa: PERF401  (seen from outside meanwhile)

    tasks = [asyncio.create_task(work("many")) for _ in range(8)]
    largest = 0
    while not all(task.done() for task in tasks):
        before = len(done)
        await asyncio.sleep(0)
        if before >= 2:  # the first begins at once
            largest = max(largest, len(done) - before)
    assert largest <= 2  # one ends its slice, the next is at its first piece


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


async def test_turn_of_a_cancelled_work_goes_to_the_next() -> None:
    line = Slices()
    first, second = (asyncio.create_task(line.turn("a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    async with asyncio.timeout(5):
        await second
    with pytest.raises(asyncio.CancelledError):
        await first
