"""Synchronisation of a node: everything the service has, and nothing else.

Subscribe first, then list, so that nothing falls between; what notifications bring meanwhile is newer than
any page. The same walk makes a first copy, repairs one, and compares one: rows that are right are not written.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

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
from pubsubcache.models import NodeTraits, PubsubNode
from pubsubcache.parsers.text import storable
from pubsubcache.services.pager import ListedPage, Listing
from pubsubcache.services.protocol import PubsubService
from pubsubcache.signals import announce, node_deleted, node_synced
from pubsubcache.store import in_thread, nodes, syncing, uninterrupted
from pubsubcache.store.syncing import ClaimLost
from pubsubcache.syncing.analysis import analyse
from pubsubcache.syncing.order import Order, Settled, at_once, in_time, order_of, resolve_order
from pubsubcache.syncing.preparing import prepare
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

Progress = Callable[[int, int | None], None]
MAX_METADATA = 255  # characters of a value that a service says of a node


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """What a synchronisation did: items now in the node, and how many were added, updated, removed."""

    items: int
    added: int
    updated: int
    removed: int
    seconds: float

    @property
    def counts(self) -> tuple[int, int, int]:
        """What was added, updated and removed."""
        return self.added, self.updated, self.removed


async def sync_node(
    service: PubsubService,
    node_pk: int,
    *,
    fetch_evicted: bool = False,
    progress: Progress | None = None,
    settled: Settled = at_once,
) -> SyncResult:
    """Synchronise a node.

    `fetch_evicted`: bring back what was purged from the cache. `progress` is called with the items read so far, and
    with their number as far as the service says it; `settled` waits until the notifications
    of a node that came so far are stored. Raises `SyncInProgress` when another process
    does it, `SyncFailed` or what `PubsubService` raises when it fails or takes longer than `SYNC_TIMEOUT`; the node's
    row then says why.
    """
    began = time.monotonic()
    node = await in_thread(nodes.load_node)(node_pk)
    if node is None:
        raise ItemNotFound(text="the node is no longer in the cache")
    async with _claimed(node, fetch_evicted=fetch_evicted) as claim, in_time():
        removed, count = await _Run(service, node, claim, progress, settled).run()
    await resolve_order(service, node_pk, settled)
    result = SyncResult(
        items=count, added=claim.added, updated=claim.updated, removed=removed, seconds=time.monotonic() - began
    )
    logger.info("Synchronised %s: %d items, %d added, %d updated, %d removed.", node, count, *result.counts)
    await announce(node_synced, node_pk=node_pk, result=result)
    return result


@asynccontextmanager
async def _claimed(node: PubsubNode, *, fetch_evicted: bool) -> AsyncIterator[syncing.Claim]:
    """Hold the claim of a node meanwhile; however this ends, nothing of the claim is left.

    Raises:
        SyncInProgress: Another process that is alive has the claim.
    """
    owner = syncing.new_owner()
    try:
        claim = await uninterrupted(in_thread(syncing.claim)(node.pk, owner, fetch_evicted=fetch_evicted))
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
        await uninterrupted(_give_up(node, claim, error))
        raise


async def _give_up(node: PubsubNode, claim: syncing.Claim, error: BaseException) -> None:
    """Keep in the node's row why a synchronisation did not end well."""
    if isinstance(error, ClaimLost):
        await in_thread(nodes.schedule_unsubscription)(node.account_id, node.address)
    elif isinstance(error, ItemNotFound):
        await in_thread(nodes.remove_node)(node.pk)
        await announce(node_deleted, node_pk=node.pk, account=node.account.jid, address=node.address)
    elif isinstance(error, Forbidden):
        await in_thread(nodes.hide_node)(node.pk, str(error))
    elif isinstance(error, NodeTooLarge):
        await in_thread(syncing.refuse)(claim, str(error))
    elif isinstance(error, PubsubCacheError):
        condition = error.condition if isinstance(error, ServiceError) else ""
        await in_thread(syncing.fail)(claim, str(error), condition=condition)
    elif isinstance(error, OperationalError | InterfaceError):
        logger.warning("Synchronising %s failed, as the database did not take it: %s", node.address.uri, error)
        await in_thread(syncing.fail)(claim, f"The database did not take it: {error}"[:1000])
    else:
        logger.error("Synchronising %s failed.", node.address.uri, exc_info=error)
        await in_thread(syncing.fail)(claim, f"{type(error).__name__}: {error}"[:1000])


class _Run:
    """One synchronisation under way."""

    def __init__(
        self,
        service: PubsubService,
        node: PubsubNode,
        claim: syncing.Claim,
        progress: Progress | None,
        settled: Settled,
    ) -> None:
        self.service = service
        self.node = node
        self.address = node.address
        self.claim = claim
        self.progress = progress
        self.settled = settled
        self.revision = claim.revision
        self.publishers: bool | None = None
        self.parse_anew = False  # what is stored was parsed by another analyser, or by none

    async def run(self) -> tuple[int, int]:
        """Do it; return how many items were removed, and how many the node has now."""
        # First: what a subscription brings at once is parsed as well.
        await self._analyse()
        subscribed = await self._subscribe()
        listing = Listing(self.service, self.address, mark=lambda: self.revision)
        done, walk, order = 0, -1, Order.UNKNOWN
        async for page in listing.pages():
            if walk != listing.restarts:
                done, walk, order = (
                    0,
                    listing.restarts,
                    await order_of(self.service, self.address, [item.id for item in page.items]),
                )
                self.claim.seen.clear()
                self.claim.start_listing(newest_first=order is Order.NEWEST_FIRST)
            await self._store(page)
            done += len(page.items)
            self._report(done, page.total)
        # An item that was listed before the walk began anew may be gone since.
        self.claim.seen = {name: None for name in self.claim.seen if name in listing.ids}
        seen_at_start = order
        if order is Order.UNKNOWN:
            order = await order_of(self.service, self.address, list(listing.ids))
        reverse = seen_at_start is Order.UNKNOWN and order is Order.NEWEST_FIRST
        # What seems to be newest first may be an edit that moved the oldest item to the end meanwhile.
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
        """Find the analyser of a node that was never analysed, or under another registry. Raises `NoLongerKept`."""
        if self.node.registry_fingerprint == registry.fingerprint():
            return
        self.parse_anew = True
        # A service that cannot be asked for a sample ends the synchronisation, and says nothing of the analysers.
        analysis, error = await analyse(self.service, self.address, passing=(PubsubCacheError,))
        self.node = await in_thread(nodes.update_analysis)(self.node.pk, analysis, error) or self.node
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
        # What the service said before this page must not be written after it.
        await self.settled(self.address)
        self.revision = await in_thread(syncing.store_page)(self.claim, page.items, prepared, page.revision, page.total)

    def _report(self, done: int, total: int | None) -> None:
        if self.progress is not None:
            self.progress(done, total)

    async def _metadata(self) -> dict[str, str] | None:
        """Return the first value of each field of the node's metadata, None when the service has none to give."""
        try:
            metadata = await self.service.get_node_metadata(self.address)
        except (ServiceError, ServiceUnreachable):
            return None
        return {name: storable(values[0])[:MAX_METADATA] for name, values in metadata.items() if values}


def _ids_are_cursors(listing: Listing) -> bool:
    return not listing.has_rsm or (listing.ids_are_cursors and bool(listing.ids))
