"""Our own pager: all items of a node, page by page, from services of every kind.

No feature is looked up beforehand: a page is asked for, and the answer shows whether the service pages
(XEP-0059). Where it doesn't, that answer should hold the whole node, which the list of ids (disco#items)
confirms or completes. Cursors are opaque, counts are not believed, loops are detected, the next page is on
its way while the last is worked on. Pages that end oddly are held against the list of ids. A listing that ends
without an error is complete, and every listing ends: see `pubsubcache.utils.bounds`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from pubsubcache.conf import settings
from pubsubcache.exceptions import Forbidden, ItemNotFound, ServiceError, ServiceUnreachable, SyncFailed, TooLarge
from pubsubcache.services.protocol import PubsubService
from pubsubcache.types import Item, ItemsRequest, NodeAddress, Rsm, ServicePage, is_short, known_id
from pubsubcache.utils.bounds import WalkBounds

# What a service says to a page that is too large for it, or that it could not finish in time.
TOO_MUCH = frozenset(
    {"resource-constraint", "policy-violation", "internal-server-error", "remote-server-timeout", "not-acceptable"}
)
MAX_RESTARTS = 3
# Services that cut their answers short do so at a round number of items, and at no fewer than these.
SHORTEST_CUT = 10
MAX_APART = 100  # requests to find those of a batch that a service does not refuse
# Services may work through the whole node for each page: where all goes well, the pages of a large node grow.
PAGES_BEFORE_GROWTH = 10
GROWTH = 8
GROWTH_LIMIT = 512 * 1024  # characters in a page


@dataclass(slots=True)
class ListedPage:
    """A page of the listing; `revision` is what the listing's `mark` returned when it was asked for."""

    items: list[Item]
    revision: int = 0
    total: int | None = None


class _Suspect(SyncFailed):
    """The pages ended in a way that does not show whether they were all."""


