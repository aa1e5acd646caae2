"""Sends requests of commands to services: through the worker that holds the account, or a short session of its own."""

import asyncio
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

from asgiref.sync import async_to_sync

from pubsubcache.exceptions import AuthenticationFailed, PubsubCacheError, ServiceError, ServiceUnreachable
from pubsubcache.models import Account
from pubsubcache.services import remote
from pubsubcache.services.protocol import PubsubService
from pubsubcache.services.sessions import sessions
from pubsubcache.store import in_thread, nodes
from pubsubcache.types import Directory, ItemsRequest, NodeAddress, ServicePage, Subscription
from pubsubcache.worker.keeper import Keeper
from pubsubcache.xmpp.session import open_session

T = TypeVar("T")


class AccountService:
    """A `PubsubService` for an account. It does not connect before the first request.

    It tries the worker first, if there is one. If the worker does not answer, it opens a session that lasts until
    `close`. If the session cannot be opened, all requests fail with the same error.
    """

    def __init__(self, account: Account, worker: PubsubService | None = None) -> None:
        self.account = account
        self._worker = worker
        self._session: PubsubService | None = None
        self._failure: ServiceUnreachable | None = None
        self._opening = asyncio.Lock()
        self._stack = AsyncExitStack()

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ServicePage:
        return await self._ask(lambda service: service.get_items(address, request))

    async def get_item_ids(self, address: NodeAddress) -> list[str]:
        return await self._ask(lambda service: service.get_item_ids(address))

    async def subscribe(self, address: NodeAddress) -> Subscription:
        return await self._ask(lambda service: service.subscribe(address))

    async def unsubscribe(self, address: NodeAddress, subid: str = "") -> None:
        await self._ask(lambda service: service.unsubscribe(address, subid))

    async def get_node_metadata(self, address: NodeAddress) -> dict[str, Any]:
        return await self._ask(lambda service: service.get_node_metadata(address))

    async def get_subscriptions(self, address: NodeAddress) -> list[Subscription]:
        return await self._ask(lambda service: service.get_subscriptions(address))

    async def browse(self, service: str) -> Directory:
        return await self._ask(lambda asked: asked.browse(service))

    async def log_in(self) -> None:
        """Open the session. Raises `AuthenticationFailed`, `UntrustedServer` or `ServiceUnreachable`."""
        await self._own_session()

    async def close(self) -> None:
        """End the session, if one was opened."""
        await self._stack.aclose()

    async def _ask(self, request: Callable[[PubsubService], Coroutine[Any, Any, T]]) -> T:
        if self._worker is not None:
            try:
                return await request(self._worker)
            except ServiceUnreachable:
                self._worker = None
        return await request(await self._own_session())

    async def _own_session(self) -> PubsubService:
        async with self._opening:
            if self._failure is not None:
                raise type(self._failure)(str(self._failure))
            if self._session is None:
                try:
                    self._session = await self._open()
                except ServiceUnreachable as error:
                    self._failure = error
                    raise
            return self._session

    async def _open(self) -> PubsubService:
        if not self.account.password:
            raise AuthenticationFailed(
                f"The password of {self.account.jid} is missing, or was encrypted with another key."
            )
        return await self._stack.enter_async_context(open_session(Keeper.login_of(self.account)))


async def _worker_of(account: Account) -> PubsubService | None:
    if remote.reaches_workers():
        row = await in_thread(nodes.load_account)(account.jid)
        if row is not None and row.is_online():
            return remote.RemoteService(row.jid, row.worker)
    return None


@asynccontextmanager
async def asking(account: Account) -> AsyncIterator[PubsubService]:
    """Yield a service for `account`, and register it for this process during the block."""
    if (present := sessions.get(account.jid)) is not None:
        yield present
        return
    service = AccountService(account, await _worker_of(account))
    try:
        with sessions.offered(account.jid, service):
            yield service
    finally:
        await service.close()


async def unsubscribe_pending(account: Account) -> tuple[int, str]:
    """End the subscriptions that are scheduled to end; return their number, and why the rest failed or ""."""
    done = 0
    async with asking(account) as service:
        while pending := await in_thread(nodes.pending_unsubscriptions)(account.pk):
            for pk, address in pending:
                try:
                    with suppress(ServiceError):  # the node or the subscription no longer exists
                        await service.unsubscribe(address)
                except PubsubCacheError as error:
                    return done, str(error)
                await in_thread(nodes.unsubscription_done)(pk)
                done += 1
    return done, ""


def run(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run `work()` to its end. SIGINT and SIGTERM cancel it, so it can release what it holds."""
    cancel = _Cancel()

    async def cancellable() -> T:
        cancel.watch()
        return await work()

    with cancel.on_signals():
        try:
            return async_to_sync(cancellable)()
        except asyncio.CancelledError:
            if cancel.signal == signal.SIGINT:
                raise KeyboardInterrupt from None
            if cancel.signal:
                sys.exit(128 + cancel.signal)
            raise


class _Cancel:
    """Cancels a task on a signal. A second signal has its usual effect."""

    def __init__(self) -> None:
        self.signal = 0
        self._cancel: Callable[[], object] | None = None

    def watch(self) -> None:
        """Make signals cancel the current task."""
        task, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert task is not None
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        if self.signal:
            self._cancel()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Handle signals during the block, if this is the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def react(number: int, frame: object) -> None:
            restore()
            self.signal = number
            if self._cancel is not None:
                with suppress(RuntimeError):  # the loop is closed, so the work is done
                    self._cancel()

        for number in before:
            signal.signal(number, react)
        try:
            yield
        finally:
            restore()
