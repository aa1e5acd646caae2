"""Fetches items whose notifications had no payload, with a limited number of concurrent requests."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from pubsubcache.conf import settings
from pubsubcache.exceptions import ServiceUnreachable
from pubsubcache.services import fetching
from pubsubcache.services.protocol import PubsubService
from pubsubcache.types import Item, NodeAddress

FETCHES = 16  # concurrent requests to all services
FETCHES_PER_SERVICE = 2  # concurrent requests to one service


@dataclass(slots=True)
class _Line:
    """The callers that fetch from one service or wait for their turn."""

    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(FETCHES_PER_SERVICE))
    users: int = 0
    failures: int = 0


class Fetcher:
    """Fetches items by id for one account, through `service`."""

    def __init__(self, service: PubsubService) -> None:
        self._service = service
        self._slots = asyncio.Semaphore(FETCHES)
        self._lines: dict[str, _Line] = {}

    async def fetch(self, address: NodeAddress, item_ids: Collection[str]) -> dict[str, Item]:
        """Return those of the items that exist, by id.

        Takes at most `IQ_TIMEOUT` once it is its turn. If the service does not answer, all callers that wait for it
        fail.

        Raises:
            ServiceUnreachable: The service did not answer in time.
            PubsubCacheError: The service refused; see `PubsubService`.
        """
        line = self._lines.setdefault(address.service, _Line())
        failures = line.failures
        line.users += 1
        try:
            async with line.slots, self._slots:
                if line.failures != failures:
                    raise ServiceUnreachable(f"{address.service} did not answer.")
                return await self._ask(line, address, item_ids)
        finally:
            line.users -= 1
            if not line.users:
                del self._lines[address.service]

    async def _ask(self, line: _Line, address: NodeAddress, item_ids: Collection[str]) -> dict[str, Item]:
        try:
            async with asyncio.timeout(settings.IQ_TIMEOUT):
                return {item.id: item for item in await fetching.read_ids(self._service, address, sorted(item_ids))}
        except Exception as error:
            if isinstance(error, TimeoutError) or fetching.is_unreachable(error):
                line.failures += 1
            if isinstance(error, TimeoutError):
                raise ServiceUnreachable(f"{address.service} did not answer in time.") from None
            raise


__all__ = ["Fetcher"]
