"""Reads items from a service, with the same results as from the cache (see `pubsubcache.cache.get_items`).

A read sends as many requests as it needs, within `READ_TIMEOUT` in total. A result combined from several answers is
limited to `MAX_NODE_ITEMS` items, and to `MAX_STANZA_SIZE` characters, like a single answer.
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime

from pubsubcache.conf import settings
from pubsubcache.exceptions import UNREACHABLE_CONDITIONS, ItemNotFound, ServiceError, ServiceUnreachable, TooLarge
from pubsubcache.services.pager import SHORTEST_CUT, Listing, fetch, starts_with_newest
from pubsubcache.services.protocol import PubsubService
from pubsubcache.types import Item, ItemsPage, ItemsRequest, NodeAddress, Rsm, ServicePage, known_id
from pubsubcache.utils.bounds import deadline


def is_unreachable(error: Exception) -> bool:
    """Whether an error means that the service could not be reached, rather than that it refused."""
    if isinstance(error, ServiceError):
        return error.condition in UNREACHABLE_CONDITIONS
    return isinstance(error, ServiceUnreachable)


async def read(service: PubsubService, address: NodeAddress, request: ItemsRequest) -> ItemsPage:
    """Read items from a service. `left_out` of the page lists those that the cache cannot store.

    Raises:
        ItemNotFound: There is no such node, or no such item to page from.
        ServiceError: The service refused.
        ServiceUnreachable: The service cannot be reached, or did not answer within `READ_TIMEOUT`.
        TooLarge: The result has more items than one read may return.
    """
    page = await read_whole(service, address, request)
    page.left_out = [(item.id, item.left_out) for item in page.items if item.left_out]
    page.items = [item for item in page.items if not item.left_out]
    return page


async def read_whole(service: PubsubService, address: NodeAddress, request: ItemsRequest) -> ItemsPage:
    """Read items from a service like `read`, but keep the left-out items among the others."""
    async with _in_time(address):
        if request.item_ids is not None:
            return ItemsPage(items=await _read_ids(service, address, request.item_ids), complete=True)
        if request.rsm is not None:
            return await _read_rsm(service, address, request)
        if request.max_items is not None:
            return await _read_newest(service, address, request, request.max_items)
        return ItemsPage(items=await _read_all(service, address, request), complete=True)


async def read_ids(service: PubsubService, address: NodeAddress, item_ids: Sequence[str]) -> list[Item]:
    """Return those of the items that exist, in the requested order, including left-out items.

    Raises the same errors as `read`.
    """
    async with _in_time(address):
        return await _read_ids(service, address, item_ids)


def _in_time(address: NodeAddress) -> AbstractAsyncContextManager[None]:
    seconds = settings.READ_TIMEOUT
    message = f"{address.service} did not return all requested items of {address.name} within {seconds:g} seconds."
    return deadline(seconds, ServiceUnreachable(message))


async def _read_ids(service: PubsubService, address: NodeAddress, item_ids: Sequence[str]) -> list[Item]:
    found: dict[str, Item] = {}
    size = 0
    for start in range(0, len(item_ids), settings.PAGE_SIZE):
        batch = await fetch(service, address, item_ids[start : start + settings.PAGE_SIZE])
        size += _size(batch.values())
        _check_size(address, size, len(found) + len(batch))
        found |= batch
    return [found[known] for known in map(known_id, item_ids) if known in found]


def _size(items: Iterable[Item]) -> int:
    return sum(len(item.xml) for item in items)


def _check_size(address: NodeAddress, size: int, count: int) -> None:
    """Raise `TooLarge` if `count` items of `size` characters exceed what one read may return."""
    if count > settings.MAX_NODE_ITEMS:
        raise TooLarge(f"The node {address.name} has over {settings.MAX_NODE_ITEMS} items: request fewer.")
    if size > settings.MAX_STANZA_SIZE:
        raise TooLarge(f"The items of {address.name} take over {settings.MAX_STANZA_SIZE} bytes: request fewer.")


async def _read_newest(service: PubsubService, address: NodeAddress, request: ItemsRequest, number: int) -> ItemsPage:
    page = upright(await service.get_items(address, request))
    if len(page.items) < number and await _is_cut(service, address, page):
        items = (await _read_pages(service, address))[-number:]
    else:
        items = page.items[-number:]
    return ItemsPage(items=items, complete=len(items) < number)


async def _read_all(service: PubsubService, address: NodeAddress, request: ItemsRequest) -> list[Item]:
    try:
        page = upright(await service.get_items(address, request))
    except TooLarge:
        return await _read_pages(service, address)
    return await _read_pages(service, address) if await _is_cut(service, address, page) else page.items


async def _is_cut(service: PubsubService, address: NodeAddress, page: ServicePage) -> bool:
    """Whether an answer was truncated: some services return at most a round number of items."""
    if page.rsm is not None and page.rsm.count is not None:
        return page.rsm.count > len(page.items)
    if not page.items or len(page.items) % SHORTEST_CUT:
        return False
    try:
        item_ids = await service.get_item_ids(address)
    except ServiceError:
        return False
    return not set(item_ids) <= {item.id for item in page.items}


async def _read_pages(service: PubsubService, address: NodeAddress) -> list[Item]:
    listing = Listing(service, address)
    found: dict[str, Item] = {}
    size = 0
    async for page in listing.pages():
        size += _size(page.items)
        found |= {item.id: item for item in page.items}
        _check_size(address, size, len(found))
    item_ids = list(listing.ids)
    if await starts_with_newest(service, address, item_ids):
        item_ids.reverse()
    return [found[item_id] for item_id in item_ids]


async def _read_rsm(service: PubsubService, address: NodeAddress, request: ItemsRequest) -> ItemsPage:
    assert request.rsm is not None
    try:
        page = upright(await service.get_items(address, request))
    except ServiceError as error:
        if (count := await _count_if_past_end(service, address, request.rsm, error)) is None:
            raise
        return ItemsPage(items=[], rsm=Rsm(count=count), complete=True)
    if page.rsm is None:  # the service does not support paging: this is the whole node
        return local_page(page.items, request.rsm)
    if request.rsm.max is not None and len(page.items) > request.rsm.max:
        raise ServiceError("undefined-condition", "the page is larger than requested")
    return ItemsPage(items=page.items, rsm=page.rsm, complete=_is_last(page, request.rsm))


async def _count_if_past_end(
    service: PubsubService, address: NodeAddress, asked: Rsm, error: ServiceError
) -> int | None:
    """Return the number of items if `error` means that the index is past the end, as it does on ejabberd, or None."""
    if not asked.index or error.condition != "internal-server-error":
        return None
    rsm = (await service.get_items(address, ItemsRequest(rsm=Rsm(max=0)))).rsm
    count = None if rsm is None else rsm.count
    return count if count is not None and asked.index >= count else None


def _is_last(page: ServicePage, asked: Rsm) -> bool:
    """Whether `page` is the last one. Services truncate pages and send wrong indexes: if unclear, it is not."""
    rsm = page.rsm or Rsm()
    size, count = len(page.items), rsm.count
    if asked.max == 0:
        return count == 0
    short = asked.max is not None and size < asked.max
    if asked.after or asked.before:
        if size == 0:
            return True
        if asked.before:
            return short and rsm.index in (None, 0)
        return short and (rsm.index is None or count is None or rsm.index + size >= count)
    return (short or size == 0) if count is None else (asked.index or 0) + size >= count


def local_page(items: list[Item], rsm: Rsm) -> ItemsPage:
    """Return the page that `rsm` requests, given all items of a node. Item ids serve as cursors."""
    places = {item.id: place for place, item in enumerate(items)}
    after, before = (_place_of(cursor, places) for cursor in (rsm.after, rsm.before))
    start, end = 0, len(items)
    if rsm.after is not None:
        start = 0 if after is None else after + 1
    elif rsm.index is not None:
        start = min(rsm.index, len(items))
    elif rsm.before is not None:
        end = len(items) if before is None else before
        start = 0 if rsm.max is None else max(0, end - rsm.max)
    if rsm.max is not None:
        end = min(end, start + rsm.max)
    chosen = items[start:end]
    complete = start == 0 if rsm.before is not None else end >= len(items)
    if not chosen:
        complete = not items if rsm.max == 0 else complete
        return ItemsPage(items=[], rsm=Rsm(count=len(items)), complete=complete)
    answer = Rsm(first=chosen[0].id, last=chosen[-1].id, index=start, count=len(items))
    return ItemsPage(items=chosen, rsm=answer, complete=complete)


def _place_of(cursor: str | None, places: dict[str, int]) -> int | None:
    """Return the place of the item with the id `cursor`, or None without a cursor. Raises `ItemNotFound`."""
    if not cursor:
        return None
    for item_id in (cursor, known_id(cursor)):
        if item_id in places:
            return places[item_id]
    raise ItemNotFound(text=f"no item {cursor[:100]!r} to page from")


def upright(page: ServicePage) -> ServicePage:
    """Return `page` oldest first: reverse it if its cursors show that it is newest first."""
    rsm = page.rsm
    if rsm is None or rsm.first is None or rsm.last is None or len(page.items) < 2:
        return page
    first_id, last_id = known_id(rsm.first), known_id(rsm.last)
    if first_id == page.items[-1].id and last_id == page.items[0].id:
        return replace(page, items=page.items[::-1])
    if first_id == page.items[0].id:
        return page  # the cursors are ids, even if they look like times
    first, last = _time(rsm.first), _time(rsm.last)
    if first is not None and last is not None and first > last:
        return replace(page, items=page.items[::-1], rsm=replace(rsm, first=rsm.last, last=rsm.first))
    return page


def _time(cursor: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(cursor)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