@dataclass
class Listing:
    """One walk over all items of a node, oldest first.

    `mark` returns the revision to note with a page; it is called when a page is asked for.

    After `pages()` has ended, `ids` holds all ids in the service's order, `has_rsm` whether it pages,
    `ids_are_cursors` whether its cursors are item ids. `restarts` counts the walks begun anew because the item
    that a page was to follow had gone, or because pages made no sense.
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
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.ids.clear()
        self._bounds = WalkBounds(self.address.name)

    async def pages(self) -> AsyncIterator[ListedPage]:
        """Yield all items, in pages; an item that moved meanwhile is yielded again.

        Raises what `PubsubService` raises, `SyncFailed` when the service's pages make no sense, and `NodeTooLarge`
        when they bring more items than `max_listed`.
        """
        while True:
            try:
                async for page in self._walk():
                    yield page
                return
            except ItemNotFound:
                if not self._node_exists:
                    raise
                # Either the item that the page was to follow went, or the node did: the first page tells.
                self.restarts += 1
                if self.restarts <= MAX_RESTARTS:
                    self._begin_anew()
                    continue
                reason = SyncFailed("The items that pages were to follow kept going.")
            except _Suspect as error:
                if await self._is_confirmed(error):
                    return
                reason = error
                self.restarts += 1
            self._begin_anew()
            async for page in self._by_ids(reason):
                yield page
            return

    async def _is_confirmed(self, suspect: _Suspect) -> bool:
        """Whether the list of ids has nothing that the pages did not bring."""
        names = await self._listed_ids()
        if names is None:
            raise suspect
        missing = set(names) - self.ids.keys()
        if missing and self.ids.keys() - set(names):
            raise suspect  # neither has all
        return not missing

    async def _listed_ids(self) -> list[str] | None:
        """Return the service's list of the node's ids, None when it has none to give."""
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
        """Ask for the first page, or for everything when the service does not want to hear of pages."""
        try:
            return await self._ask(Rsm(max=self.page_size))
        except ServiceError as error:
            if isinstance(error, ItemNotFound | Forbidden) or error.condition in TOO_MUCH:
                raise
            revision = self.mark()
            page = await self.service.get_items(self.address, ItemsRequest())
            return revision, ServicePage(items=page.items)

    async def _ask(self, rsm: Rsm) -> tuple[int, ServicePage]:
        """Ask for a page, a smaller one as long as the service finds it too large."""
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
            raise _Suspect(f"The service gave {len(self.ids)} items, and says that there are {count}.")
        if not self.ids and (await self._listed_ids() or count != 0):
            raise _Suspect("The service gave no items, and does not say that there are none.")

    async def _upcoming(
        self, task: "asyncio.Task[tuple[int, ServicePage]]", count: int | None
    ) -> tuple[int, ServicePage]:
        """Return the page that `task` fetches; an empty one where a service calls the page after the last missing."""
        try:
            return await task
        except ItemNotFound:
            if count is None or len(self.ids) < count:
                raise
            names = await self._listed_ids()
            if names is None or set(names) != self.ids.keys():
                raise
            return 0, ServicePage(items=[])

    def _grow(self, items: list[Item]) -> None:
        """Double the size of pages now and then while they are small enough, up to `GROWTH` times the usual size."""
        self._smooth += 1
        small = sum(len(item.xml) for item in items) < GROWTH_LIMIT and not any(item.left_out for item in items)
        if self._smooth % PAGES_BEFORE_GROWTH == 0 and small and not self._shrunk:
            self.page_size = min(self.page_size * 2, settings.PAGE_SIZE * GROWTH)

    def _count_page(self, items: list[Item], cursor: str | None = None) -> None:
        self._bounds.count_page([item.id for item in items if item.id not in self.ids], cursor)

    def _next(self, rsm: Rsm, cursors: set[str]) -> Rsm | str:
        """Return the request for the page after the one that `rsm` describes, or why there can't be one."""
        if rsm.last is None:
            return "The service gives no way to its next page."
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
        """Go through an answer that is the whole node, unless the list of ids says that it was cut short."""
        have = {item.id: item for item in page.items}
        names = await self._listed_ids()
        if names is None:
            rest = await self._rest(len(have))
            have = rest | {name: item for name, item in have.items() if name not in rest}
            names = list(have)
        missing = [name for name in names if name not in have]
        # The order of the items, should the list's be another; the list itself may be cut short.
        listed = set(names)
        names = names + [name for name in have if name not in listed] if missing else list(have)
        async for batch in self._by_name(names, have, revision):
            yield batch

    async def _rest(self, number: int) -> dict[str, Item]:
        """Return the items of a node that has neither pages nor a list to tell whether `number` items are all.

        A service that gives few unless more are asked for gives a round number.
        """
        if number % SHORTEST_CUT:
            return {}
        try:
            answer = await self.service.get_items(self.address, ItemsRequest(max_items=settings.MAX_NODE_ITEMS))
        except ServiceError:
            answer = ServicePage(items=[])
        if not number and not answer.items:
            raise SyncFailed("The service gave no items, and neither pages nor a list to tell if there are none.")
        return {item.id: item for item in answer.items}

    async def _by_ids(self, reason: Exception) -> AsyncIterator[ListedPage]:
        """Go through a node that cannot be paged: ids first, their items in batches."""
        names = await self._listed_ids()
        if not names:
            raise reason
        self.has_rsm = False
        async for listed in self._by_name(names, {}, 0):
            yield listed

    async def _by_name(self, names: list[str], have: dict[str, Item], revision: int) -> AsyncIterator[ListedPage]:
        """Go through the items `names`; those that are not among `have`, got at `revision`, are fetched."""
        size = self.page_size
        start = 0
        while start < len(names):
            batch = names[start : start + size]
            mark = revision if any(name in have for name in batch) else self.mark()
            short = {name: Item.without_content(name) for name in batch if is_short(name)}
            lacking = [name for name in batch if name not in have and name not in short]
            try:
                found = await fetch(self.service, self.address, lacking)
            except (TooLarge, ServiceUnreachable, ServiceError) as error:
                size = _smaller(size, error)
                continue
            found |= short
            items = [item for name in batch if (item := have.pop(name, None) or found.get(name)) is not None]
            self._count_page(items)
            self.ids |= dict.fromkeys(item.id for item in items)
            start += len(batch)
            yield ListedPage(items, mark, len(names))


