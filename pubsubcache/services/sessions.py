"""What this process itself offers: services of the sessions that it holds, and callbacks that wake its workers."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pubsubcache.services.protocol import PubsubService


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

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._service, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            future = asyncio.run_coroutine_threadsafe(method(*args, **kwargs), self._loop)
            return await asyncio.wrap_future(future)

        return call


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
