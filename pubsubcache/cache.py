"""Reads items of a node, from the cache or from the service: `get_items` is the public entry point.

The same request gets the same answer from both.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync

from pubsubcache.analysers import matching, registry
from pubsubcache.analysers.matching import SAMPLES
from pubsubcache.conf import settings
from pubsubcache.exceptions import (
    Forbidden,
    InvalidRequest,
    ItemNotFound,
    NotInCache,
    ParseError,
    PubsubCacheError,
    ServiceUnreachable,
)
from pubsubcache.models import Account, PubsubNode
from pubsubcache.services import fetching, remote
from pubsubcache.services.protocol import PubsubService
from pubsubcache.services.sessions import sessions
from pubsubcache.store import ageing, evicting, in_thread, nodes
from pubsubcache.store.activity import counters
from pubsubcache.store.cursors import is_ours
from pubsubcache.store.reading import CachedPage, NodeChanged, read_page
from pubsubcache.syncing.analysis import TIMEOUT, Finding, analyse, is_due, namespaces_of, newest_items
from pubsubcache.types import Item, ItemsPage, ItemsRequest, NodeAddress, Order, Rsm
from pubsubcache.utils import clock, jid, slices
from pubsubcache.utils.cleaning import get_logger
from pubsubcache.utils.slices import Work

logger = get_logger(__name__)

LOOKUPS = 3  # of a node that changes while it is read


class Freshness(Enum):
    """What the copy of a node is worth."""

    FRESH = "fresh"  # it is what the service would answer
    STALE = "stale"  # it may be outdated, and the service cannot be asked now
    MISS = "miss"  # the service must be asked


@dataclass(slots=True)
class Lookup:
    """What the cache has for a request: the row of the node, the page or None if only the service knows it."""

    node: PubsubNode | None
    page: CachedPage | None
    freshness: Freshness


def freshness(node: PubsubNode) -> Freshness:
    """Return how fresh the copy of a node is now.

    A copy is fresh while the node is followed. If nobody follows it, the copy is fresh for `MAX_AGE` after the last
    check. If the worker has lost its session, the copy is stale. A node whose order is unknown is a miss.
    """
    now = node.as_of or clock.now()
    if node.sync_state != PubsubNode.SyncState.COMPLETED or node.is_order_unknown:
        return Freshness.MISS
    if node.is_followed(now):
        return Freshness.FRESH
    held = node.account.is_held(now)
    aged = not clock.is_recent(node.checked_at, now, settings.MAX_AGE)
    if not aged and not (held and node.subscribed):
        return Freshness.FRESH
    if held and node.account.status != Account.Status.ONLINE:
        return Freshness.STALE
    return Freshness.MISS


def look_up(account_jid: str, address: NodeAddress, request: ItemsRequest) -> Lookup:
    """Read what the cache has for a request, in two queries, and record that the node was read."""
    counters.flush_if_due()
    found = _look_up(account_jid, address, request)
    if found.node is not None:
        ageing.record_read(found.node)
    return found


def _look_up(account_jid: str, address: NodeAddress, request: ItemsRequest) -> Lookup:
    node = None
    for _ in range(LOOKUPS):
        node = nodes.find_node(account_jid, address)
        if node is None or node.sync_state != PubsubNode.SyncState.COMPLETED:
            break
        with suppress(NodeChanged):
            return Lookup(node, read_page(node, request), freshness(node))
    return Lookup(node, None, Freshness.MISS)


async def get_items(
    account: Account | str,
    service: str | None,
    node: str,
    *,
    item_ids: Iterable[str] | None = None,
    max_items: int | None = None,
    rsm: Rsm | Mapping[str, Any] | None = None,
    order_by: Order | None = None,
    use_cache: bool = True,
    cache_only: bool = False,
) -> ItemsPage:
    """Return items of a node (XEP-0060, 6.5), oldest first: from the cache if its copy is fresh, else from the service.

    Without `item_ids`, `max_items` and `rsm`, all items are returned.

    Args:
        account: The account, or its bare JID, whose permissions apply.
        service: JID of the service; None for the account's own (PEP).
        node: Name of the node.
        item_ids: Return these items, in this order. Unknown ids are skipped.
        max_items: Return this many of the newest items.
        rsm: Return this page (XEP-0059).
        order_by: "creation" or "modification" (XEP-0413); None for the service's own order.
        use_cache: False asks the service in any case.
        cache_only: True never asks the service.

    Returns:
        The items. Its `left_out` names those that the cache cannot store.

    Raises:
        InvalidRequest: The arguments contradict each other, or there is no such account.
        ItemNotFound: There is no such node, or no such item to page from.
        Forbidden: The account may not read the node.
        ServiceError: The service refused for another reason.
        ServiceUnreachable: The service cannot be asked, or did not answer within `READ_TIMEOUT`, and the cache has no
            answer.
        NotInCache: The cache has no answer, and `cache_only` is set.
        TooLarge: The service has more than one read may return.
    """
    request = ItemsRequest.of(item_ids=item_ids, max_items=max_items, rsm=rsm, order_by=order_by)
    call = _Call.of(account, service, node, request)
    slices.of_loop().reader_came()
    return await call.run(cache_only=cache_only) if use_cache else await call.past_cache()


def get_items_sync(
    account: Account | str,
    service: str | None,
    node: str,
    *,
    item_ids: Iterable[str] | None = None,
    max_items: int | None = None,
    rsm: Rsm | Mapping[str, Any] | None = None,
    order_by: Order | None = None,
    use_cache: bool = True,
    cache_only: bool = False,
) -> ItemsPage:
    """Return items of a node: `get_items` for synchronous code."""
    request = ItemsRequest.of(item_ids=item_ids, max_items=max_items, rsm=rsm, order_by=order_by)
    call = _Call.of(account, service, node, request)
    if not use_cache:
        return async_to_sync(call.past_cache)()
    found = look_up(call.account, call.address, call.request)
    if (page := call.hit(found)) is not None:
        return page
    return async_to_sync(call.answer)(found, cache_only=cache_only)


async def read(account_jid: str, address: NodeAddress, request: ItemsRequest) -> ItemsPage:
    """Answer a request as `get_items` does, with the same errors.

    Args:
        account_jid: The normalised bare JID of the account.
        address: The node, with the normalised JID of its service.
        request: Which items to read.
    """
    return await _Call(account_jid, address, request).run()


@dataclass(slots=True)
class _Call:
    """One request of a reader."""

    account: str
    address: NodeAddress
    request: ItemsRequest

    def __post_init__(self) -> None:
        nodes.check_address(self.address)

    @classmethod
    def of(cls, account: Account | str, service: str | None, node: str, request: ItemsRequest) -> "_Call":
        login = account.jid if isinstance(account, Account) else jid.account(account)
        return cls(login, NodeAddress(jid.normalise(service) if service else login, node), request)

    async def run(self, *, cache_only: bool = False) -> ItemsPage:
        found = await in_thread(look_up)(self.account, self.address, self.request)
        return await self.answer(found, cache_only=cache_only)

    def hit(self, found: Lookup) -> ItemsPage | None:
        """Return the answer, and count it, if the cache has all of it."""
        if found.page is None or found.page.evicted or not self._is_for_cache(found):
            return None
        page = _cached(found, stale=found.freshness is not Freshness.FRESH)
        self._count(page)
        return page

    def _count(self, page: ItemsPage | None) -> None:
        """Count an answer; None stands for an error."""
        if page is None or page.origin != "cache":
            counters.count(self.account, "misses")
        else:
            counters.count(self.account, "stale" if page.stale else "hits")

    def _is_for_cache(self, found: Lookup) -> bool:
        """Whether the cache should answer: it has a usable copy, or the request continues a page of the cache."""
        rsm = self.request.rsm or Rsm()
        return found.freshness is not Freshness.MISS or is_ours(rsm.after) or is_ours(rsm.before)

    async def answer(self, found: Lookup, *, cache_only: bool) -> ItemsPage:
        if (page := self.hit(found)) is not None:
            return page
        try:
            page = await self._answer_miss(found, cache_only=cache_only)
        finally:
            self._count(page)
        return page

    async def _answer_miss(self, found: Lookup, *, cache_only: bool) -> ItemsPage:
        whole = found.page is not None and not found.page.evicted
        if cache_only:
            if whole:
                return _cached(found, stale=True)
            raise NotInCache(f"The cache cannot answer this for {self.address.service} {self.address.name}.")
        try:
            if found.page is not None and found.node is not None and self._is_for_cache(found):
                return await self._completed_by_service(found, found.page, found.node)
            return await self.from_service(found.node)
        except PubsubCacheError as error:
            if whole and fetching.is_unreachable(error):
                return _cached(found, stale=True)
            raise

    async def _completed_by_service(self, found: Lookup, page: CachedPage, node: PubsubNode) -> ItemsPage:
        """Answer a page of which some items are evicted: fetch these from the service."""
        service = await find_service(self.account)
        try:
            fetched = {item.id: item for item in await fetching.read_ids(service, self.address, page.evicted)}
        except Forbidden as error:
            await in_thread(nodes.hide_node)(node.pk, str(error))
            raise
        except ItemNotFound:
            await in_thread(nodes.remove_node)(node.pk)
            raise
        if len(fetched) < len(page.evicted):  # retracted without a notification
            await in_thread(nodes.invalidate_node)(node.pk)
            await remote.awake()
        if odd := {item.id: item.left_out for item in fetched.values() if item.left_out}:
            await in_thread(evicting.mark_left_out)(node.pk, odd)
        for entry in page.entries:
            if (item := fetched.get(entry.item_id)) is not None:
                entry.item, entry.reason = (None, item.left_out) if item.left_out else (item, "")
        await self._parse(node, [item for item in fetched.values() if not item.left_out])
        answer = _cached(found, stale=found.freshness is not Freshness.FRESH)
        answer.origin = "service"
        return answer

    async def past_cache(self) -> ItemsPage:
        """Ask the service as if there were no cache. If it refuses, the cache hides the node."""
        return await self.from_service(await in_thread(nodes.find_node)(self.account, self.address), follow_up=False)

    async def from_service(self, node: PubsubNode | None, *, follow_up: bool = True) -> ItemsPage:
        """Ask the service; with `follow_up`, also let the cache learn about the node."""
        service = await find_service(self.account)
        try:
            page = await fetching.read(service, self.address, self.request)
        except Forbidden as error:
            if node is not None:
                await in_thread(nodes.hide_node)(node.pk, str(error))
            elif follow_up:
                await self._note_refusal(error)
            raise
        except ItemNotFound:
            if node is not None:
                await self._missing(node)
            raise
        if follow_up:
            node = await self._follow_up(node, page, service) or node
        await self._parse(node, page.items)
        if node is not None:
            page.state, page.checked_at = node.sync_state, node.checked_at
        return page

    async def _missing(self, node: PubsubNode) -> None:
        """Remove a node that the service does not have, unless only a requested item was not found."""
        rsm = self.request.rsm
        if self.request.item_ids is None and not (rsm and (rsm.after or rsm.before or rsm.index)):
            await in_thread(nodes.remove_node)(node.pk)

    async def _follow_up(self, node: PubsubNode | None, page: ItemsPage, service: PubsubService) -> PubsubNode | None:
        """Analyse or revalidate the node of `page` if that is due; return its current row."""
        with self._unnoticed():
            if node is None:
                node = await in_thread(nodes.find_node)(self.account, self.address)
            if self._must_be_analysed(node, page):
                async with asyncio.timeout(TIMEOUT):
                    node = await self._save(await self._analyse(node, page, service))
            elif node is not None and _needs_revalidation(node):
                await in_thread(nodes.request_revalidation)(node.pk)
            else:
                return node
            await remote.awake()
        return node

    def _must_be_analysed(self, node: PubsubNode | None, page: ItemsPage) -> bool:
        """Whether a node is new, analysers have changed, or `page` shows other items than were looked at before."""
        if node is None or node.registry_fingerprint != registry.fingerprint():
            return True
        return is_due(node, namespaces_of(page.items), newest=self._has_newest(page))

    async def _analyse(self, node: PubsubNode | None, page: ItemsPage, service: PubsubService) -> Finding:
        has_newest = self._has_newest(page)
        items = page.items if has_newest or node is None or not node.analyser else []
        more = None if has_newest else partial(newest_items, service, self.address)
        return await analyse(self.address, items, more)

    def _has_newest(self, page: ItemsPage) -> bool:
        """Whether a page has all items of its node, or the newest ones, as many as an analysis looks at."""
        rsm = self.request.rsm or Rsm(before="")
        if self.request.item_ids is not None or rsm.after or rsm.before or rsm.index:
            return False
        return page.complete or (rsm.before is not None and len(page.items) >= SAMPLES)

    async def _note_refusal(self, error: Forbidden) -> None:
        """Store why the service refuses a node that the cache does not know."""
        with self._unnoticed():
            await self._save(Finding(None, str(error)))

    @contextmanager
    def _unnoticed(self) -> Iterator[None]:
        """Log errors of the block: the reader has an answer without it."""
        try:
            yield
        except Exception:
            logger.exception("The node %s could not be added to the cache.", self.address.uri)

    async def _save(self, finding: Finding) -> PubsubNode | None:
        with suppress(Account.DoesNotExist):
            return await in_thread(nodes.save_analysis)(self.account, self.address, *finding)
        return None

    async def _parse(self, node: PubsubNode | None, items: list[Item]) -> None:
        """Parse items from the service, as those of their node."""
        if node is not None:
            analyser = registry.get(node.analyser)
        else:
            analyser = matching.by_namespace(self.address.name, matching.prevailing(namespaces_of(items)))
        work = Work(self.address.service)
        for item in items:
            await work.pause()
            with suppress(ParseError):
                item.parsed = await matching.parse(analyser, item, self.address)


def _needs_revalidation(node: PubsubNode) -> bool:
    """Whether a node that the service just answered for should be synchronised: it is old, or failed before."""
    if node.sync_state == PubsubNode.SyncState.ERROR:
        answers_again = node.unavailable_count > 0
        return (node.next_attempt is None or answers_again) and nodes.wants_sync(node)
    return node.sync_state == PubsubNode.SyncState.COMPLETED and freshness(node) is Freshness.MISS


def _cached(found: Lookup, *, stale: bool) -> ItemsPage:
    page, node = found.page, found.node
    assert page is not None
    assert node is not None
    return ItemsPage(
        items=[entry.item for entry in page.entries if entry.item is not None],
        rsm=page.rsm,
        complete=page.complete,
        origin="cache",
        stale=stale,
        checked_at=node.checked_at,
        state=node.sync_state,
        left_out=page.left_out,
    )


async def find_service(account_jid: str) -> PubsubService:
    """Return a session of this process for an account, or a client of the worker that has one.

    Raises:
        InvalidRequest: There is no such account.
        ServiceUnreachable: No worker holds a session.
    """
    if (service := sessions.get(account_jid)) is not None:
        return service
    account = await in_thread(nodes.load_account)(account_jid)
    if account is None:
        raise InvalidRequest(f"There is no account {account_jid}.")
    return service_of(account)


def service_of(account: Account) -> PubsubService:
    """Return what `find_service` returns for a row that has `as_of`. It needs a running event loop, but no database.

    Raises:
        ServiceUnreachable: No worker holds a session.
    """
    if (service := sessions.get(account.jid)) is not None:
        return service
    if not account.is_held():
        raise ServiceUnreachable(f"No worker holds a session of {account.jid}.")
    return remote.RemoteService(account.jid, account.worker)
