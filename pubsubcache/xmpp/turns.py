"""Fair turns between services: one that is slow, silent or flooded with requests holds up no other."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pubsubcache.conf import settings
from pubsubcache.exceptions import ServiceUnreachable

MAX_PENDING = 64  # requests of one session on their way
MAX_PENDING_OF_SERVICE = 8
MAX_HEAVY = 2  # of a service whose answers are heavy: those of others come behind them on the same stream
HEAVY = 500  # elements in an answer
MAX_WAITING = 1000  # requests to one service that wait for their turn
MAX_SERVICES = 500  # of which something is remembered; those in use come on top
SILENT_AFTER = 3  # time-outs, each of a request sent after the one before
FIRST_BACK_OFF = 5.0
LONGEST_BACK_OFF = 300.0


@dataclass(slots=True)
class _Lane:
    """The requests to one service."""

    pending: int = 0
    waiting: deque["asyncio.Future[None]"] = field(default_factory=deque)
    timeouts: int = 0  # since the last answer
    counted_at: float = 0.0  # when the last of them was counted
    unanswered_since: float = 0.0  # when the request was sent that timed out first
    retry_at: float = 0.0
    back_off: float = 0.0
    is_heavy: bool = False  # the last answer was

    @property
    def is_silent(self) -> bool:
        return self.timeouts >= SILENT_AFTER


class Turns:
    """Limits the requests that are on their way, in all and to each service, and backs off from silent services.

    A service is the domain of the JID that a request goes to. Services whose requests wait take turns. One service
    has at most `MAX_PENDING_OF_SERVICE` requests on their way, and at most a quarter of what is free, so that some
    always is; `MAX_HEAVY` as long as its answers are large; after a time-out only one, until it answers.

    After `SILENT_AFTER` time-outs in a row a service is silent: requests to it fail at once. When the back-off is
    over, one request is let through; any answer ends the silence. Time is monotonic.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._queue: OrderedDict[str, None] = OrderedDict()  # services whose requests wait, the next one first
        self._pending = 0

    async def take(self, service: str) -> "Turn":
        """Wait for a turn to ask `service`, and return it; the caller ends it with `Turn.end`.

        Raises `ServiceUnreachable` for a silent service, when too many requests wait already, and when the turn
        does not come within `IQ_TIMEOUT`.
        """
        lane = self._lane(service)
        self._check(service, lane)
        if not lane.waiting and self._has_room(lane):
            self._begin(lane)
        elif len(lane.waiting) >= MAX_WAITING:
            raise ServiceUnreachable(f"{MAX_WAITING} requests to {service} are waiting already.")
        else:
            await self._wait(service, lane)
        return Turn(self, service, lane, self._clock())

    def silent(self) -> frozenset[str]:
        """Return the services that are not asked at present."""
        now = self._clock()
        return frozenset(
            service for service, lane in self._lanes.items() if lane.is_silent and (lane.pending or now < lane.retry_at)
        )

    def heard_from(self, service: str, elements: int) -> None:
        """Note an answer of `service`, of so many elements: it is not silent (any more)."""
        if (lane := self._lanes.get(service)) is not None:
            lane.timeouts, lane.back_off = 0, 0.0
            lane.is_heavy = elements >= HEAVY
            self._hand_out()

    def _lane(self, service: str) -> _Lane:
        if (lane := self._lanes.get(service)) is None:
            lane = self._lanes[service] = _Lane()
        self._lanes.move_to_end(service)
        if len(self._lanes) > MAX_SERVICES:
            idle = (name for name, other in self._lanes.items() if not other.pending and not other.waiting)
            if (oldest := next(idle, service)) != service:
                del self._lanes[oldest]
        return lane

    def _check(self, service: str, lane: _Lane) -> None:
        """Raise `ServiceUnreachable` for a service that is silent, unless it is time to ask it again."""
        now = self._clock()
        if lane.is_silent and (lane.pending or now < lane.retry_at):
            raise self._silence(service, lane, now)

    @staticmethod
    def _silence(service: str, lane: _Lane, now: float) -> ServiceUnreachable:
        again = f"in {lane.retry_at - now:.0f} s" if lane.retry_at > now else "just now"
        return ServiceUnreachable(
            f"{service} has not answered for {now - lane.unanswered_since:.0f} seconds; it is asked again {again}."
        )

    def _has_room(self, lane: _Lane) -> bool:
        free = MAX_PENDING - self._pending
        most = MAX_HEAVY if lane.is_heavy else MAX_PENDING_OF_SERVICE
        share = 1 if lane.timeouts else min(most, max(1, free // 4))
        return free > 0 and lane.pending < share

    def _begin(self, lane: _Lane) -> None:
        lane.pending += 1
        self._pending += 1

    async def _wait(self, service: str, lane: _Lane) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        lane.waiting.append(turn)
        self._queue.setdefault(service)
        self._hand_out()
        try:
            async with asyncio.timeout(settings.IQ_TIMEOUT):
                await turn
        except BaseException as error:
            if turn in lane.waiting:
                lane.waiting.remove(turn)
            elif not turn.cancelled() and turn.exception() is None:
                self._end(lane)  # given, but not taken
            if isinstance(error, TimeoutError):
                raise ServiceUnreachable(
                    f"A request to {service} had no turn within {settings.IQ_TIMEOUT:g} seconds: others are unanswered."
                ) from None
            raise

    def _hand_out(self) -> None:
        """Give turns to waiting requests, one service after the other."""
        passed_over = 0
        while passed_over < len(self._queue) and self._pending < MAX_PENDING:
            service, _ = self._queue.popitem(last=False)
            lane = self._lanes.get(service)
            if lane is None or not lane.waiting:
                continue
            if self._has_room(lane):
                passed_over = 0
                turn = lane.waiting.popleft()
                if not turn.done():
                    self._begin(lane)
                    turn.set_result(None)
            else:
                passed_over += 1
            if lane.waiting:
                self._queue[service] = None

    def _end(self, lane: _Lane) -> None:
        lane.pending -= 1
        self._pending -= 1
        self._hand_out()

    def _timed_out(self, service: str, lane: _Lane, sent_at: float) -> None:
        """Count a time-out: requests that were on their way together count as one."""
        now = self._clock()
        if lane.timeouts and sent_at < lane.counted_at:
            return
        if not lane.timeouts:
            lane.unanswered_since = sent_at
        lane.timeouts += 1
        lane.counted_at = now
        if lane.is_silent:
            lane.back_off = min(lane.back_off * 2, LONGEST_BACK_OFF) if lane.back_off else FIRST_BACK_OFF
            lane.retry_at = now + lane.back_off
            waiting, lane.waiting = lane.waiting, deque()
            for turn in waiting:
                if not turn.done():
                    turn.set_exception(self._silence(service, lane, now))


@dataclass(slots=True)
class Turn:
    """The right to have one request on its way."""

    _turns: Turns
    _service: str
    _lane: _Lane
    _sent_at: float

    @contextmanager
    def used(self) -> Iterator[None]:
        """Give the turn back after the block."""
        try:
            yield
        finally:
            self._turns._end(self._lane)

    def timed_out(self) -> None:
        """Note that the request was not answered in time."""
        self._turns._timed_out(self._service, self._lane, self._sent_at)


__all__ = ["Turn", "Turns"]
