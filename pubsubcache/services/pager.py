"""Lists all items of a node, page by page, from services with or without paging.

It does not use feature discovery. It requests a page, and the answer shows whether the service supports paging
(XEP-0059). If not, the answer should contain the whole node; the list of ids (disco#items) confirms or completes it.
Cursors are opaque, counts are not trusted, loops are detected, and the next page is requested while the last one is
processed. If pages end unexpectedly, the list of ids is checked. A listing that ends without an error is complete, and
every listing ends: see `pubsubcache.utils.bounds`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from pubsubcache.conf import settings
from pubsubcache.exceptions import Forbidden, ItemNotFound, ServiceError, ServiceUnreachable, SyncFailed, TooLarge
from pubsubcache.services.protocol import PubsubService
from pubsubcache.types import Item, ItemsRequest, NodeAddress, Rsm, ServicePage, is_short, known_id
from pubsubcache.utils.bounds import WalkBounds

# Error conditions for a page that is too large for the service, or that it could not produce in time.
TOO_MUCH = frozenset(
    {"resource-constraint", "policy-violation", "internal-server-error", "remote-server-timeout", "not-acceptable"}
)
MAX_RESTARTS = 3
# Services that truncate answers do so at a round number of items, and never below this number.
SHORTEST_CUT = 10
MAX_APART = 100  # requests to find the items of a batch that a service does not refuse
# Some services process the whole node for each page, so pages of a large node grow while there are no errors.
PAGES_BEFORE_GROWTH = 10
GROWTH = 8
GROWTH_LIMIT = 512 * 1024  # characters in a page


@dataclass(slots=True)
class ListedPage:
    """A page of the listing. `revision` is the value of `Listing.mark` when the page was requested."""

    items: list[Item]
    revision: int = 0
    total: int | None = None


class _Suspect(SyncFailed):
    """The pages ended in a way that does not show whether they are complete."""


@dataclass
class Listing:
    """One walk over all items of a node, oldest first.

    Args:
        service: Answers the requests.
        address: The node.
        mark: Called when a page is requested; its result becomes the `revision` of the page.
        page_size: The size of the first page.

    Attributes:
        ids: The ids seen so far; after `pages()` has ended, all ids in the service's order.
        has_rsm: Whether the service supports paging, or None if that is not known yet.
        ids_are_cursors: Whether the service uses item ids as cursors.
        restarts: How often the walk restarted, because the item before the next page was removed, or because the pages
            were inconsistent.
    """

    service: PubsubService
    address: NodeAddress
    mark: Callable[[], int] = lambda: 0
    page_size: int = field(default_factory=lambda: int(settings.PAGE_SIZE))
    has_rsm: bool | None = None
    ids_are_cursors: bool = True
    restarts: int = 0
    ids: dict[str, None] = field(default_factory=dict)
    _node_exists: bool = False
    _smooth: int = 0
    _shrunk: bool = False
    _bounds: WalkBounds = field(init=False)

    def __post_init__(self) -> None:
        self._restart()

    def _restart(self) -> None:
        self.ids.clear()
        self._bounds = WalkBounds(self.address.name)

    async def pages(self) -> AsyncIterator[ListedPage]:
        """Yield all items, in pages. An item that moves meanwhile is yielded again.

        Raises:
            SyncFailed: The pages are inconsistent.
            NodeTooLarge: The node has more items than `max_listed`.
            PubsubCacheError: The service refused or could not be reached; see `PubsubService`.
        """
        while True:
            try:
                async for page in self._walk():
                    yield page
                return
            except ItemNotFound:
                if not self._node_exists:
                    raise
                # Either the item before the next page was removed, or the node was. The first page shows which.
                self.restarts += 1
                if self.restarts <= MAX_RESTARTS:
                    self._restart()
                    continue
                reason = SyncFailed("The items that served as cursors were removed repeatedly.")
            except _Suspect as error:
                if await self._is_confirmed(error):
                    return
                reason = error
                self.restarts += 1
            self._restart()
            async for page in self._by_ids(reason):
                yield page
            return

    async def _is_confirmed(self, suspect: _Suspect) -> bool:
        """Whether the pages contained all ids of the service's list. Raises `suspect` if that cannot be decided."""
        item_ids = await self._listed_ids()
        if item_ids is None:
            raise suspect
        missing = set(item_ids) - self.ids.keys()
        if missing and self.ids.keys() - set(item_ids):
            raise suspect  # neither is complete
        return not missing

    async def _listed_ids(self) -> list[str] | None:
        """Return the service's list of the node's ids, or None if it provides none."""
        try:
            return list(dict.fromkeys(await self.service.get_item_ids(self.address)))
        except ServiceError:
            return None

    async def _walk(self) -> AsyncIterator[ListedPage]:
        self._node_exists = False
        try:
            revision, page = await self._first()
        except (ItemNotFound, Forbidden):
            raise
        except (TooLarge, ServiceUnreachable, ServiceError) as error:
            async for listed in self._by_ids(error):
                yield listed
            return
        self._node_exists = True
        self.has_rsm = page.rsm is not None
        async for listed in self._paged(revision, page) if self.has_rsm else self._whole(revision, page):
            yield listed

    async def _first(self) -> tuple[int, ServicePage]:
        """Request the first page, or the whole node if the service rejects paging."""
        try:
            return await self._ask(Rsm(max=self.page_size))
        except ServiceError as error:
            if isinstance(error, ItemNotFound | Forbidden) or error.condition in TOO_MUCH:
                raise
            revision = self.mark()
            page = await self.service.get_items(self.address, ItemsRequest())
            return revision, ServicePage(items=page.items)

    async def _ask(self, rsm: Rsm) -> tuple[int, ServicePage]:
        """Request a page, and smaller ones while it is too large for the service."""
        while True:
            revision = self.mark()
            size = rsm.max or 1
            try:
                return revision, await self.service.get_items(self.address, ItemsRequest(rsm=rsm))
            except (TooLarge, ServiceUnreachable, ServiceError) as error:
                if self.has_rsm is None and isinstance(error, TooLarge):
                    raise
                self.page_size, self._shrunk = _smaller(size, error), True
                rsm = Rsm(max=self.page_size, after=rsm.after)

    async def _paged(self, revision: int, page: ServicePage) -> AsyncIterator[ListedPage]:
        cursors: set[str] = set()
        count: int | None = None
        while page.items:
            if page.rsm is None:
                raise _Suspect("The service stopped paging in the middle of the node.")
            items = list({item.id: item for item in page.items}.values())
            count = page.rsm.count
            self._count_page(items, page.rsm.last)
            self._note(items, page.rsm)
            self._grow(items)
            upcoming = self._next(page.rsm, cursors)
            task = asyncio.ensure_future(self._ask(upcoming)) if isinstance(upcoming, Rsm) else None
            try:
                yield ListedPage(items, revision, count)
                if task is None:
                    raise _Suspect(str(upcoming))
                revision, page = await self._upcoming(task, count)
            finally:
                _forget(task)
        if page.rsm is not None and page.rsm.count is not None:
            count = page.rsm.count
        if count is not None and count > len(self.ids):
            raise _Suspect(f"The service returned {len(self.ids)} items, but reports {count}.")
        if not self.ids and (await self._listed_ids() or count != 0):
            raise _Suspect("The service returned no items, but does not report that there are none.")

    async def _upcoming(
        self, task: "asyncio.Task[tuple[int, ServicePage]]", count: int | None
    ) -> tuple[int, ServicePage]:
        """Return the page that `task` fetches. Some services answer item-not-found after the last page: return none."""
        try:
            return await task
        except ItemNotFound:
            if count is None or len(self.ids) < count:
                raise
            item_ids = await self._listed_ids()
            if item_ids is None or set(item_ids) != self.ids.keys():
                raise
            return 0, ServicePage(items=[])

    def _grow(self, items: list[Item]) -> None:
        """Double the page size every `PAGES_BEFORE_GROWTH` small pages, up to `GROWTH` times the usual size."""
        self._smooth += 1
        small = sum(len(item.xml) for item in items) < GROWTH_LIMIT and not any(item.left_out for item in items)
        if self._smooth % PAGES_BEFORE_GROWTH == 0 and small and not self._shrunk:
            self.page_size = min(self.page_size * 2, settings.PAGE_SIZE * GROWTH)

    def _count_page(self, items: list[Item], cursor: str | None = None) -> None:
        self._bounds.count_page([item.id for item in items if item.id not in self.ids], cursor)

    def _next(self, rsm: Rsm, cursors: set[str]) -> Rsm | str:
        """Return the request for the page after `rsm`, or an error message if there cannot be one."""
        if rsm.last is None:
            return "The service sent a page without the cursor of its last item."
        if rsm.last in cursors:
            return "The service repeats its cursors."
        if self._bounds.is_stale:
            return "The service repeats its pages."
        cursors.add(rsm.last)
        return Rsm(max=self.page_size, after=rsm.last)

    def _note(self, items: list[Item], rsm: Rsm) -> None:
        for item in items:
            self.ids.pop(item.id, None)
            self.ids[item.id] = None
        ends = {items[0].id, items[-1].id}
        cursors = {cursor if cursor is None else known_id(cursor) for cursor in (rsm.first, rsm.last)}
        self.ids_are_cursors = self.ids_are_cursors and cursors <= ends

    async def _whole(self, revision: int, page: ServicePage) -> AsyncIterator[ListedPage]:
        """Yield the pages of an unpaged answer, completed with the list of ids if the answer was truncated."""
        have = {item.id: item for item in page.items}
        item_ids = await self._listed_ids()
        if item_ids is None:
            rest = await self._rest(len(have))
            have = rest | {item_id: item for item_id, item in have.items() if item_id not in rest}
            item_ids = list(have)
        missing = [item_id for item_id in item_ids if item_id not in have]
        # Prefer the order of the items to that of the list, which may be truncated too.
        listed = set(item_ids)
        item_ids = item_ids + [item_id for item_id in have if item_id not in listed] if missing else list(have)
        async for batch in self._in_batches(item_ids, have, revision):
            yield batch

    async def _rest(self, number: int) -> dict[str, Item]:
        """Return more items of a node without paging and a list of ids, if its answer of `number` items may be partial.

        A service that limits the items it returns by default returns a round number.
        """
        if number % SHORTEST_CUT:
            return {}
        try:
            answer = await self.service.get_items(self.address, ItemsRequest(max_items=settings.MAX_NODE_ITEMS))
        except ServiceError:
            answer = ServicePage(items=[])
        if not number and not answer.items:
            raise SyncFailed("The service returned no items, and has no paging or list of ids to confirm that.")
        return {item.id: item for item in answer.items}

    async def _by_ids(self, reason: Exception) -> AsyncIterator[ListedPage]:
        """Yield the pages of a node that cannot be paged: list its ids, then fetch the items in batches."""
        item_ids = await self._listed_ids()
        if not item_ids:
            raise reason
        self.has_rsm = False
        async for listed in self._in_batches(item_ids, {}, 0):
            yield listed

    async def _in_batches(self, item_ids: list[str], have: dict[str, Item], revision: int) -> AsyncIterator[ListedPage]:
        """Yield the given items in pages. Fetch those not in `have`, which was fetched at `revision`."""
        size = self.page_size
        start = 0
        while start < len(item_ids):
            batch = item_ids[start : start + size]
            mark = revision if any(item_id in have for item_id in batch) else self.mark()
            short = {item_id: Item.without_content(item_id) for item_id in batch if is_short(item_id)}
            missing = [item_id for item_id in batch if item_id not in have and item_id not in short]
            try:
                found = await fetch(self.service, self.address, missing)
            except (TooLarge, ServiceUnreachable, ServiceError) as error:
                size = _smaller(size, error)
                continue
            found |= short
            items = [item for item_id in batch if (item := have.pop(item_id, None) or found.get(item_id)) is not None]
            self._count_page(items)
            self.ids |= dict.fromkeys(item.id for item in items)
            start += len(batch)
            yield ListedPage(items, mark, len(item_ids))


