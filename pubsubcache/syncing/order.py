"""The order in which a service keeps the items of a node, and whether the cache has the same items in that order."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from enum import Enum

from pubsubcache.conf import settings
from pubsubcache.exceptions import ServiceError, ServiceUnreachable, SyncFailed, TooLarge
from pubsubcache.models import PubsubNode
from pubsubcache.services import fetching
from pubsubcache.services.pager import Listing, newest_id, starts_with_newest
from pubsubcache.services.protocol import PubsubService
from pubsubcache.store import id_checks, in_thread, nodes
from pubsubcache.store.id_checks import CheckResult
from pubsubcache.types import ItemsRequest, NodeAddress, Rsm
from pubsubcache.utils.bounds import deadline

Drain = Callable[[NodeAddress], Awaitable[None]]
ATTEMPTS = 20  # to compare a node that changes meanwhile
NEWEST_PAGES = 5  # of newest items are read to see their order, rather than all
LIST_ATTEMPTS = 3  # to list the ids of a node that changes meanwhile


async def nothing_to_drain(address: NodeAddress) -> None:
    """Wait for nothing: where no notifications are received."""


def sync_deadline() -> AbstractAsyncContextManager[None]:
    """Bound the block by `SYNC_TIMEOUT`, past which it raises `SyncFailed`."""
    seconds = settings.SYNC_TIMEOUT
    return deadline(seconds, SyncFailed(f"The service did not give the whole node within {seconds:g} seconds."))


class Order(Enum):
    """In which order a service lists a node."""

    UNKNOWN = "unknown"
    OLDEST_FIRST = "oldest first"
    NEWEST_FIRST = "newest first"


async def order_of(service: PubsubService, address: NodeAddress, item_ids: list[str]) -> Order:
    """Return the order of a listing, as far as its beginning or the whole of it shows."""
    if len(item_ids) < 2:
        return Order.UNKNOWN
    newest = await newest_id(service, address)
    return {item_ids[0]: Order.NEWEST_FIRST, item_ids[-1]: Order.OLDEST_FIRST}.get(newest, Order.UNKNOWN)


async def resolve_order(service: PubsubService, node_pk: int, drain: Drain) -> None:
    """See to the order of items that notifications brought during the walk."""
    for _ in range(ATTEMPTS):
        node = await in_thread(nodes.load_node)(node_pk)
        if node is None or not node.is_order_unknown:
            return
        if await compare_ids(service, node, drain) in (CheckResult.EQUAL, CheckResult.REFUSED, CheckResult.UNREACHABLE):
            return
        await asyncio.sleep(0.1)


async def has_same_order(service: PubsubService, node_pk: int, drain: Drain = nothing_to_drain) -> bool:
    """Whether a node has as many items as the service and its order, which is put right if only that differs."""
    for _ in range(ATTEMPTS):
        node = await in_thread(nodes.load_node)(node_pk)
        if node is None or node.sync_state != PubsubNode.SyncState.COMPLETED:
            return False
        result = await compare_ids(service, node, drain)
        if result is not CheckResult.CHANGED:
            return result is CheckResult.EQUAL
        await asyncio.sleep(0.1)
    return False


async def compare_ids(service: PubsubService, node: PubsubNode, drain: Drain) -> CheckResult:
    """Compare a node's item ids and their order with the service's list, and put the order right."""
    newest: list[str] | None = None
    try:
        async with sync_deadline():
            ids: list[str] | int | None = await _count(service, node)
            if ids is None:
                ids = await _listed_ids(service, node)
            elif len(set(node.probe or ())) == 1 or (newest := await _newest_ids(service, node)) is None:
                ids = await _walked_ids(service, node)
        if ids is None:
            return CheckResult.CHANGED
    except (ServiceError, ServiceUnreachable, SyncFailed, TooLarge) as error:
        if fetching.is_unreachable(error):
            return CheckResult.UNREACHABLE
        await in_thread(nodes.invalidate_node)(node.pk)
        return CheckResult.REFUSED
    await drain(node.address)
    return await in_thread(id_checks.check)(node.pk, node.revision, ids, newest=newest)


async def _count(service: PubsubService, node: PubsubNode) -> int | None:
    """Return the number of a node's items as a service that pages says it."""
    if not node.traits.rsm:
        return None
    page = await service.get_items(node.address, ItemsRequest(rsm=Rsm(max=0)))
    return None if page.rsm is None else page.rsm.count


async def _newest_ids(service: PubsubService, node: PubsubNode) -> list[str] | None:
    """Return the service's order of the items that came by notification since the order was last seen.

    None when there are too many of them, or the order cannot be told.
    """
    limit = NEWEST_PAGES * settings.PAGE_SIZE
    names = await in_thread(id_checks.unconfirmed_ids)(node.pk, limit + 1)
    if not 0 < len(names) <= limit:
        return None if node.is_order_unknown or names else []
    newest = await newest_id(service, node.address)
    if len(names) == 1 and newest == names[0] and not node.is_order_unknown:
        return names
    newest_page = await fetching.read_whole(service, node.address, ItemsRequest(max_items=len(names)))
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
    for _ in range(LIST_ATTEMPTS):
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
