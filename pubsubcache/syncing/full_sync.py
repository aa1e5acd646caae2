"""Full synchronisation of a node: afterwards the cache has exactly the items of the service.

It subscribes first and lists then, so that nothing is lost in between; notifications that arrive meanwhile are newer
than any page. The same walk makes a first copy, repairs a copy and compares a copy: it does not write equal rows.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from django.db import InterfaceError, OperationalError

from pubsubcache.analysers import registry
from pubsubcache.exceptions import (
    Forbidden,
    ItemNotFound,
    LeaseLost,
    NodeTooLarge,
    NoLongerKept,
    PubsubCacheError,
    ServiceError,
    ServiceUnreachable,
    SyncInProgress,
)
from pubsubcache.models import NodeTraits, PubsubNode, SyncRun
from pubsubcache.parsers.text import storable
from pubsubcache.services.counting import CountedService
from pubsubcache.services.pager import ListedPage, Listing
from pubsubcache.services.protocol import PubsubService
from pubsubcache.signals import announce, node_deleted, node_synced
from pubsubcache.store import in_thread, nodes, syncing, uninterrupted
from pubsubcache.store.activity import counters
from pubsubcache.store.syncing import ClaimLost
from pubsubcache.syncing.analysis import analyse, look_again, newest_items
from pubsubcache.syncing.order import Drain, Order, nothing_to_drain, order_of, resolve_order, sync_deadline
from pubsubcache.syncing.preparing import prepare
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

Progress = Callable[[int, int | None], None]
MAX_METADATA = 255  # characters of one value


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """What a synchronisation did.

    Attributes:
        items: Items of the node now, including evicted ones.
        added: Items added.
        updated: Items changed.
        removed: Items removed.
        seconds: How long it took.
    """

    items: int
    added: int
    updated: int
    removed: int
    seconds: float

    @property
    def counts(self) -> tuple[int, int, int]:
        return self.added, self.updated, self.removed


async def sync_node(
    service: PubsubService,
    node_pk: int,
    *,
    fetch_evicted: bool = False,
    progress: Progress | None = None,
    drain: Drain = nothing_to_drain,
    reason: SyncRun.Reason | None = None,
) -> SyncResult:
    """Synchronise a node. If that fails, the row of the node says why.

    Args:
        service: Answers the requests.
        node_pk: Primary key of the node.
        fetch_evicted: Fetch evicted items again.
        progress: Called with the number of items read so far, and the total or None if the service does not report it.
        drain: Waits until the notifications received so far for a node are stored.
        reason: Why the node is synchronised; None if its row says it.

    Raises:
        SyncInProgress: Another process is synchronising the node.
        SyncFailed: The listing was inconsistent, or took longer than `SYNC_TIMEOUT`.
        PubsubCacheError: The service refused or could not be asked; see `PubsubService`.
    """
    began = time.monotonic()
    node = await in_thread(nodes.load_node)(node_pk)
    if node is None:
        raise ItemNotFound(text="the node is no longer in the cache")
    async with _claimed(node, fetch_evicted=fetch_evicted, reason=reason) as claim, sync_deadline():
        removed, count = await _Run(CountedService(service, claim), node, claim, progress, drain).run()
    await resolve_order(service, node_pk, drain)
    await _look_again(node_pk)
    result = SyncResult(
        items=count, added=claim.added, updated=claim.updated, removed=removed, seconds=time.monotonic() - began
    )
    logger.info("Synchronised %s: %d items, %d added, %d updated, %d removed.", node, count, *result.counts)
    await announce(node_synced, node_pk=node_pk, result=result)
    return result


async def _look_again(node_pk: int) -> None:
    """Analyse a node again if its items require it, now that they are stored."""
    node = await in_thread(nodes.load_node)(node_pk)
    if node is not None and (finding := await look_again(node)) is not None:
        await in_thread(nodes.update_analysis)(node_pk, *finding)


@asynccontextmanager
async def _claimed(
    node: PubsubNode, *, fetch_evicted: bool, reason: SyncRun.Reason | None
) -> AsyncIterator[syncing.Claim]:
    """Hold the claim of a node during the block, and release it however the block ends.

    Raises:
        SyncInProgress: Another live process has the claim.
    """
    owner = syncing.new_owner()
    try:
        claiming = in_thread(syncing.claim)(node.pk, owner, fetch_evicted=fetch_evicted, reason=reason)
        claim = await uninterrupted(claiming)
        if claim is None:
            raise SyncInProgress(f"Another process is synchronising {node.address.uri}.")
    except BaseException:
        await uninterrupted(in_thread(syncing.release)(node.pk, owner))
        raise
    try:
        yield claim
    except (asyncio.CancelledError, LeaseLost):
        await uninterrupted(in_thread(syncing.release)(node.pk, owner))
        raise
    except BaseException as error:
        await uninterrupted(_record_failure(node, claim, error))
        raise


async def _record_failure(node: PubsubNode, claim: syncing.Claim, error: BaseException) -> None:
    """Store in the row of the node why a synchronisation failed."""
    if isinstance(error, ClaimLost):
        await in_thread(nodes.schedule_unsubscription)(node.account_id, node.address)
    elif isinstance(error, ItemNotFound):
        await in_thread(nodes.remove_node)(node.pk)
        await announce(node_deleted, node_pk=node.pk, account=node.account.jid, address=node.address)
    elif isinstance(error, Forbidden):
        await in_thread(nodes.hide_node)(node.pk, str(error), requests=claim.requests)
    elif isinstance(error, NodeTooLarge):
        await in_thread(syncing.refuse)(claim, str(error))
    elif isinstance(error, PubsubCacheError):
        condition = error.condition if isinstance(error, ServiceError) else ""
        await in_thread(syncing.fail)(claim, str(error), condition=condition)
    elif isinstance(error, OperationalError | InterfaceError):
        logger.warning("Synchronising %s failed: the database refused the write: %s", node.address.uri, error)
        await in_thread(syncing.fail)(claim, f"The database refused the write: {error}"[:1000])
    else:
        logger.error("Synchronising %s failed.", node.address.uri, exc_info=error)
        await in_thread(syncing.fail)(claim, f"{type(error).__name__}: {error}"[:1000])


class _Run:
    """One running synchronisation."""

    def __init__(
        self,
        service: PubsubService,
        node: PubsubNode,
        claim: syncing.Claim,
        progress: Progress | None,
        drain: Drain,
    ) -> None:
        self.service = service
        self.node = node
        self.address = node.address
        self.claim = claim
        self.progress = progress
        self.drain = drain
        self.revision = claim.revision
        self.publishers: bool | None = None
        self.parse_anew = node.parse_anew

    async def run(self) -> tuple[int, int]:
        """Synchronise; return the number of removed items, and of all items now."""
        # First, because a subscription may bring items at once, which are parsed.
        await self._analyse()
        subscribed = await self._subscribe()
        listing = Listing(self.service, self.address, mark=lambda: self.revision)
        done, walk, order = 0, -1, Order.UNKNOWN
        async for page in listing.pages():
            if walk != listing.restarts:
                done, walk = 0, listing.restarts
                order = await order_of(self.service, self.address, [item.id for item in page.items])
                self.claim.seen.clear()
                self.claim.start_listing(newest_first=order is Order.NEWEST_FIRST)
            await self._store(page)
            done += len(page.items)
            self._report(done, page.total)
        # Items listed before the walk restarted may be gone since.
        self.claim.seen = {item_id: None for item_id in self.claim.seen if item_id in listing.ids}
        seen_at_start = order
        if order is Order.UNKNOWN:
            order = await order_of(self.service, self.address, list(listing.ids))
        reverse = seen_at_start is Order.UNKNOWN and order is Order.NEWEST_FIRST
        # An order that looks like newest first may result from an edit that moved the oldest item to the end.
        order_unknown = order is not Order.OLDEST_FIRST and len(listing.ids) > 1
        metadata = await self._metadata()
        traits = NodeTraits(
            rsm=bool(listing.has_rsm),
            cursors="ids" if _ids_are_cursors(listing) else "opaque",
            publishers=self.publishers,
            payload_type=None if metadata is None else metadata.get("pubsub#type", ""),
        )
        removed = await in_thread(syncing.finish)(
            self.claim,
            subscribed=subscribed,
            traits=traits,
            access_model=None if metadata is None else metadata.get("pubsub#access_model", "")[:20],
            reverse=reverse,
            order_unknown=order_unknown,
            analyser=self.node.analyser,
        )
        return removed, len(listing.ids)

    async def _subscribe(self) -> bool:
        try:
            subscription = await self.service.subscribe(self.address)
        except ItemNotFound:
            raise
        except ServiceError as error:
            logger.info("No subscription to %s: %s", self.address.uri, error)
            return False
        return subscription.state == "subscribed"

    async def _analyse(self) -> None:
        """Analyse the node unless that was done with the current registry. Raises `NoLongerKept`."""
        if self.node.registry_fingerprint == registry.fingerprint():
            return
        self.parse_anew = True
        # If the service cannot be asked for a sample, the synchronisation fails; the analysis is left as it is.
        more = partial(newest_items, self.service, self.address)
        finding = await analyse(self.address, more=more, passing=(PubsubCacheError,))
        self.node = await in_thread(nodes.update_analysis)(self.node.pk, *finding) or self.node
        if self.node.sync_state == PubsubNode.SyncState.NO_SYNC:
            raise NoLongerKept(self.node.sync_error)

    async def _store(self, page: ListedPage) -> None:
        if page.items:
            self.publishers = bool(self.publishers) or any(item.publisher for item in page.items)
        stored = await in_thread(syncing.stored_data)(self.claim.node_pk, [item.id for item in page.items])
        prepared = await prepare(
            self.node.analyser,
            self.address,
            [item for item in page.items if self.parse_anew or stored.get(item.id) != item.xml],
        )
        # Notifications sent before this page must not be written after it.
        await self.drain(self.address)
        before = self.claim.written
        self.revision = await in_thread(syncing.store_page)(self.claim, page.items, prepared, page.revision, page.total)
        counters.count(self.node.account.jid, "stored", self.claim.written - before)

    def _report(self, done: int, total: int | None) -> None:
        if self.progress is not None:
            self.progress(done, total)

    async def _metadata(self) -> dict[str, str] | None:
        """Return the first value of each field of the metadata, or None if the service provides none."""
        try:
            metadata = await self.service.get_node_metadata(self.address)
        except (ServiceError, ServiceUnreachable):
            return None
        return {name: storable(values[0])[:MAX_METADATA] for name, values in metadata.items() if values}


def _ids_are_cursors(listing: Listing) -> bool:
    return not listing.has_rsm or (listing.ids_are_cursors and bool(listing.ids))
