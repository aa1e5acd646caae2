"""Long work on the event loop, cut into slices, so that nobody waits behind all of it.

What a service answers takes time to read, on the loop that serves everybody. Work that is longer than a slice goes on
when its turn comes: one slice in each round of the loop, services in turn. While somebody reads from the cache, the
loop rests after each slice for as long.
"""

import asyncio
import math
import time
from collections import OrderedDict, deque
from weakref import WeakKeyDictionary

SLICE = 0.001  # seconds
READER_INTERVAL = 0.1  # seconds after a reader came in which another one is expected


class Slices:
    """Who waits for a slice of one event loop, by service."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self._reader_at = -math.inf

    @property
    def are_wanted(self) -> bool:
        """Whether anybody waits."""
        return bool(self._waiting)

    async def turn(self, service: str) -> None:
        """Wait for the next slice for work on `service`."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        if not self._waiting:
            self._go_on(loop)
        self._waiting.setdefault(service, deque()).append(turn)
        await turn

    def _hand_out(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let one who waits go on, and the next one in the next round."""
        is_given = False
        while self._waiting and not is_given:
            service, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[service] = turns
            if not turn.done():  # cancelled
                turn.set_result(None)
                is_given = True
        if self._waiting:
            self._go_on(loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        if time.monotonic() - self._reader_at < READER_INTERVAL:
            loop.call_later(SLICE, self._hand_out, loop)
        else:
            loop.call_soon(self._hand_out, loop)

    def reader_came(self) -> None:
        """Leave time for a reader, and for those who may follow."""
        self._reader_at = time.monotonic()


_of_loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Slices] = WeakKeyDictionary()


def of_loop() -> Slices:
    """Return the slices of the running loop."""
    return _of_loops.setdefault(asyncio.get_running_loop(), Slices())


class Work:
    """Long work on the event loop that belongs to `service`; it calls `pause` often."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._slices = of_loop()
        self._end = -math.inf if self._slices.are_wanted else time.monotonic() + SLICE

    async def pause(self) -> None:
        """Let others have the event loop, if the slice is over."""
        if time.monotonic() >= self._end:
            await self._slices.turn(self._service)
            self._end = time.monotonic() + SLICE


__all__ = ["SLICE", "Slices", "Work", "of_loop"]
