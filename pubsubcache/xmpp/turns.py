"""Schedules requests fairly between services, so that a slow, silent or flooded service does not delay the others."""

import asyncio
import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pubsubcache.conf import settings
from pubsubcache.exceptions import ServiceUnreachable
from pubsubcache.utils import backoff

MAX_PENDING = 64  # pending requests of one session
MAX_PENDING_OF_SERVICE = 8
MAX_HEAVY = 2  # of a heavy service: answers of others wait behind its own on the same stream
HEAVY = 64 * 1024  # bytes of recent answers that make a service heavy
HALF_LIFE = 1.0  # seconds in which received bytes lose half of their weight
RECENTLY = 0.5  # seconds after a request in which its service counts as asked
MAX_WAITING = 1000  # requests to one service that wait for a turn
MAX_SERVICES = 500  # remembered services, in addition to those in use
SILENT_AFTER = 3  # time-outs of successive requests
FIRST_BACK_OFF = 5.0
LONGEST_BACK_OFF = 300.0


@dataclass(slots=True)
class _Lane:
    """State of one service."""

    pending: int = 0
    waiting: deque["asyncio.Future[None]"] = field(default_factory=deque)
    timeouts: int = 0  # since the last answer
    counted_at: float = 0.0  # time of the last time-out
    unanswered_since: float = 0.0  # when the first request that timed out was sent
    retry_at: float = 0.0
    asked_at: float = -math.inf
    load: float = 0.0  # bytes of recent answers, at `loaded_at`
    loaded_at: float = 0.0
    rests_until: float = -math.inf  # if others are to be served meanwhile

    @property
    def is_silent(self) -> bool:
        return self.timeouts >= SILENT_AFTER

    def load_at(self, now: float) -> float:
        """Return the bytes of recent answers. Older ones count less."""
        return float(self.load * 0.5 ** ((now - self.loaded_at) / HALF_LIFE))

    def add_load(self, size: int, now: float) -> None:
        """Count an answer of `size` bytes."""
        self.load, self.loaded_at = self.load_at(now) + size, now


