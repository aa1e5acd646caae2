"""The cache as the slixmpp plug-in of `pubsubcache.xmpp.plugin` uses it.

`xmpp/` knows neither the cache nor the database; the application's `AppConfig.cache_of` brings the two together.
"""

import asyncio
from contextlib import suppress

from pubsubcache import cache
from pubsubcache.exceptions import PubsubCacheError, SyncInProgress
from pubsubcache.models import PubsubNode
from pubsubcache.services import fetching, remote
from pubsubcache.services.protocol import PubsubService
from pubsubcache.services.sessions import sessions
from pubsubcache.signals import announce, items_published, items_retracted
from pubsubcache.store import in_thread, nodes, uninterrupted
from pubsubcache.store.changes import Change, Outcome, Removal
from pubsubcache.store.written import apply_at
from pubsubcache.syncing.preparing import prepare
from pubsubcache.syncing.revalidation import check_ids
from pubsubcache.types import ItemsPage, ItemsRequest, NodeAddress, known_id
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

ATTEMPTS = 5
QUIET = 0.5  # seconds without a write before a node's ids are compared
SyncState = PubsubNode.SyncState


class CacheOfAccount:
    """The cache of the account `account` (a bare JID), for a program that reaches services by `service`."""

    def __init__(self, account: str, service: PubsubService) -> None:
        self.account = account
        self._service = service
        self._known = False
        self._written: dict[NodeAddress, dict[str, None]] = {}
        self._turns: dict[NodeAddress, asyncio.Lock] = {}
        self._id_checks: set[int] = set()
        self._checking_ids: dict[int, asyncio.Task[None]] = {}

    def close(self) -> None:
        """End what goes on in the background."""
        for task in self._checking_ids.values():
            task.cancel()

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ItemsPage:
        """Answer a request as `pubsubcache.cache.get_items` does, and without the database by the service alone."""
        try:
            await self._look_for_account()
            with sessions.offered(self.account, self._service):
                return await cache.read(self.account, address, request)
        except PubsubCacheError:
            raise
        except Exception:
            logger.exception("The cache failed; the service is asked for %s.", address.uri)
            return await fetching.read(self._service, address, request)

    async def _look_for_account(self) -> None:
        if not self._known and await in_thread(nodes.load_account)(self.account) is None:
            logger.warning("The cache has no account %s: add it with manage.py pubsub_account add.", self.account)
        self._known = True

    async def written(self, address: NodeAddress, names: list[str] | None) -> None:
        """Take in that the items `names` of a node were changed at the service; None: anything may have been.

        What became of them is asked of the service, so that they are kept as it has them. Writes that come
        together are taken in together.
        """
        if names is None:
            await self._invalidate(address)
            return
        self._written.setdefault(address, {}).update(dict.fromkeys(names))
        async with self._turns.setdefault(address, asyncio.Lock()):
            if not (waiting := self._written.pop(address, None)):
                return  # whoever had the turn before asked after our write
            try:
                await self._take_in(address, list(waiting))
            except PubsubCacheError as error:
                logger.info("What was written to %s could not be read again: %s", address.uri, error)
                await self._invalidate(address)
            except BaseException:
                await uninterrupted(self._invalidate(address))
                raise

    async def _take_in(self, address: NodeAddress, names: list[str]) -> None:
        for _ in range(ATTEMPTS):
            node = await in_thread(nodes.find_node)(self.account, address)
            if node is None or node.sync_state not in (SyncState.COMPLETED, SyncState.IN_PROGRESS):
                return
            if node.sync_owner:
                break  # its pages may be older than the write: it is synchronised once more
            found = {item.id: item for item in await fetching.read_ids(self._service, address, names)}
            prepared = await prepare(node.analyser, address, list(found.values()))
            known = [known_id(name) for name in names]
            changes: list[Change] = [prepared[name] if name in prepared else Removal(name) for name in known]
            outcome = await in_thread(apply_at)(node, changes)
            if outcome is not None:
                await self._tell(outcome)
                return
        await self._invalidate(address)

    async def _tell(self, outcome: Outcome) -> None:
        if outcome.grown or outcome.order_unknown:
            self._check_ids_soon(outcome.node_pk)
        if outcome.published:
            await announce(items_published, node_pk=outcome.node_pk, names=outcome.published)
        if outcome.retracted:
            await announce(items_retracted, node_pk=outcome.node_pk, names=outcome.retracted)

    async def _invalidate(self, address: NodeAddress) -> None:
        """Have a node compared with the service before the cache answers for it again."""
        if (node := await in_thread(nodes.find_node)(self.account, address)) is not None:
            await in_thread(nodes.invalidate_node)(node.pk)
            await in_thread(nodes.request_revalidation)(node.pk)
            await remote.awake()

    def _check_ids_soon(self, pk: int) -> None:
        """Compare a node's ids with the service's: one that makes room for new items says nothing of it.

        The worker won't, as the notifications bring it nothing new.
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
            logger.info("Node %d could not be compared with the service: %s", pk, error)
            await in_thread(nodes.invalidate_node)(pk)
        except Exception:
            logger.exception("Node %d could not be compared with the service.", pk)
        finally:
            self._checking_ids.pop(pk, None)
