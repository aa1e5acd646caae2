"""Counts the requests to a service, for the records of sync runs."""

from typing import Protocol

from pubsubcache.services.protocol import PubsubService
from pubsubcache.types import Directory, ItemsRequest, NodeAddress, ServicePage, Subscription


class Counter(Protocol):
    """Has a number of requests."""

    requests: int


class CountedService:
    """A service whose requests are counted in `counter`."""

    def __init__(self, service: PubsubService, counter: Counter) -> None:
        self._service = service
        self._counter = counter

    def _counted(self) -> PubsubService:
        self._counter.requests += 1
        return self._service

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ServicePage:
        return await self._counted().get_items(address, request)

    async def get_item_ids(self, address: NodeAddress) -> list[str]:
        return await self._counted().get_item_ids(address)

    async def subscribe(self, address: NodeAddress) -> Subscription:
        return await self._counted().subscribe(address)

    async def unsubscribe(self, address: NodeAddress, subid: str = "") -> None:
        await self._counted().unsubscribe(address, subid)

    async def get_node_metadata(self, address: NodeAddress) -> dict[str, tuple[str, ...]]:
        return await self._counted().get_node_metadata(address)

    async def get_subscriptions(self, address: NodeAddress) -> list[Subscription]:
        return await self._counted().get_subscriptions(address)

    async def browse(self, service: str) -> Directory:
        return await self._counted().browse(service)
