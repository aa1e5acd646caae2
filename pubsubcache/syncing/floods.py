"""Detects floods: a node or service that sends more notifications than any normal use does.

Applying them would take time that the event loop and the database need for other nodes. Instead, a flood is shed:
its notifications are discarded unread, and its node or service is revalidated when the flood ends.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pubsubcache.syncing.notification_queue import EventQueue, Scope
from pubsubcache.types import NodeAddress
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

RATE = 250.0  # notifications per second that one service may send indefinitely
BURST = 2000.0  # notifications beyond that rate that are not yet a flood
INTERVAL = 1.0  # seconds between two checks whether a flood is over
MAX_LEVELS = 4000  # counted services, and counted nodes of a service, before idle ones are removed

#: The source of a flood: a node, or all nodes of a service.
Flood = NodeAddress | str


@dataclass(slots=True)
class _Level:
    """A leaky bucket: it rises by one with each notification, and falls by `RATE` per second."""

    amount: float = 0.0
    at: float = 0.0

    def after(self, now: float) -> float:
        return max(0.0, self.amount - (now - self.at) * RATE)

    def rise(self, now: float) -> None:
        self.amount, self.at = min(self.after(now) + 1, BURST + 1), now


@dataclass(slots=True)
class _Service:
    total: _Level = field(default_factory=_Level)
    nodes: dict[str, _Level] = field(default_factory=dict)


class Floods:
    """Counts the notifications of each service and of its nodes, and sheds floods.

    If one node causes at least half of a flood, only that node is shed, otherwise the whole service.

    Args:
        queue: Holds the pending notifications, which are dropped when a flood begins.
        clock: Returns the time in seconds.
    """

    def __init__(self, queue: EventQueue, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._clock = clock
        self._services: dict[str, _Service] = {}
        self._levels: dict[Flood, _Level] = {}
        self._watched: set[Flood] = set()
        #: The primary keys of the nodes that each flood concerns, once they were invalidated.
        self.pks: dict[Flood, list[int]] = {}
        #: The number of notifications shed.
        self.dropped = 0

    def __contains__(self, address: NodeAddress) -> bool:
        """Whether the notifications of a node are shed."""
        return self._of(address) is not None

    def _of(self, address: NodeAddress) -> Flood | None:
        if not self._levels:
            return None
        return next((flood for flood in (address, address.service) if flood in self._levels), None)

    def take(self, address: NodeAddress) -> bool:
        """Count a notification of a node; return whether it is shed."""
        now = self._clock()
        if (flood := self._of(address)) is not None:
            self._levels[flood].rise(now)
            self.dropped += 1
            return True
        service = self._service(address.service, now)
        if address.name not in service.nodes and len(service.nodes) >= MAX_LEVELS:
            service.nodes = {name: level for name, level in service.nodes.items() if level.after(now)}
        service.total.rise(now)
        service.nodes.setdefault(address.name, _Level()).rise(now)
        if service.total.amount > BURST:
            self._begin(address.service, service, now)
        self.dropped += address in self
        return address in self

    def _service(self, name: str, now: float) -> _Service:
        if name not in self._services:
            if len(self._services) >= MAX_LEVELS:
                self._services = {key: each for key, each in self._services.items() if each.total.after(now)}
            self._services[name] = _Service()
        return self._services[name]

    def _begin(self, name: str, service: _Service, now: float) -> None:
        node, level = max(service.nodes.items(), key=lambda pair: pair[1].after(now))
        flood: Flood = name
        if level.after(now) * 2 >= service.total.amount:
            flood = NodeAddress(name, node)
            service.total.amount -= level.after(now)
            self._levels[flood] = service.nodes.pop(node)
        else:
            self._levels[flood] = self._services.pop(name).total
        logger.warning("Shedding a flood of notifications from %s.", flood if isinstance(flood, str) else flood.uri)
        self.pks[flood] = []
        self.dropped += self._queue.shed(flood)

    def invalidated(self, scope: Scope, pks: list[int]) -> bool:
        """Note that nodes were invalidated; return whether they are those of a flood. Its end is then looked for."""
        floods = list(self.pks) if scope is None else [scope] if scope in self.pks else []
        for flood in floods:
            if flood == scope:
                self.pks[flood] = pks
            if flood not in self._watched:
                self._watched.add(flood)
                asyncio.get_running_loop().call_later(INTERVAL, self._look, flood)
        return scope in self.pks

    def _look(self, flood: Flood) -> None:
        """End the flood if it is over. Invalidate its nodes in any case: they may have been synchronised meanwhile."""
        self._watched.discard(flood)
        if self._levels[flood].after(self._clock()) <= BURST / 2:
            del self._levels[flood], self.pks[flood]
        self._queue.invalidate(flood)


__all__ = ["Flood", "Floods"]
