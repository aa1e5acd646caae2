"""Slots for concurrent work on nodes, shared fairly between services."""

from collections import Counter
from collections.abc import Callable

MAX_SERVED = 100  # services remembered per round


class Slots:
    """Limits concurrent work: to `total` slots, of which a service gets at most half, but at least one.

    The last free slot goes to a service that has none, so two slow services do not delay all others. Services take
    turns: those in `served` had a slot in this round, and must wait while other services have work.

    Args:
        total: Returns the number of slots. Called at each use.
    """

    def __init__(self, total: Callable[[], int]) -> None:
        self._total = total
        self._taken: Counter[str] = Counter()
        self._served: dict[str, None] = {}

    @property
    def free(self) -> int:
        """The number of free slots."""
        return max(self._total() - self._taken.total(), 0)

    @property
    def full(self) -> frozenset[str]:
        """The services that get no further slot for now."""
        share = 1 if self.free == 1 else max(self._total() // 2, 1)
        return frozenset(service for service, number in self._taken.items() if number >= share)

    @property
    def served(self) -> frozenset[str]:
        """The services that had a slot in this round."""
        return frozenset(self._served)

    def take(self, service: str) -> bool:
        """Take a slot for work on a node of `service`. Return False if there is none for it."""
        if not self.free or service in self.full:
            return False
        self._taken[service] += 1
        if service in self._served:  # no other service has work: a new round begins
            self._served.clear()
        self._served[service] = None
        if len(self._served) > MAX_SERVED:
            del self._served[next(iter(self._served))]
        return True

    def release(self, service: str) -> None:
        """Release a slot of `service`."""
        self._taken[service] -= 1
        if not self._taken[service]:
            del self._taken[service]
