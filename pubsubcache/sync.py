"""Synchronisation of a node: everything the service has, and nothing else.

Subscribe first, then list, so that nothing falls between; what notifications bring meanwhile is newer than
any page. The same walk makes a first copy, repairs one, and compares one: rows that are right are not written.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

from django.db import InterfaceError, OperationalError

from pubsubcache import live, xmlform
from pubsubcache.analysers import matching, registry
from pubsubcache.analysing import analyse
from pubsubcache.bounds import deadline
from pubsubcache.cleaning import get_logger
from pubsubcache.conf import settings
from pubsubcache.exceptions import (
    Forbidden,
    ItemNotFound,
    LeaseLost,
    NodeTooLarge,
    NoLongerKept,
    ParseError,
    PubsubCacheError,
    ServiceError,
    ServiceUnreachable,
    SyncFailed,
    SyncInProgress,
    TooLarge,
)
from pubsubcache.listing import ListedPage, Listing, newest_id, starts_with_newest
from pubsubcache.models import PubsubNode
from pubsubcache.parsers.text import storable
from pubsubcache.service import PubsubService
from pubsubcache.signals import announce, node_deleted, node_synced
from pubsubcache.store import comparing, in_thread, nodes, syncing, uninterrupted
from pubsubcache.store.comparing import Verdict
from pubsubcache.store.syncing import ClaimLost
from pubsubcache.types import Item, ItemsRequest, NodeAddress, Rsm

logger = get_logger(__name__)

Progress = Callable[[int, int | None], None]
Settled = Callable[[NodeAddress], Awaitable[None]]
VERIFICATIONS = 20
NEWEST_PAGES = 5  # of newest items are read to see their order, rather than all
ORDER_ATTEMPTS = 3
MAX_METADATA = 255  # characters of a value that a service says of a node


async def at_once(address: NodeAddress) -> None:
    """Wait for nothing: where no notifications are received."""


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
    await _settle_order(service, node_pk, settled)
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


def in_time() -> AbstractAsyncContextManager[None]:
    """Bound the block by `SYNC_TIMEOUT`, past which it raises `SyncFailed`."""
    seconds = settings.SYNC_TIMEOUT
    return deadline(seconds, SyncFailed(f"The service did not give the whole node within {seconds:g} seconds."))


async def _settle_order(service: PubsubService, node_pk: int, settled: Settled) -> None:
    """See to the order of items that notifications brought during the walk."""
    for _ in range(VERIFICATIONS):
        node = await in_thread(nodes.load_node)(node_pk)
        if node is None or "probe" not in node.extra:
            return
        if await _verify_once(service, node, settled) in (Verdict.EQUAL, Verdict.REFUSED, Verdict.UNREACHED):
            return
        await asyncio.sleep(0.1)


async def _give_up(node: PubsubNode, claim: syncing.Claim, error: BaseException) -> None:
    """Keep in the node's row why a synchronisation did not end well."""
    if isinstance(error, ClaimLost):
        await in_thread(nodes.give_up_subscription)(node.account_id, node.address)
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


class Order(Enum):
    """In which order a service lists a node."""

    UNKNOWN = "unknown"
    OLDEST_FIRST = "oldest first"
    NEWEST_FIRST = "newest first"


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
        listing = Listing(self.service, self.address)
        listing.mark = lambda: self.revision  # type: ignore[method-assign]
        done, walk, order = 0, -1, Order.UNKNOWN
        async for page in listing.pages():
            if walk != listing.restarts:
                done, walk, order = 0, listing.restarts, await self._order([item.id for item in page.items])
                self.claim.seen.clear()
                self.claim.begin_walk(newest_first=order is Order.NEWEST_FIRST)
            await self._store(page)
            done += len(page.items)
            self._report(done, page.total)
        # An item that was listed before the walk began anew may be gone since.
        self.claim.seen = {name: None for name in self.claim.seen if name in listing.ids}
        seen_at_start = order
        if order is Order.UNKNOWN:
            order = await self._order(list(listing.ids))
        reverse = seen_at_start is Order.UNKNOWN and order is Order.NEWEST_FIRST
        # What seems to be newest first may be an edit that moved the oldest item to the end meanwhile.
        unsure = order is not Order.OLDEST_FIRST and len(listing.ids) > 1
        extra: dict[str, Any] = {
            "rsm": bool(listing.has_rsm),
            "cursors": "ids" if _ids_are_cursors(listing) else "opaque",
        }
        if self.publishers is not None:
            extra["publishers"] = self.publishers
        metadata = await self._metadata()
        if metadata is not None:
            extra["payload_type"] = metadata.get("pubsub#type", "")
        removed = await in_thread(syncing.finish)(
            self.claim,
            subscribed=subscribed,
            extra=extra,
            changes={} if metadata is None else {"access_model": metadata.get("pubsub#access_model", "")[:20]},
            reverse=reverse,
            unsure=unsure,
        )
        return removed, len(listing.ids)

    async def _order(self, names: list[str]) -> Order:
        """Return the order of a listing, as far as its beginning or the whole of it shows."""
        if len(names) < 2:
            return Order.UNKNOWN
        newest = await newest_id(self.service, self.address)
        return {names[0]: Order.NEWEST_FIRST, names[-1]: Order.OLDEST_FIRST}.get(newest, Order.UNKNOWN)

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
        if self.node.extra.get("registry") == registry.fingerprint():
            return
        self.parse_anew = True
        # A service that cannot be asked for a sample ends the synchronisation, and says nothing of the analysers.
        analysis, error = await analyse(self.service, self.address, passing=(PubsubCacheError,))
        self.node = await in_thread(nodes.keep_analysis)(self.node.pk, analysis, error) or self.node
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