def _smaller(size: int, error: Exception) -> int:
    """Return the size to try after a page of `size` met with `error`; raise that when another will not help."""
    if size <= 1 or (isinstance(error, ServiceError) and error.condition not in TOO_MUCH):
        raise error
    if isinstance(error, ServiceUnreachable):
        # Each attempt may take `IQ_TIMEOUT`, and a service counts as silent after a few.
        if size // 4 < settings.PAGE_SIZE // 32:
            raise error
        return max(size // 4, 1)
    return size // 2


def _forget(task: "asyncio.Task[tuple[int, ServicePage]] | None") -> None:
    """Have nothing more to do with a request whose answer nobody waits for."""
    if task is None or task.cancelled():
        return
    if task.done():
        task.exception()  # seen
    else:
        task.cancel()


async def starts_with_newest(service: PubsubService, address: NodeAddress, names: Sequence[str]) -> bool:
    """Whether a service's list of ids has the newest item first, seen by asking for the newest."""
    if len(names) < 2:
        return False
    return await newest_id(service, address) == names[0]


async def newest_id(service: PubsubService, address: NodeAddress) -> str:
    """Return the id of a node's newest item; an empty text when the service does not say."""
    newest = (await service.get_items(address, ItemsRequest(max_items=1))).items
    return newest[0].id if len(newest) == 1 else ""


async def fetch(service: PubsubService, address: NodeAddress, names: Sequence[str]) -> dict[str, Item]:
    """Return those of the items `names` that exist, by the id under which the cache knows them.

    Asks again for what an answer may have been cut short of, and for ever smaller parts where a service refuses all
    for the sake of one that is unknown. Raises what `PubsubService` raises, `ItemNotFound` for a missing node, and
    `ServiceError` when over `MAX_APART` requests would be needed.
    """
    found: dict[str, Item] = {}
    lacking = list(names)
    while lacking:
        try:
            answer = await service.get_items(address, ItemsRequest(item_ids=tuple(lacking)))
        except ItemNotFound:
            await service.get_items(address, ItemsRequest(max_items=1))  # raises when it is the node that is missing
            return found if len(lacking) == 1 else found | await _fetch_apart(service, address, lacking)
        new = _asked_for(answer, lacking)
        found |= new
        lacking = [name for name in lacking if known_id(name) not in found]
        if len(new) < SHORTEST_CUT:
            break
    return found


async def _fetch_apart(service: PubsubService, address: NodeAddress, names: list[str]) -> dict[str, Item]:
    found: dict[str, Item] = {}
    parts = _halves(names)
    for _ in range(MAX_APART):
        if not parts:
            return found
        part = parts.pop()
        try:
            found |= _asked_for(await service.get_items(address, ItemsRequest(item_ids=tuple(part))), part)
        except ItemNotFound:
            if len(part) > 1:
                parts += _halves(part)
    if parts:
        raise ServiceError("undefined-condition", f"too many of {len(names)} items are refused")
    return found


def _halves(names: list[str]) -> list[list[str]]:
    return [names[: len(names) // 2], names[len(names) // 2 :]]


def _asked_for(answer: ServicePage, names: list[str]) -> dict[str, Item]:
    """Return the items `names` of an answer, by the id that the cache knows: a service may send others."""
    wanted = set(map(known_id, names))
    return {item.id: item for item in answer.items if item.id in wanted}
