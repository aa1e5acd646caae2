"""Slots for work on nodes, shared fairly between the services that it asks."""

from collections import Counter
from collections.abc import Callable

MAX_SERVED = 100  # services remembered of a round


class Slots:
    """Limits the work under way: in all to `total`, and for each service to half of that, at least one.

    The last free slot is for a service that has none yet, so that two slow services do not hold up all others.
    Services take turns: `served` names those that had a slot in this round, to be passed over while others have work.

    Args:
        total: Returns how many slots there are; asked at each use.
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
        """The services that get no other slot for now."""
        share = 1 if self.free == 1 else max(self._total() // 2, 1)
        return frozenset(service for service, number in self._taken.items() if number >= share)

    @property
    def served(self) -> frozenset[str]:
        """The services that had a slot in this round."""
        return frozenset(self._served)

    def take(self, service: str) -> bool:
        """Take a slot for work that asks `service`; return False when there is none for it."""
        if not self.free or service in self.full:
            return False
        self._taken[service] += 1
        if service in self._served:  # so no other had work: a new round begins
            self._served.clear()
        self._served[service] = None
        if len(self._served) > MAX_SERVED:
            del self._served[next(iter(self._served))]
        return True

    def release(self, service: str) -> None:
        """Give a slot of `service` back."""
        self._taken[service] -= 1
        if not self._taken[service]:
            del self._taken[service]