async def prepare(analyser_name: str, address: NodeAddress, items: list[Item]) -> dict[str, syncing.PreparedItem]:
    """Parse items for the store, by id; one that cannot be parsed carries the reason instead."""
    analyser = registry.get(analyser_name)
    prepared: dict[str, syncing.PreparedItem] = {}
    for number, item in enumerate(items):
        if item.left_out:
            prepared[item.id] = syncing.PreparedItem(item=item)
            continue
        text = await matching.aside_if_large(item, xmlform.words, item.element)
        entry = syncing.PreparedItem(item=item, text=text)
        try:
            entry.parsed = await matching.parse(analyser, item, address)
        except ParseError as error:
            entry.parse_error = str(error)
        prepared[item.id] = entry
        if number % 20 == 19:
            await asyncio.sleep(0)  # let notifications and other readers in
    return prepared


async def verify(service: PubsubService, node_pk: int, settled: Settled = at_once) -> bool:
    """Compare which items a node has, and their order, with the service's list of ids.

    For what notifications don't tell: items that the service drops silently to make room, the place of edited ones.
    `settled` waits until what came before for the node is stored. Returns False when something changed meanwhile,
    so that it is to be done again. A node that differs is put in order, or synchronised. Raises `ServiceUnreachable`
    when the service cannot be asked now: a stream that is resumed has nothing else compared.
    """
    node = await in_thread(nodes.load_node)(node_pk)
    if node is None or node.sync_state != PubsubNode.SyncState.COMPLETED:
        return True
    verdict = await _verify_once(service, node, settled)
    if verdict is Verdict.UNREACHED:
        raise ServiceUnreachable(f"{node.service} could not be asked which items there are.")
    if verdict is Verdict.DIFFERENT:
        await sync_node(service, node_pk, settled=settled)
    return verdict is not Verdict.CHANGED


async def order_confirmed(service: PubsubService, node_pk: int, settled: Settled = at_once) -> bool:
    """Whether a node has as many items as the service and its order, which is put right if only that differs."""
    for _ in range(VERIFICATIONS):
        node = await in_thread(nodes.load_node)(node_pk)
        if node is None or node.sync_state != PubsubNode.SyncState.COMPLETED:
            return False
        verdict = await _verify_once(service, node, settled)
        if verdict is not Verdict.CHANGED:
            return verdict is Verdict.EQUAL
        await asyncio.sleep(0.1)
    return False


async def _verify_once(service: PubsubService, node: PubsubNode, settled: Settled) -> Verdict:
    newest: list[str] | None = None
    try:
        async with in_time():
            ids: list[str] | int | None = await _count(service, node)
            if ids is None:
                ids = await _listed_ids(service, node)
            elif len(set(node.extra.get("probe", ()))) == 1 or (newest := await _newest_ids(service, node)) is None:
                ids = await _walked_ids(service, node)
        if ids is None:
            return Verdict.CHANGED
    except (ServiceError, ServiceUnreachable, SyncFailed, TooLarge) as error:
        if live.is_unreachable(error):
            return Verdict.UNREACHED
        await in_thread(nodes.doubt_node)(node.pk)
        return Verdict.REFUSED
    await settled(node.address)
    verdict: Verdict = await in_thread(comparing.compare)(node.pk, node.revision, ids, newest=newest)
    return verdict


async def _count(service: PubsubService, node: PubsubNode) -> int | None:
    """Return the number of a node's items as a service that pages says it."""
    if not node.extra.get("rsm"):
        return None
    page = await service.get_items(node.address, ItemsRequest(rsm=Rsm(max=0)))
    return None if page.rsm is None else page.rsm.count


async def _newest_ids(service: PubsubService, node: PubsubNode) -> list[str] | None:
    """Return the service's order of the items that came by notification since the order was last seen.

    None when there are too many of them, or the order cannot be told.
    """
    limit = NEWEST_PAGES * settings.PAGE_SIZE
    names: list[str] = await in_thread(comparing.unconfirmed)(node.pk, limit + 1)
    if not 0 < len(names) <= limit:
        return None if "probe" in node.extra or names else []
    newest = await newest_id(service, node.address)
    if newest == names[-1] and len(names) == 1 and "probe" not in node.extra:
        return names
    newest_page = await live.read_whole(service, node.address, ItemsRequest(max_items=len(names)))
    ids = [item.id for item in newest_page.items]
    if set(ids) != set(names):
        return None
    return ids if newest == ids[-1] else ids[::-1] if newest == ids[0] else None


async def _walked_ids(service: PubsubService, node: PubsubNode) -> list[str]:
    """Return the ids of a node's items in the order of its pages: lists of ids may be in any order where pages are."""
    listing = Listing(service, node.address)
    async for _ in listing.pages():
        pass
    ids = list(listing.ids)
    return ids[::-1] if await starts_with_newest(service, node.address, ids) else ids


async def _listed_ids(service: PubsubService, node: PubsubNode) -> list[str] | None:
    """Return the ids of a node's items, oldest first; None when the node changes too fast to tell."""
    for _ in range(ORDER_ATTEMPTS):
        before = await newest_id(service, node.address)
        try:
            ids = list(dict.fromkeys(await service.get_item_ids(node.address)))
        except ServiceError:  # as of another's PEP node, of which only the items are shown
            return [item.id for item in (await service.get_items(node.address, ItemsRequest())).items]
        if len(ids) < 2:
            return ids
        # The list tells its direction only if the item that ends it was the newest all the while.
        after = await newest_id(service, node.address)
        if before == after and after in (ids[0], ids[-1]):
            return ids if after == ids[-1] else ids[::-1]
    return ids if before == after else None


__all__ = ["SyncResult", "prepare", "sync_node", "verify"]