def _smaller(size: int, error: Exception) -> int:
    """Return the next page size to try after `error`. Raise `error` if a smaller page would not help."""
    if size <= 1 or (isinstance(error, ServiceError) and error.condition not in TOO_MUCH):
        raise error
    if isinstance(error, ServiceUnreachable):
        # Each attempt may take `IQ_TIMEOUT`, and a service counts as silent after a few.
        if size // 4 < settings.PAGE_SIZE // 32:
            raise error
        return max(size // 4, 1)
    return size // 2


def _forget(task: "asyncio.Task[tuple[int, ServicePage]] | None") -> None:
    """Cancel a request whose answer is no longer needed."""
    if task is None or task.cancelled():
        return
    if task.done():
        task.exception()  # marks it as retrieved, or asyncio logs it
    else:
        task.cancel()


async def starts_with_newest(service: PubsubService, address: NodeAddress, item_ids: Sequence[str]) -> bool:
    """Whether a service's list of ids starts with the newest item. Requests the newest item to compare."""
    if len(item_ids) < 2:
        return False
    return await newest_id(service, address) == item_ids[0]


async def newest_id(service: PubsubService, address: NodeAddress) -> str:
    """Return the id of a node's newest item, or an empty string if the service does not return exactly one item."""
    newest = (await service.get_items(address, ItemsRequest(max_items=1))).items
    return newest[0].id if len(newest) == 1 else ""


async def fetch(service: PubsubService, address: NodeAddress, item_ids: Sequence[str]) -> dict[str, Item]:
    """Return those of the items that exist, by the id used in the cache.

    Requests the rest again if an answer may be truncated. If a service refuses a request because one id is unknown,
    requests ever smaller parts.

    Raises:
        ItemNotFound: The node does not exist.
        ServiceError: The service refused, or over `MAX_APART` requests would be needed.
        PubsubCacheError: The service could not be reached; see `PubsubService`.
    """
    found: dict[str, Item] = {}
    missing = list(item_ids)
    while missing:
        try:
            answer = await service.get_items(address, ItemsRequest(item_ids=tuple(missing)))
        except ItemNotFound:
            await service.get_items(address, ItemsRequest(max_items=1))  # raises if the node does not exist
            return found if len(missing) == 1 else found | await _fetch_apart(service, address, missing)
        new = _requested(answer, missing)
        found |= new
        missing = [item_id for item_id in missing if known_id(item_id) not in found]
        if len(new) < SHORTEST_CUT:
            break
    return found


async def _fetch_apart(service: PubsubService, address: NodeAddress, item_ids: list[str]) -> dict[str, Item]:
    found: dict[str, Item] = {}
    parts = _halves(item_ids)
    for _ in range(MAX_APART):
        if not parts:
            return found
        part = parts.pop()
        try:
            found |= _requested(await service.get_items(address, ItemsRequest(item_ids=tuple(part))), part)
        except ItemNotFound:
            if len(part) > 1:
                parts += _halves(part)
    if parts:
        raise ServiceError("undefined-condition", f"too many of {len(item_ids)} items are refused")
    return found


def _halves(item_ids: list[str]) -> list[list[str]]:
    return [item_ids[: len(item_ids) // 2], item_ids[len(item_ids) // 2 :]]


def _requested(answer: ServicePage, item_ids: list[str]) -> dict[str, Item]:
    """Return the requested items of an answer, by the id used in the cache. A service may send others."""
    wanted = set(map(known_id, item_ids))
    return {item.id: item for item in answer.items if item.id in wanted}