class Turns:
    """Limits the pending requests in total and per service, and backs off from silent services.

    A service is the domain of the JID that a request goes to. Services with waiting requests take turns. Each service
    may have `MAX_PENDING_OF_SERVICE` pending requests, but at most a quarter of the free slots, so that some are always
    free. After a time-out it may have only one, until it answers.

    Answers wait behind those of other services on the stream, so a heavy service, which sent much lately, may have only
    `MAX_HEAVY` pending requests. While a service that sent less than half as much is being asked too, it may have only
    one, and after each answer none for as long as the answer took: at least half of the time the stream is free.

    After `SILENT_AFTER` consecutive time-outs a service is silent, and requests to it fail at once. After the back-off,
    one request is sent again. Any answer ends the silence.

    Args:
        clock: Monotonic clock that returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._queue: OrderedDict[str, None] = OrderedDict()  # services with waiting requests, the next one first
        self._pending = 0
        self._alarm: asyncio.TimerHandle | None = None  # at the end of the next rest

    async def take(self, service: str) -> "Turn":
        """Wait for a turn to send a request to `service`. The caller must use it with `Turn.used`.

        Raises:
            ServiceUnreachable: The service is silent, too many requests are waiting, or there was no turn within
                `IQ_TIMEOUT`.
        """
        lane = self._lane(service)
        self._check(service, lane)
        lane.asked_at = self._clock()
        if not lane.waiting and self._has_room(lane):
            self._begin(lane)
        elif len(lane.waiting) >= MAX_WAITING:
            raise ServiceUnreachable(f"{MAX_WAITING} requests to {service} are already waiting.")
        else:
            await self._wait(service, lane)
        return Turn(self, service, lane, self._clock())

    def silent(self) -> frozenset[str]:
        """Return the services to which no requests are sent at present."""
        now = self._clock()
        return frozenset(
            service for service, lane in self._lanes.items() if lane.is_silent and (lane.pending or now < lane.retry_at)
        )

    def heard_from(self, service: str, size: int) -> None:
        """Record an answer from a service, of `size` bytes, which ends its silence."""
        if (lane := self._lanes.get(service)) is not None:
            lane.timeouts = 0
            lane.add_load(size, self._clock())
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
        """Raise `ServiceUnreachable` if the service is silent and its back-off is not over."""
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
        share = 1 if lane.timeouts else min(self._most_of(lane), max(1, free // 4))
        return free > 0 and lane.pending < share

    def _most_of(self, lane: _Lane) -> int:
        """Return the number of requests that a service may have on its way at present."""
        now = self._clock()
        if (load := lane.load_at(now)) < HEAVY:
            return MAX_PENDING_OF_SERVICE
        loads = (other.load_at(now) for other in self._lanes.values() if other.asked_at >= now - RECENTLY)
        if load <= 2 * min(loads, default=load):
            return MAX_HEAVY
        return 1 if now >= lane.rests_until else 0

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
                self._end(lane)  # granted, but not used
            if isinstance(error, TimeoutError):
                raise ServiceUnreachable(
                    f"A request to {service} had no turn within {settings.IQ_TIMEOUT:g} seconds: others are pending."
                ) from None
            raise

    def _hand_out(self) -> None:
        """Give turns to waiting requests, one service after the other."""
        skipped = 0
        while skipped < len(self._queue) and self._pending < MAX_PENDING:
            service, _ = self._queue.popitem(last=False)
            lane = self._lanes.get(service)
            if lane is None or not lane.waiting:
                continue
            if self._has_room(lane):
                skipped = 0
                turn = lane.waiting.popleft()
                if not turn.done():
                    self._begin(lane)
                    turn.set_result(None)
            else:
                skipped += 1
            if lane.waiting:
                self._queue[service] = None
        self._set_alarm()

    def _set_alarm(self) -> None:
        """Hand out turns again when a waiting service may have rested, or need not rest any more."""
        now = self._clock()
        lanes = [lane for service in self._queue if (lane := self._lanes.get(service)) is not None and not lane.pending]
        rests = [lane.rests_until - now for lane in lanes if lane.rests_until > now]
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(min(RECENTLY, *rests), self._hand_out) if rests else None

    def _end(self, lane: _Lane, sent_at: float | None = None) -> None:
        """Take a turn back; `sent_at` if it was used. The service rests as long as its answer took."""
        lane.pending -= 1
        self._pending -= 1
        if sent_at is not None:
            now = self._clock()
            lane.rests_until = now + (now - sent_at)
        self._hand_out()

    def _timed_out(self, service: str, lane: _Lane, sent_at: float) -> None:
        """Count a time-out. Requests that were pending at the same time count once."""
        now = self._clock()
        if lane.timeouts and sent_at < lane.counted_at:
            return
        if not lane.timeouts:
            lane.unanswered_since = sent_at
        lane.timeouts += 1
        lane.counted_at = now
        if lane.is_silent:
            lane.retry_at = now + backoff.delay(lane.timeouts - SILENT_AFTER + 1, FIRST_BACK_OFF, LONGEST_BACK_OFF)
            waiting, lane.waiting = lane.waiting, deque()
            for turn in waiting:
                if not turn.done():
                    turn.set_exception(self._silence(service, lane, now))


@dataclass(slots=True)
class Turn:
    """Permission to send one request."""

    _turns: Turns
    _service: str
    _lane: _Lane
    _sent_at: float

    @contextmanager
    def used(self) -> Iterator[None]:
        """Return the turn at the end of the block."""
        try:
            yield
        finally:
            self._turns._end(self._lane, self._sent_at)

    def timed_out(self) -> None:
        """Record that the request was not answered in time."""
        self._turns._timed_out(self._service, self._lane, self._sent_at)


__all__ = ["Turn", "Turns"]
