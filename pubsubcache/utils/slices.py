"""Cuts long work on the event loop into time slices, so that other tasks need not wait for all of it.

Processing the answer of a service may take long, on an event loop that serves all readers and services. Work that
exceeds a slice waits for its turn: each iteration of the loop runs one slice, and the service that had the fewest
slices lately comes first. While there are readers, the loop pauses before each slice for the length of a slice, except
for services that had few. A service is the domain of a JID.
"""

import asyncio
import math
import time
from collections import Counter, deque
from weakref import WeakKeyDictionary

from pubsubcache.utils import jid

SLICE = 0.001  # seconds
READER_INTERVAL = 0.1  # seconds after a read in which more reads are expected
COUNTING_INTERVAL = 1.0  # seconds after which the slices of each service are counted from zero
FEW = 10  # slices of a service in this time without a pause before them


class Slices:
    """The tasks that wait for a slice of one event loop, by service."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._taken: Counter[str] = Counter()
        self._counted_from = -math.inf
        self._reader_at = -math.inf
        self._next: asyncio.Handle | None = None

    @property
    def are_wanted(self) -> bool:
        """Whether any task waits for a slice."""
        return bool(self._waiting)

    async def turn(self, service: str) -> None:
        """Wait for the next slice for work on `service`."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.setdefault(service, deque()).append(turn)
        self._schedule(loop)
        await turn

    def _hand_out(self, loop: asyncio.AbstractEventLoop) -> None:
        """Resume one waiting task, and schedule the next one."""
        self._next = None
        resumed = False
        while self._waiting and not resumed:
            service = self._first()
            turns = self._waiting.pop(service)
            turn = turns.popleft()
            if turns:
                self._waiting[service] = turns
            if not turn.done():  # it is done if the task was cancelled
                turn.set_result(None)
                self._taken[service] += 1
                resumed = True
        if self._waiting:
            self._schedule(loop)

    def _first(self) -> str:
        """Return the waiting service that had the fewest slices; if there are several, the one that waits longest."""
        return min(self._waiting, key=lambda service: self._taken[service])

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand out the next slice in the next iteration of the loop, or after a pause."""
        now = time.monotonic()
        if now - self._counted_from > COUNTING_INTERVAL:
            self._taken.clear()
            self._counted_from = now
        has_reader = now - self._reader_at < READER_INTERVAL
        if has_reader and self._taken[self._first()] >= FEW:
            self._next = self._next or loop.call_later(SLICE, self._hand_out, loop)
        elif self._next is None or isinstance(self._next, asyncio.TimerHandle):
            if self._next is not None:
                self._next.cancel()
            self._next = loop.call_soon(self._hand_out, loop)

    def reader_came(self) -> None:
        """Note a read: for a short time the loop pauses between slices."""
        self._reader_at = time.monotonic()


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Slices] = WeakKeyDictionary()


def of_loop() -> Slices:
    """Return the slices of the running loop."""
    return _of_loops.setdefault(asyncio.get_running_loop(), Slices())


class Work:
    """Long work on the event loop for one service, given by its JID. The work must call `pause` often."""

    def __init__(self, service: str) -> None:
        self._service = jid.domain(service)
        self._slices = of_loop()
        self._end = -math.inf if self._slices.are_wanted else time.monotonic() + SLICE

    async def pause(self) -> None:
        """Wait for the next slice if the current one is over."""
        if time.monotonic() >= self._end:
            await self._slices.turn(self._service)
            self._end = time.monotonic() + SLICE


__all__ = ["SLICE", "Slices", "Work", "of_loop"]
