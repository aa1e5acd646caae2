"""Keeps one account: its session open, its status true, its nodes synchronised and followed."""

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack, suppress
from datetime import datetime
from typing import Any

from django.db import InterfaceError, OperationalError

from pubsubcache.conf import settings
from pubsubcache.events import EventApplier
from pubsubcache.exceptions import AuthenticationFailed, PubsubCacheError, ServiceError, SyncInProgress
from pubsubcache.models import Account
from pubsubcache.reconciling import keep_up
from pubsubcache.service import sessions
from pubsubcache.store import accounts, in_thread, nodes, syncing
from pubsubcache.sync import verify
from pubsubcache.texts import get_logger
from pubsubcache.types import PubsubEvent
from pubsubcache.xmpp.session import Login, Session, SessionStatus

logger = get_logger(__name__)

DRAIN_TIMEOUT = 5.0
QUIET = 0.1  # seconds without news of a node before its ids are compared


class Keeper:
    """The work of a worker for one account, from `start` to `stop`; `on_failure` is called when it must begin anew."""

    def __init__(self, account: Account, worker: str, on_failure: Callable[[], None] = lambda: None) -> None:
        self.account_pk = account.pk
        self.jid = account.jid
        self.worker = worker
        self.login = self.login_of(account)
        self._session = Session(self.login, on_event=self._on_event, on_status=self._on_status)
        self._applier = EventApplier(
            account.jid,
            self._session,
            on_unsure=self._on_unsure,
            on_doubt=lambda pk: self.wake(),
            on_overflow=self._on_overflow,
        )
        self._due = asyncio.Event()
        self._statuses: asyncio.Queue[SessionStatus] = asyncio.Queue()
        self._unsure: dict[int, float] = {}
        self._busy: dict[int, asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._all_doubtful = False
        self._on_failure = on_failure
        #: Whether a job ended that should not have: what came since may be lost, so begin anew.
        self.failed = False

    @staticmethod
    def login_of(account: Account) -> Login:
        """Return what is needed to log in."""
        return Login(
            jid=account.jid,
            password=account.password,
            host=account.host,
            port=account.port,
            tls_verify=account.tls_verify,
            ca_file=account.ca_file,
        )

    def start(self) -> None:
        """Begin."""
        jobs = [self._keep_session(), self._keep_status(), self._applier.run(), self._keep_nodes()]
        self._tasks = [asyncio.create_task(job) for job in jobs]
        for task in self._tasks:
            task.add_done_callback(self._job_ended)

    def _job_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("A job for %s failed; its session begins anew.", self.jid, exc_info=error)
            self.failed = True
            self._on_failure()

    async def stop(self) -> None:
        """End the session, store what came, give up claims."""
        busy = list(self._busy.values())
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        await self._session.stop()
        if not self.failed:
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_TIMEOUT):
                    await self._applier.join()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def wake(self) -> None:
        """Look at what is due, soon."""
        self._due.set()

    # What the session tells, on its stream's time

    def _on_event(self, event: PubsubEvent) -> None:
        self._applier.feed(event)

    def _on_status(self, status: SessionStatus) -> None:
        self._statuses.put_nowait(status)
        if status.state == "online":
            self._unsure = dict.fromkeys(self._unsure, time.monotonic())
        self.wake()

    def _on_unsure(self, pk: int) -> None:
        self._unsure[pk] = time.monotonic() + QUIET  # put off while more comes in

    def _on_overflow(self) -> None:
        self._all_doubtful = True
        self.wake()

    # Jobs

    async def _keep_session(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(sessions.offered(self.jid, self._session))
            with suppress(AuthenticationFailed):  # its status says so; tried again when the login is changed
                await self._session.run()

    async def _keep_status(self) -> None:
        """Store each state of the session, in order; only the last counts when the database was away."""
        while True:
            status = await self._statuses.get()
            while True:
                while not self._statuses.empty():
                    status = self._statuses.get_nowait()
                try:
                    await in_thread(accounts.save_status)(
                        self.worker, self.account_pk, status.state, status.detail, status.session_started
                    )
                except Exception as error:
                    logger.warning("The status of %s could not be stored: %s", self.jid, error)
                    await asyncio.sleep(1.0)
                else:
                    break
            self.wake()

    async def _keep_nodes(self) -> None:
        while True:
            self._due.clear()
            if self._session.online:
                try:
                    await self._attend()
                except Exception as error:
                    logger.warning("What is due for %s could not be looked up: %s", self.jid, error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience()):
                    await self._due.wait()

    def _patience(self) -> float:
        """Return how long to wait for a call before looking at what is due."""
        soonest = min(self._unsure.values(), default=math.inf) - time.monotonic()
        return float(min(settings.POLL_INTERVAL, max(soonest, 0.01)))

    async def _attend(self) -> None:
        if self._all_doubtful:
            await in_thread(nodes.doubt_all)(self.account_pk)
            self._all_doubtful = False
        for pk in [pk for pk, due in self._unsure.items() if due <= time.monotonic() and pk not in self._busy]:
            del self._unsure[pk]
            self._start(pk, self._verify(pk))
        await self._unsubscribe()
        free = settings.SYNC_CONCURRENCY - len(self._busy)
        if free <= 0:
            return
        since: datetime | None = self._session.started_at
        for pk in await in_thread(syncing.due)(self.account_pk, free + len(self._busy), online_since=since):
            if pk not in self._busy and len(self._busy) < settings.SYNC_CONCURRENCY:
                self._start(pk, self._synchronise(pk))

    def _start(self, pk: int, work: Coroutine[Any, Any, None]) -> None:
        self._busy[pk] = asyncio.create_task(self._guarded(pk, work))

    async def _guarded(self, pk: int, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except SyncInProgress:
            logger.debug("Another process synchronises node %d.", pk)
        except PubsubCacheError as error:
            logger.warning("Node %d of %s is not in sync: %s", pk, self.jid, error)
        except (OperationalError, InterfaceError) as error:
            logger.warning("Node %d of %s is not in sync: the database failed (%s).", pk, self.jid, error)
        except Exception:
            logger.exception("Node %d of %s could not be synchronised.", pk, self.jid)
        finally:
            self._busy.pop(pk, None)
            self.wake()

    async def _synchronise(self, pk: int) -> None:
        await keep_up(self._session, pk, self._applier.join)

    async def _verify(self, pk: int) -> None:
        try:
            settled = await verify(self._session, pk, self._applier.join)
        except Exception:
            self._unsure[pk] = time.monotonic() + settings.RETRY_DELAY  # or as soon as the session is back
            raise
        if not settled:
            self._on_unsure(pk)

    async def _unsubscribe(self) -> None:
        """Give up the subscriptions of nodes that the cache no longer keeps."""
        for pk, address in await in_thread(nodes.pending_unsubscriptions)(self.account_pk):
            try:
                await self._session.unsubscribe(address)
            except ServiceError as error:
                logger.info("Unsubscribing from %s: %s", address.uri, error)
            except PubsubCacheError:
                return  # not reached: kept for later
            await in_thread(nodes.unsubscription_done)(pk)
