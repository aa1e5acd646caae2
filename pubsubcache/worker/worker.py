"""The worker: it holds leases of accounts, runs a keeper for each, does jobs, and listens on channels for requests.

It extends Channels' worker for long-lived sessions: sessions open before the first message arrives, an invalid message
does not stop the worker, and a signal ends it in order.
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

from pubsubcache.conf import settings
from pubsubcache.models import Account
from pubsubcache.services import remote
from pubsubcache.services.consumers import PubsubConsumer
from pubsubcache.services.sessions import wakers
from pubsubcache.store import accounts, in_thread, own_thread, uninterrupted
from pubsubcache.store.activity import counters
from pubsubcache.utils import backoff
from pubsubcache.utils.cleaning import get_logger
from pubsubcache.worker import process
from pubsubcache.worker.jobs import JobRunner
from pubsubcache.worker.keeper import Keeper

logger = get_logger(__name__)

HEARTBEATS = 4  # per `LEASE_TIMEOUT`, so a late one does not lose the lease
GROUP_RENEWAL = 3600.0  # seconds
STOP_TIMEOUT = 15.0  # seconds
RELEASE_TIMEOUT = 5.0  # seconds


def worker_name() -> str:
    """Return a unique name for this worker that is valid as part of a channel name."""
    host = re.sub(r"[^a-zA-Z0-9-]", "-", socket.gethostname())[:30]
    return f"{host}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


class PubsubWorker(Worker):  # type: ignore[misc]
    """Holds the sessions of the enabled accounts that no other worker holds.

    `run` works until SIGTERM or SIGINT. `work` runs in the current event loop until `stop` is called.
    """

    def __init__(self, channel_layer: Any) -> None:
        self.name = worker_name()
        channels = [settings.CHANNEL, remote.worker_channel(self.name)]
        super().__init__(PubsubConsumer.as_asgi(), channels, channel_layer)
        self._stopping = asyncio.Event()
        self._due = asyncio.Event()
        self._keepers: dict[int, Keeper] = {}
        self._renewed = time.monotonic()
        self._jobs = JobRunner(self.name)

    def run(self) -> None:
        """Work until SIGTERM or SIGINT."""
        process.set_up()
        asyncio.run(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        await self.work()

    def stop(self) -> None:
        """Make `work` end."""
        self._stopping.set()

    async def work(self) -> None:
        """Hold sessions and answer requests until `stop` is called; then end the sessions and release the leases."""
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
                    ("jobs", self._jobs.run),
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
        """End the sessions. The leases are kept until all received notifications are stored."""
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
                await in_thread(counters.flush)()
        except Exception as error:  # the database may be unavailable: the leases then expire
            logger.warning("The leases could not be released: %s", error or type(error).__name__)

    async def _forever(self, job: Callable[[], Coroutine[Any, Any, Any]], name: str) -> None:
        """Run a job that never ends. Restart it if it fails, because the layer or the database may be unavailable."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                await job()
            except Exception as error:
                logger.warning("The worker's job %s failed (%s: %s); restarting it.", name, type(error).__name__, error)
                logger.debug("Traceback of job %s:", name, exc_info=True)
            failures = 1 if time.monotonic() - began > 60 else failures + 1
            await asyncio.sleep(backoff.delay(failures, 0.5, 10.0))

    # Channels

    def _listen_on(self, channel: str) -> Callable[[], Coroutine[Any, Any, None]]:
        async def listen() -> None:
            while True:
                message = await remote.receive(self.channel_layer, channel)
                scope = {"type": "channel", "channel": settings.CHANNEL}
                queue = self.get_or_create_application_instance(settings.CHANNEL, scope)
                await queue.put(message)

        return listen

    async def _keep_in_group(self) -> None:
        while True:
            await self.channel_layer.group_add(remote.WORKERS_GROUP, remote.worker_channel(self.name))
            await asyncio.sleep(GROUP_RENEWAL)

    # Accounts

    def _wake(self) -> None:
        self._due.set()
        self._jobs.wake()
        for keeper in self._keepers.values():
            keeper.wake()

    async def _keep_renewing(self) -> None:
        """Renew the leases, independently of other jobs that may take long."""
        while True:
            try:
                await in_thread(accounts.renew_leases)(self.name)
                self._renewed = time.monotonic()
                await in_thread(counters.flush_if_due)()
            except Exception as error:
                logger.warning("The leases could not be renewed: %s", error)
            await asyncio.sleep(settings.LEASE_TIMEOUT / HEARTBEATS)

    async def _keep_leases(self) -> None:
        while True:
            self._due.clear()
            try:
                held = await uninterrupted(in_thread(accounts.claim_accounts)(self.name))
            except Exception as error:
                logger.warning("The leases could not be checked: %s", error)
                if time.monotonic() - self._renewed > settings.LEASE_TIMEOUT:
                    await self._hold([])  # the leases have expired: another worker may hold them now
            else:
                self._renewed = time.monotonic()
                await self._hold(held)
            with suppress(TimeoutError):
                async with asyncio.timeout(settings.LEASE_TIMEOUT / HEARTBEATS):
                    await self._due.wait()
                    await asyncio.sleep(0.05)  # combine several wake-ups

    async def _hold(self, held: list[Account]) -> None:
        """Start and stop keepers so that there is one for each account held by this worker."""
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
        """Whether a keeper must end. `account` is the row of its account, or None if this worker no longer holds it."""
        if account is None or keeper.failed:
            return True
        return keeper.login != Keeper.login_of(account) or keeper.has_lost(account)
