"""Cuts long work on the event loop into time slices, so that other tasks need not wait for all of it.

Processing the answer of a service may take long, on an event loop that serves all readers and services. Work that
exceeds a slice waits for its turn: each iteration of the loop runs one slice, and services take turns. While there are
readers, the loop pauses after each slice for the length of a slice.
"""

import asyncio
import math
import time
from collections import OrderedDict, deque
from weakref import WeakKeyDictionary

SLICE = 0.001  # seconds
READER_INTERVAL = 0.1  # seconds after a read in which more reads are expected


class Slices:
    """The tasks that wait for a slice of one event loop, by service."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._reader_at = -math.inf

    @property
    def are_wanted(self) -> bool:
        """Whether any task waits for a slice."""
        return bool(self._waiting)

    async def turn(self, service: str) -> None:
        """Wait for the next slice for work on `service`."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        if not self._waiting:
            self._schedule(loop)
        self._waiting.setdefault(service, deque()).append(turn)
        await turn

    def _hand_out(self, loop: asyncio.AbstractEventLoop) -> None:
        """Resume one waiting task, and schedule the next one."""
        resumed = False
        while self._waiting and not resumed:
            service, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[service] = turns
            if not turn.done():  # it is done if the task was cancelled
                turn.set_result(None)
                resumed = True
        if self._waiting:
            self._schedule(loop)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if time.monotonic() - self._reader_at < READER_INTERVAL:
            loop.call_later(SLICE, self._hand_out, loop)
        else:
            loop.call_soon(self._hand_out, loop)

    def reader_came(self) -> None:
        """Note a read: for a short time the loop pauses between slices."""
        self._reader_at = time.monotonic()


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Slices] = WeakKeyDictionary()


def of_loop() -> Slices:
    """Return the slices of the running loop."""
    return _of_loops.setdefault(asyncio.get_running_loop(), Slices())


class Work:
    """Long work on the event loop for one service. The work must call `pause` often."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._slices = of_loop()
        self._end = -math.inf if self._slices.are_wanted else time.monotonic() + SLICE

    async def pause(self) -> None:
        """Wait for the next slice if the current one is over."""
        if time.monotonic() >= self._end:
            await self._slices.turn(self._service)
            self._end = time.monotonic() + SLICE


__all__ = ["SLICE", "Slices", "Work", "of_loop"]
