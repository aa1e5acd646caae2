"""What this process itself offers: services of the sessions that it holds, and callbacks that wake its workers."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pubsubcache.services.protocol import PubsubService
from pubsubcache.types import ItemsRequest, NodeAddress, ServicePage, Subscription

T = TypeVar("T")


class _Sessions:
    """The services that this process can ask itself, by the account's bare JID."""

    def __init__(self) -> None:
        self._by_jid: dict[str, list[tuple[PubsubService, asyncio.AbstractEventLoop]]] = {}

    def get(self, jid: str) -> PubsubService | None:
        """Return the service for the account `jid`, callable from any event loop, or None."""
        if not (found := self._by_jid.get(jid)):
            return None
        service, loop = found[-1]
        if loop is asyncio.get_running_loop():
            return service
        return _OtherLoop(service, loop)

    @contextmanager
    def offered(self, jid: str, service: PubsubService) -> Iterator[None]:
        """Offer `service`, which lives in the running event loop, for the account `jid` meanwhile.

        The latest offer counts; offers may end in any order.
        """
        offers = self._by_jid.setdefault(jid, [])
        offer = (service, asyncio.get_running_loop())
        offers.append(offer)
        try:
            yield
        finally:
            offers.remove(offer)


class _OtherLoop:
    """A service that lives in another event loop than its caller."""

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


sessions = _Sessions()


class _Wakers:
    """What is to be called in this process when something became due."""

    def __init__(self) -> None:
        self._callbacks: set[Callable[[], None]] = set()

    @contextmanager
    def offered(self, callback: Callable[[], None]) -> Iterator[None]:
        """Have `callback`, which is to return at once, called meanwhile."""
        self._callbacks.add(callback)
        try:
            yield
        finally:
            self._callbacks.discard(callback)

    def call(self) -> None:
        """Call them all."""
        for callback in list(self._callbacks):
            callback()


wakers = _Wakers()
