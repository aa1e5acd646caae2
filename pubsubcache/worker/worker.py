"""The worker: leases of accounts, a keeper for each, and the channels on which web processes ask.

It is Channels' worker with what that lacks for sessions that live long: sessions open before the first
message comes, a bad message stops nothing, and a signal ends everything in order.
"""

import asyncio
import os
import re
import signal
import socket
import time
import uuid
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from channels.worker import Worker

from pubsubcache import rpc
from pubsubcache.cleaning import get_logger
from pubsubcache.conf import settings
from pubsubcache.models import Account
from pubsubcache.service import wakers
from pubsubcache.store import accounts, in_thread, own_thread, uninterrupted
from pubsubcache.worker import process
from pubsubcache.worker.keeper import Keeper

logger = get_logger(__name__)

GROUP_RENEWAL = 3600.0
STOP_TIMEOUT = 15.0
RELEASE_TIMEOUT = 5.0


def worker_name() -> str:
    """Return a name for this worker that no other has, fit to be part of a channel's name."""
    host = re.sub(r"[^a-zA-Z0-9-]", "-", socket.gethostname())[:30]
    return f"{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


class PubsubWorker(Worker):  # type: ignore[misc]
    """Holds the sessions of the enabled accounts that no other worker holds.

    `run` works until SIGTERM or SIGINT, `work` (in a running event loop) until `stop`.
    """

    def __init__(self, application: Any, channel_layer: Any) -> None:
        self.name = worker_name()
        super().__init__(application, [settings.CHANNEL, rpc.worker_channel(self.name)], channel_layer)
        self._stopping = asyncio.Event()
        self._due = asyncio.Event()
        self._keepers: dict[int, Keeper] = {}
        self._renewed = time.monotonic()

    def run(self) -> None:
        """Work until a signal says to stop."""
        process.set_up()
        asyncio.run(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        await self.work()

    def stop(self) -> None:
        """Have `work` end."""
        self._stopping.set()

    async def work(self) -> None:
        """Hold sessions and answer requests until `stop`; then end the sessions and give the leases back."""
        logger.info("Worker %s has started.", self.name)
        async with own_thread():
            await self._work()
        logger.info("Worker %s has stopped.", self.name)

    async def _work(self) -> None:
        with wakers.offered(self._wake):
            renewal = asyncio.create_task(self._forever(self._keep_renewing, "renewal"))
            tasks = [
                asyncio.create_task(self._forever(job, name))
                for name, job in [
                    ("leases", self._keep_leases),
                    ("group", self._keep_in_group),
                    ("applications", self.application_checker),
                    *((channel, self._listen_on(channel)) for channel in self.channels),
                ]
            ]
            try:
                await self._stopping.wait()
            finally:
                await self._end(tasks)
                renewal.cancel()
                await asyncio.gather(renewal, return_exceptions=True)
                await self._release()

    async def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        """End the sessions; the leases are kept until what came in is stored."""
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT):
                await asyncio.gather(*(keeper.stop() for keeper in self._keepers.values()), return_exceptions=True)

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await in_thread(accounts.release_accounts)(self.name)
        except Exception as error:  # the database may be away: the leases then expire
            logger.warning("The leases could not be given back: %s", error or type(error).__name__)

    async def _forever(self, job: Callable[[], Coroutine[Any, Any, Any]], name: str) -> None:
        """Run a job that never ends, and again when it fails, as when the layer or the database is away."""
        delay = 0.5
        while True:
            began = time.monotonic()
            try:
                await job()
            except Exception as error:
                logger.warning("The worker's job %s failed (%s: %s); going on.", name, type(error).__name__, error)
                logger.debug("It failed so:", exc_info=True)
            delay = 0.5 if time.monotonic() - began > 60 else min(delay * 2, 10.0)
            await asyncio.sleep(delay)

    # Channels

    def _listen_on(self, channel: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def listen() -> None:
            while True:
                message = await rpc.receive(self.channel_layer, channel)
                scope = {"type": "channel", "channel": settings.CHANNEL}
                queue = self.get_or_create_application_instance(settings.CHANNEL, scope)
                await queue.put(message)

        return listen

    async def _keep_in_group(self) -> None:
        while True:
            await self.channel_layer.group_add(rpc.WORKERS_GROUP, rpc.worker_channel(self.name))
            await asyncio.sleep(GROUP_RENEWAL)

    # Accounts

    def _wake(self) -> None:
        self._due.set()
        for keeper in self._keepers.values():
            keeper.wake()

    async def _keep_renewing(self) -> None:
        """Renew the leases, whatever else takes long; give all up when that has failed for too long."""
        while True:
            try:
                await in_thread(accounts.renew_leases)(self.name)
            except Exception as error:
                logger.warning("The leases could not be renewed: %s", error)
            else:
                self._renewed = time.monotonic()
            await asyncio.sleep(settings.HEARTBEAT_INTERVAL)

    async def _keep_leases(self) -> None:
        while True:
            self._due.clear()
            try:
                held = await uninterrupted(in_thread(accounts.claim_accounts)(self.name))
            except Exception as error:
                logger.warning("The leases could not be looked at: %s", error)
                if time.monotonic() - self._renewed > settings.LEASE_TIMEOUT:
                    await self._hold([])  # another worker may have them by now
            else:
                self._renewed = time.monotonic()
                await self._hold(held)
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.HEARTBEAT_INTERVAL):
                    await self._due.wait()
                    await asyncio.sleep(0.05)  # several calls at once count as one

    async def _hold(self, held: list[Account]) -> None:
        """Bring the keepers in line with the accounts that are ours."""
        by_pk = {account.pk: account for account in held}
        leaving = [pk for pk, keeper in self._keepers.items() if self._must_end(keeper, by_pk.get(pk))]
        if leaving:
            await asyncio.gather(*(self._keepers[pk].stop() for pk in leaving))
        for pk in leaving:
            del self._keepers[pk]
        if gone := [pk for pk in leaving if pk not in by_pk]:
            await in_thread(accounts.release_accounts)(self.name, gone)
        for pk, account in by_pk.items():
            if pk not in self._keepers:
                self._keepers[pk] = Keeper(account)
                self._keepers[pk].start()

    @staticmethod
    def _must_end(keeper: Keeper, account: Account | None) -> bool:
        """Whether the work for an account ends, given its row if it is still ours."""
        if account is None or keeper.failed:
            return True
        return keeper.login != Keeper.login_of(account) or keeper.has_lost(account)
