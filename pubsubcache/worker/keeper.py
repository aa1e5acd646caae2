"""Serves one account: keeps its session open, its status current, and its nodes synchronised and followed."""

import asyncio
import math
import time
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from typing import Any

from django.db import InterfaceError, OperationalError

from pubsubcache.conf import settings
from pubsubcache.exceptions import AuthenticationFailed, LeaseLost, PubsubCacheError, ServiceError, SyncInProgress
from pubsubcache.models import Account
from pubsubcache.services.sessions import sessions
from pubsubcache.store import accounts, in_thread, nodes, scheduling, uninterrupted
from pubsubcache.store.leases import Lease, acting_under
from pubsubcache.syncing.notifications import EventApplier
from pubsubcache.syncing.revalidation import check_ids, revalidate
from pubsubcache.types import PubsubEvent
from pubsubcache.utils import jid
from pubsubcache.utils.cleaning import get_logger
from pubsubcache.worker.ageing import Ageing
from pubsubcache.worker.slots import Slots
from pubsubcache.xmpp.session import Login, Session, SessionStatus

logger = get_logger(__name__)

POLL_INTERVAL = 1.0  # seconds between checks for due work if nobody wakes the keeper
DRAIN_TIMEOUT = 5.0  # seconds
QUIET = 0.1  # seconds without notifications of a node before its id check
CHECK_PATIENCE = 60.0  # seconds that an id check may wait for a slot
MAX_ID_CHECKS = 1000  # that may wait for a slot


