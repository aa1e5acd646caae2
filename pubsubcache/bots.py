"""The cache of an account for the slixmpp plug-in `pubsubcache.xmpp.plugin`.

The plug-in depends neither on the cache nor on the database; it gets a `CacheOfAccount` from `AppConfig.cache_of`.
"""

import asyncio
from contextlib import suppress

from pubsubcache import cache
from pubsubcache.exceptions import PubsubCacheError, SyncInProgress
from pubsubcache.models import PubsubNode
from pubsubcache.services import fetching, remote
from pubsubcache.services.protocol import PubsubService
from pubsubcache.services.sessions import sessions
from pubsubcache.signals import announce_items, items_published, items_retracted
from pubsubcache.store import in_thread, nodes, uninterrupted
from pubsubcache.store.activity import counters
from pubsubcache.store.changes import Change, Outcome, Retraction
from pubsubcache.store.written import apply_answer
from pubsubcache.syncing.preparing import prepare
from pubsubcache.syncing.revalidation import check_ids
from pubsubcache.types import ItemsPage, ItemsRequest, NodeAddress, known_id
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

ATTEMPTS = 5
QUIET = 0.5  # seconds without a write before an id check
SyncState = PubsubNode.SyncState


class CacheOfAccount:
    """Cache of an account for a program with its own XMPP session.

    Args:
        account: Bare JID of the account.
        service: Sends requests over the session of the program.
    """

    def __init__(self, account: str, service: PubsubService) -> None:
        self.account = account
        self._service = service
        self._known = False
        self._written: dict[NodeAddress, dict[str, None]] = {}
        self._turns: dict[NodeAddress, asyncio.Lock] = {}
        self._id_checks: set[int] = set()
        self._checking_ids: dict[int, asyncio.Task[None]] = {}

    def close(self) -> None:
        """Cancel background tasks."""
        for task in self._checking_ids.values():
            task.cancel()

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ItemsPage:
        """Answer a request like `pubsubcache.cache.get_items`; if the database fails, ask the service only."""
        try:
            await self._look_for_account()
            with sessions.offered(self.account, self._service):
                return await cache.read(self.account, address, request)
        except PubsubCacheError:
            raise
        except Exception:
            logger.exception("The cache failed; asking the service for %s.", address.uri)
            return await fetching.read(self._service, address, request)

    async def _look_for_account(self) -> None:
        if not self._known and await in_thread(nodes.load_account)(self.account) is None:
            logger.warning("The cache has no account %s: add it with manage.py pubsub_account add.", self.account)
        self._known = True

    async def written(self, address: NodeAddress, item_ids: list[str] | None) -> None:
        """Update the cache after the program changed items at the service.

        The items are read from the service, so that the cache stores them as the service does. Concurrent writes are
        handled together.

        Args:
            address: The node.
            item_ids: Ids of the changed items; None if any item may have changed.
        """
        if item_ids is None:
            await self._invalidate(address)
            return
        self._written.setdefault(address, {}).update(dict.fromkeys(item_ids))
        try:
            async with self._turns.setdefault(address, asyncio.Lock()):
                if waiting := self._written.pop(address, None):  # else an earlier holder included this write
                    await self._update(address, list(waiting))
        except PubsubCacheError as error:
            logger.info("Could not read the items written to %s: %s", address.uri, error)
            await self._invalidate(address)
        except BaseException:  # also if cancelled while it waits for the lock
            await uninterrupted(self._invalidate(address))
            raise

    async def _update(self, address: NodeAddress, item_ids: list[str]) -> None:
        for _ in range(ATTEMPTS):
            node = await in_thread(nodes.find_node)(self.account, address)
            if node is None or node.sync_state not in (SyncState.COMPLETED, SyncState.IN_PROGRESS):
                return
            if node.sync_owner:
                break  # the pages of a running synchronisation may be older than the write
            found = {item.id: item for item in await fetching.read_ids(self._service, address, item_ids)}
            prepared = await prepare(node.analyser, address, list(found.values()))
            known_ids = [known_id(item_id) for item_id in item_ids]
            changes: list[Change] = [prepared[known] if known in prepared else Retraction(known) for known in known_ids]
            outcome = await in_thread(apply_answer)(node, changes)
            if outcome is not None:
                await self._announce(outcome)
                return
        await self._invalidate(address)

    async def _announce(self, outcome: Outcome) -> None:
        counters.count(self.account, "stored", len(outcome.published))
        if outcome.grown or outcome.order_unknown:
            self._check_ids_soon(outcome.node_pk)
        await announce_items(items_published, outcome.node_pk, outcome.published)
        await announce_items(items_retracted, outcome.node_pk, outcome.retracted)

    async def _invalidate(self, address: NodeAddress) -> None:
        """Invalidate a node and request its revalidation."""
        if (node := await in_thread(nodes.find_node)(self.account, address)) is not None:
            await in_thread(nodes.invalidate_node)(node.pk)
            await in_thread(nodes.request_revalidation)(node.pk)
            await remote.awake()

    def _check_ids_soon(self, pk: int) -> None:
        """Schedule an id check, because a service may remove old items without a notification.

        The worker does not check, because the notifications of these writes change nothing.
        """
        self._id_checks.add(pk)
        if pk not in self._checking_ids:
            self._checking_ids[pk] = asyncio.create_task(self._check_ids(pk))

    async def _check_ids(self, pk: int) -> None:
        try:
            while pk in self._id_checks:
                await asyncio.sleep(QUIET)
                self._id_checks.discard(pk)
                with suppress(SyncInProgress):
                    if not await check_ids(self._service, pk):
                        self._id_checks.add(pk)
        except PubsubCacheError as error:
            logger.info("The id check of node %d failed: %s", pk, error)
            await in_thread(nodes.invalidate_node)(pk)
        except Exception:
            logger.exception("The id check of node %d failed.", pk)
        finally:
            self._checking_ids.pop(pk, None)
