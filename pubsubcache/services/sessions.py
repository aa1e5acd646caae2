"""Registries of this process: the services that its sessions provide, and the callbacks that wake its workers."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pubsubcache.services.protocol import PubsubService
from pubsubcache.types import Directory, ItemsRequest, NodeAddress, ServicePage, Subscription

T = TypeVar("T")


class _Sessions:
    """The services that sessions of this process provide, by the account's bare JID."""

    def __init__(self) -> None:
        self._by_jid: dict[str, list[tuple[PubsubService, asyncio.AbstractEventLoop]]] = {}

    def get(self, jid: str) -> PubsubService | None:
        """Return the service for the account `jid`, or None. It can be called from any event loop."""
        if not (found := self._by_jid.get(jid)):
            return None
        service, loop = found[-1]
        if loop is asyncio.get_running_loop():
            return service
        return _OtherLoop(service, loop)

    @contextmanager
    def offered(self, jid: str, service: PubsubService) -> Iterator[None]:
        """Register `service`, which belongs to the running event loop, for the account `jid` during the block.

        The latest registration counts. Registrations may end in any order.
        """
        offers = self._by_jid.setdefault(jid, [])
        offer = (service, asyncio.get_running_loop())
        offers.append(offer)
        try:
            yield
        finally:
            offers.remove(offer)


class _OtherLoop:
    """A service that belongs to another event loop than its caller."""

    def __init__(self, service: PubsubService, loop: asyncio.AbstractEventLoop) -> None:
        self._service = service
        self._loop = loop

    async def _run(self, request: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(request, self._loop))

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ServicePage:
        return await self._run(self._service.get_items(address, request))

    async def get_item_ids(self, address: NodeAddress) -> list[str]:
        return await self._run(self._service.get_item_ids(address))

    async def subscribe(self, address: NodeAddress) -> Subscription:
        return await self._run(self._service.subscribe(address))

    async def unsubscribe(self, address: NodeAddress, subid: str = "") -> None:
        await self._run(self._service.unsubscribe(address, subid))

    async def get_node_metadata(self, address: NodeAddress) -> dict[str, tuple[str, ...]]:
        return await self._run(self._service.get_node_metadata(address))

    async def get_subscriptions(self, address: NodeAddress) -> list[Subscription]:
        return await self._run(self._service.get_subscriptions(address))

    async def browse(self, service: str) -> Directory:
        return await self._run(self._service.browse(service))


sessions = _Sessions()


class _Wakers:
    """The callbacks that wake the workers of this process when work is due."""

    def __init__(self) -> None:
        self._callbacks: set[Callable[[], None]] = set()

    @contextmanager
    def offered(self, callback: Callable[[], None]) -> Iterator[None]:
        """Register `callback` during the block. It must not block."""
        self._callbacks.add(callback)
        try:
            yield
        finally:
            self._callbacks.discard(callback)

    @property
    def are_offered(self) -> bool:
        """Whether a worker of this process is running."""
        return bool(self._callbacks)

    def call(self) -> None:
        """Call all registered callbacks."""
        for callback in list(self._callbacks):
            callback()


wakers = _Wakers()