class Keeper:
    """The work of a worker for one account, from `start` to `stop`."""

    def __init__(self, account: Account) -> None:
        self.account_pk = account.pk
        self.jid = account.jid
        #: The lease under which the keeper writes. A new session gets a new one.
        self.lease = Lease(account.pk, account.worker, account.fencing_token)
        self.login = self.login_of(account)
        self._session = Session(self.login, on_event=self._on_event, on_status=self._on_status, is_shed=self._is_shed)
        self._applier = EventApplier(
            account.jid,
            self._session,
            on_id_check=self._schedule_id_check,
            on_invalidated=lambda pk: self.wake(),
            on_overflow=self.wake,
        )
        self._due = asyncio.Event()
        self._statuses: asyncio.Queue[SessionStatus] = asyncio.Queue()
        self._id_checks: dict[int, float] = {}
        self._busy: dict[int, asyncio.Task[None]] = {}
        self._syncs = Slots(lambda: int(settings.SYNC_CONCURRENCY))
        self._checks = Slots(lambda: int(settings.SYNC_CONCURRENCY))
        self._unsubscribing: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._ageing = Ageing(account.pk)
        self._sessions = 0  # number of sessions begun without resuming the previous stream
        self._recorded = 0  # the last of them that is stored in the account's row
        self._recording = False
        #: Whether a job ended unexpectedly. Notifications may be lost since, so a new keeper replaces this one.
        self.failed = False

    @staticmethod
    def login_of(account: Account) -> Login:
        """Return the login data of an account."""
        return Login(
            jid=account.jid,
            password=account.password,
            host=account.host,
            port=account.port,
            tls_verify=account.tls_verify,
            ca_file=account.ca_file,
        )

    def start(self) -> None:
        """Start the jobs as tasks of the running event loop."""
        jobs = [self._keep_session(), self._keep_status(), self._applier.run(), self._keep_nodes()]
        self._tasks = [asyncio.create_task(job) for job in jobs]
        for task in self._tasks:
            task.add_done_callback(self._job_ended)

    def _job_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("A job for %s failed; starting a new session.", self.jid, exc_info=error)
            self.failed = True

    def has_lost(self, account: Account) -> bool:
        """Whether the row `account` shows that another worker has held the account meanwhile."""
        return not self._recording and account.fencing_token > self.lease.token

    async def stop(self) -> None:
        """End the session, store the received notifications, and release all claims."""
        busy = list(self._busy.values())
        if self._unsubscribing is not None:
            busy.append(self._unsubscribing)
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)
        await self._session.stop()
        if not self.failed:
            with suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_TIMEOUT):
                    await self._applier.finish()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def wake(self) -> None:
        """Check for due work soon."""
        self._due.set()

    # Callbacks of the session: they must not block its stream

    def _on_event(self, event: PubsubEvent) -> None:
        self._applier.feed(event)

    def _is_shed(self, sender: str, node: str) -> bool:
        return self._applier.is_shed(sender, node)

    def _on_status(self, status: SessionStatus) -> None:
        if status.state == "online" and not status.resumed:
            # Pending notifications of the lost session are older than what the new one reads.
            self._sessions += 1
            self._applier.close()
            self._applier.void()
        self._statuses.put_nowait(status)
        if status.state == "online":
            self._id_checks = dict.fromkeys(self._id_checks, time.monotonic())
        self.wake()

    def _schedule_id_check(self, pk: int) -> None:
        self._id_checks[pk] = time.monotonic() + QUIET  # postponed while more notifications arrive

    # Jobs

    async def _keep_session(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(sessions.offered(self.jid, self._session))
            with suppress(AuthenticationFailed):  # stored in the status; retried when the login data change
                await self._session.run()

    async def _keep_status(self) -> None:
        """Store each state of the session, in order. If the database was unavailable, store only the latest one."""
        while True:
            status = await self._statuses.get()
            while True:
                while not self._statuses.empty():
                    status = self._statuses.get_nowait()
                try:
                    await self._store_status(status)
                except LeaseLost:
                    logger.warning("Another worker holds %s now.", self.jid)
                    self.failed = True
                    return
                except Exception as error:
                    logger.warning("The status of %s could not be stored: %s", self.jid, error)
                    await asyncio.sleep(1.0)
                else:
                    break
            self.wake()

    async def _store_status(self, status: SessionStatus) -> None:
        if status.state != "online" or self._is_recorded():
            await in_thread(accounts.save_status)(self.lease, status.state, status.detail)
            return
        number = self._sessions
        self._recording = True
        try:
            begin = in_thread(accounts.begin_session)(self.lease, status.session_started)
            self.lease = await uninterrupted(begin)
        finally:
            self._recording = False
        self._recorded = number
        if self._is_recorded():
            self._applier.open(self.lease)

    def _is_recorded(self) -> bool:
        """Whether the current session has its lease. Before that, nothing may be written for it."""
        return self._recorded == self._sessions

    async def _keep_nodes(self) -> None:
        while True:
            self._due.clear()
            if self._session.online and self._is_recorded():
                try:
                    with acting_under(self.lease):
                        await self._attend()
                except LeaseLost:
                    logger.debug("The lease of %s ended.", self.jid)
                except Exception as error:
                    logger.warning("The due work for %s could not be loaded: %s", self.jid, error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience()):
                    await self._due.wait()

    def _patience(self) -> float:
        """Return the seconds to wait for a wake-up before checking for due work."""
        now = time.monotonic()
        # Checks that are due already wait for a slot. Releasing a slot wakes the keeper.
        soonest = min((due for due in self._id_checks.values() if due > now), default=math.inf) - now
        return float(min(POLL_INTERVAL, max(soonest, 0.01)))

    async def _attend(self) -> None:
        await self._ageing.attend()
        await self._start_checks()
        await self._start_syncs()
        if self._unsubscribing is None or self._unsubscribing.done():
            self._unsubscribing = asyncio.create_task(self._unsubscribe())

    async def _start_checks(self) -> None:
        """Start due id checks while there are slots.

        Nodes whose check has waited for too long are invalidated instead, and so are nodes beyond the maximum.
        """
        now = time.monotonic()
        waiting = sorted((due, pk) for pk, due in self._id_checks.items() if due <= now and pk not in self._busy)
        if not waiting:
            return
        domains = await in_thread(nodes.domains_of)([pk for _, pk in waiting[:MAX_ID_CHECKS]])
        silent = self._session.silent
        overdue = []
        for number, (due, pk) in enumerate(waiting[:MAX_ID_CHECKS]):
            domain = domains.get(pk)
            if domain is None:
                del self._id_checks[pk]
            elif domain not in silent and self._checks.take(domain):
                del self._id_checks[pk]
                self._start(pk, self._check_ids(pk), self._checks, domain)
            elif now - due > CHECK_PATIENCE or len(waiting) - number > MAX_ID_CHECKS:
                overdue.append(pk)
        if overdue:
            await in_thread(nodes.invalidate_nodes)(overdue)
            for pk in overdue:
                self._id_checks.pop(pk, None)

    async def _start_syncs(self) -> None:
        """Start to synchronise due nodes while there are slots. Services take turns."""
        while self._syncs.free:
            found = await in_thread(scheduling.next_due)(
                self.account_pk,
                token=self.lease.token,
                busy=(*self._busy, *self._applier.flooded),
                excluded=self._syncs.full | self._session.silent,
                served=self._syncs.served,
            )
            if found is None or not self._syncs.take(found[1]):
                return
            pk, domain = found
            self._start(pk, self._synchronise(pk), self._syncs, domain)

    def _start(self, pk: int, work: Coroutine[Any, Any, None], slots: Slots, domain: str) -> None:
        """Start work on a node. The caller has taken a slot for the `domain` of its service."""
        self._busy[pk] = task = asyncio.create_task(self._guarded(pk, work))
        task.add_done_callback(lambda _: self._ended(pk, slots, domain))

    def _ended(self, pk: int, slots: Slots, domain: str) -> None:
        self._busy.pop(pk, None)
        slots.release(domain)
        self.wake()

    async def _guarded(self, pk: int, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except SyncInProgress:
            logger.debug("Another process synchronises node %d.", pk)
        except LeaseLost:
            logger.debug("The lease of %s ended while node %d was synchronised.", self.jid, pk)
        except PubsubCacheError as error:
            logger.warning("Node %d of %s could not be synchronised: %s", pk, self.jid, error)
        except (OperationalError, InterfaceError) as error:
            logger.warning("Node %d of %s could not be synchronised: the database failed (%s).", pk, self.jid, error)
        except Exception:
            logger.exception("Synchronising node %d of %s failed unexpectedly.", pk, self.jid)

    async def _synchronise(self, pk: int) -> None:
        await revalidate(self._session, pk, self._applier.join)

    async def _check_ids(self, pk: int) -> None:
        try:
            done = await check_ids(self._session, pk, self._applier.join)
        except Exception:
            self._id_checks[pk] = time.monotonic() + settings.RETRY_DELAY  # or when the session is back online
            raise
        if not done:
            self._schedule_id_check(pk)

    async def _unsubscribe(self) -> None:
        """End the subscriptions to nodes that are no longer cached."""
        unreached: set[str] = set()
        try:
            for pk, address in await in_thread(nodes.pending_unsubscriptions)(self.account_pk, self._session.silent):
                domain = jid.domain(address.service)
                if domain in unreached:
                    continue
                try:
                    await self._session.unsubscribe(address)
                except ServiceError as error:
                    logger.info("Unsubscribing from %s: %s", address.uri, error)
                except PubsubCacheError:
                    unreached.add(domain)  # try again later
                    continue
                await in_thread(nodes.unsubscription_done)(pk)
        except Exception as error:
            logger.warning("Subscriptions of %s could not be ended: %s", self.jid, error)
