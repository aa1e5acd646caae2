"""The one entry for reads: `get_items`, answered from the cache or by the service.

The rules are those of the page it returns: the same request gets the same answer, whoever gives it.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

from asgiref.sync import async_to_sync

from pubsubcache import clock, jid, live, rpc, slices, xmlform
from pubsubcache.analysers import matching, registry
from pubsubcache.analysing import analyse
from pubsubcache.cleaning import get_logger
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
from pubsubcache.service import PubsubService, sessions
from pubsubcache.slices import Work
from pubsubcache.store import ageing, in_thread, nodes, purging
from pubsubcache.store.cursors import is_ours
from pubsubcache.store.reading import CachedPage, NodeChanged, read_page
from pubsubcache.types import Item, ItemsPage, ItemsRequest, NodeAddress, Order, Rsm

logger = get_logger(__name__)

ANALYSIS_TIMEOUT = 10.0
LOOKUPS = 3  # of a node that changes while it is read


class Trust(Enum):
    """What the cache says of its copy of a node."""

    VOUCHED = "vouched"  # it is what the service would answer
    STALE = "stale"  # it was; the service cannot be asked now
    ASK = "ask"  # the service is to be asked


@dataclass(slots=True)
class Lookup:
    """What the cache has for a request: the node's row, the page unless only the service can tell, its worth."""

    node: PubsubNode | None
    page: CachedPage | None
    trust: Trust


def trust(node: PubsubNode) -> Trust:
    """Say whether the cache vouches for a node now.

    It does while the node is followed; when nobody follows it, for `MAX_AGE` after it was checked. A node whose worker
    knows that its session is lost is stale. One whose order is in doubt is asked of the service.
    """
    now = node.as_of or clock.now()
    if node.sync_state != PubsubNode.SyncState.COMPLETED or "probe" in node.extra:
        return Trust.ASK
    if node.is_followed(now):
        return Trust.VOUCHED
    held = node.account.is_held(now)
    aged = not clock.is_recent(node.checked_at, now, settings.MAX_AGE)
    if not aged and not (held and node.subscribed):
        return Trust.VOUCHED
    if held and node.account.status != Account.Status.ONLINE:
        return Trust.STALE
    return Trust.ASK


def look_up(account_jid: str, address: NodeAddress, request: ItemsRequest) -> Lookup:
    """Read what the cache has for a request, in two queries, and keep that the node was read."""
    found = _look_up(account_jid, address, request)
    if found.node is not None:
        ageing.note_read(found.node)
    return found


def _look_up(account_jid: str, address: NodeAddress, request: ItemsRequest) -> Lookup:
    node = None
    for _ in range(LOOKUPS):
        node = nodes.find_node(account_jid, address)
        if node is None or node.sync_state != PubsubNode.SyncState.COMPLETED:
            break
        with suppress(NodeChanged):
            return Lookup(node, read_page(node, request), trust(node))
    return Lookup(node, None, Trust.ASK)


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
    """Return items of a node, from the cache if it vouches for the node, else from the service.

    `account`: the login (or its bare JID) whose rights count. `service`: the JID of the service, None for the
    account's own (PEP). What is asked, all items by default: `item_ids` in that order, unknown ones left out;
    `max_items` the newest so many; `rsm` a page (XEP-0059). `order_by` as in XEP-0413. `use_cache=False` asks the
    service; `cache_only=True` never does. Items come oldest first; those that cannot be kept are named in `left_out`.

    Raises `InvalidRequest`; `ServiceError` (`ItemNotFound`, `Forbidden`...) as the service says; `ServiceUnreachable`
    when it cannot be asked, or not within `READ_TIMEOUT`, and the cache has no answer, `NotInCache` likewise with
    `cache_only`; `TooLarge` when the service has more than a reader gets at once.
    """
    call = _Call.of(account, service, node, item_ids, max_items, rsm, order_by)
    slices.of_loop().reader_came()
    if not use_cache:
        return await call.past_cache()
    return await call.answer(await in_thread(look_up)(call.account, call.address, call.request), cache_only)


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
    """Return items of a node: `get_items` for code that is not asynchronous."""
    call = _Call.of(account, service, node, item_ids, max_items, rsm, order_by)
    if not use_cache:
        return async_to_sync(call.past_cache)()
    found = look_up(call.account, call.address, call.request)
    if (page := call.hit(found)) is not None:
        return page
    return async_to_sync(call.answer)(found, cache_only)


@dataclass(slots=True)
class _Call:
    """One request of a reader."""

    account: str
    address: NodeAddress
    request: ItemsRequest

    @classmethod
    def of(
        cls,
        account: Account | str,
        service: str | None,
        node: str,
        item_ids: Iterable[str] | None,
        max_items: int | None,
        rsm: Rsm | Mapping[str, Any] | None,
        order_by: Order | None,
    ) -> "_Call":
        login = account.jid if isinstance(account, Account) else jid.account(account)
        address = NodeAddress(jid.normalise(service) if service else login, node)
        nodes.check_address(address)
        if isinstance(item_ids, str):
            raise InvalidRequest("item_ids is to be a list of item ids, not a text.")
        ids = None if item_ids is None else tuple(item_ids)
        request = ItemsRequest(item_ids=ids, max_items=max_items, rsm=Rsm.of(rsm), order_by=order_by)
        return cls(login, address, request)

    def hit(self, found: Lookup) -> ItemsPage | None:
        """Return the answer if the cache has it whole."""
        if found.page is None or found.page.evicted or not self._is_for_cache(found):
            return None
        return _cached(found, stale=found.trust is not Trust.VOUCHED)

    def _is_for_cache(self, found: Lookup) -> bool:
        """Whether the cache is to answer: it vouches, or this goes on with a page that only it can follow."""
        rsm = self.request.rsm or Rsm()
        return found.trust is not Trust.ASK or is_ours(rsm.after) or is_ours(rsm.before)

    async def answer(self, found: Lookup, cache_only: bool) -> ItemsPage:
        """Return the answer, by whoever can give it."""
        if (page := self.hit(found)) is not None:
            return page
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
            if whole and live.is_unreachable(error):
                return _cached(found, stale=True)
            raise

    async def _completed_by_service(self, found: Lookup, page: CachedPage, node: PubsubNode) -> ItemsPage:
        """Answer a page of which the cache has given up some items: those are asked of the service."""
        service = await find_service(self.account)
        try:
            fetched = {item.id: item for item in await live.read_ids(service, self.address, page.evicted)}
        except Forbidden as error:
            await in_thread(nodes.hide_node)(node.pk, str(error))
            raise
        except ItemNotFound:
            await in_thread(nodes.remove_node)(node.pk)
            raise
        if len(fetched) < len(page.evicted):  # retracted, and nobody told
            await in_thread(nodes.doubt_node)(node.pk)
            await rpc.awake()
        if odd := {item.id: item.left_out for item in fetched.values() if item.left_out}:
            await in_thread(purging.leave_out)(node.pk, odd)
        for entry in page.entries:
            if (item := fetched.get(entry.name)) is not None:
                entry.item, entry.reason = (None, item.left_out) if item.left_out else (item, "")
        await self._parse(node, [item for item in fetched.values() if not item.left_out])
        answer = _cached(found, stale=found.trust is not Trust.VOUCHED)
        answer.origin = "service"
        return answer

    async def past_cache(self) -> ItemsPage:
        """Ask the service as if there were no cache; what it refuses, the cache stops to show."""
        return await self.from_service(await in_thread(nodes.find_node)(self.account, self.address), follow_up=False)

    async def from_service(self, node: PubsubNode | None, *, follow_up: bool = True) -> ItemsPage:
        """Ask the service, and with `follow_up` have the cache learn of the node."""
        service = await find_service(self.account)
        try:
            page = await live.read(service, self.address, self.request)
        except Forbidden as error:
            if node is not None:
                await in_thread(nodes.hide_node)(node.pk, str(error))
            elif follow_up:
                await self._follow_up(None, None, service, error)
            raise
        except ItemNotFound:
            if node is not None:
                await self._missing(node)
            raise
        if follow_up:
            node = await self._follow_up(node, page, service, None) or node
        await self._parse(node, page.items)
        if node is not None:
            page.state, page.checked_at = node.sync_state, node.checked_at
        return page

    async def _missing(self, node: PubsubNode) -> None:
        """Remove a node that the service does not have; what was not found may also be an item asked for."""
        rsm = self.request.rsm
        if self.request.item_ids is None and not (rsm and (rsm.after or rsm.before or rsm.index)):
            await in_thread(nodes.remove_node)(node.pk)

    async def _follow_up(
        self, node: PubsubNode | None, page: ItemsPage | None, service: PubsubService, refused: Exception | None
    ) -> PubsubNode | None:
        """Have a node that was just read analysed, or compared again; the reader notices nothing of it."""
        try:
            if refused is not None:
                return await self._save(None, str(refused))
            if node is None:
                node = await in_thread(nodes.find_node)(self.account, self.address)
            if node is None or node.extra.get("registry") != registry.fingerprint():
                async with asyncio.timeout(ANALYSIS_TIMEOUT):
                    items = page.items if page is not None else []
                    node = await self._save(*await analyse(service, self.address, items))
            elif _is_to_be_checked(node):
                await in_thread(nodes.revalidate)(node.pk)
            else:
                return node
            await rpc.awake()
        except Exception:
            logger.exception("The node %s could not be taken into the cache.", self.address.uri)
        return node

    async def _save(self, analysis: Any, error: str) -> PubsubNode | None:
        with suppress(Account.DoesNotExist):
            node: PubsubNode = await in_thread(nodes.save_analysis)(self.account, self.address, analysis, error)
            return node
        return None

    async def _parse(self, node: PubsubNode | None, items: list[Item]) -> None:
        """Give items from the service what their analyser's parser makes of them."""
        if node is not None:
            analyser = registry.get(node.analyser)
        else:
            namespace = xmlform.payload_namespace(items[-1].element) if items else None
            analyser = matching.by_namespace(self.address.name, namespace)
        work = Work(self.address.service)
        for item in items:
            await work.pause()
            with suppress(ParseError):
                item.parsed = await matching.parse(analyser, item, self.address)


def _is_to_be_checked(node: PubsubNode) -> bool:
    """Whether a node that the service just answered for is to be synchronised: aged, or failed until now."""
    if node.sync_state == PubsubNode.SyncState.ERROR:
        answers_again = node.unavailable_count > 0
        return (node.next_attempt is None or answers_again) and nodes.wants_sync(node)
    return node.sync_state == PubsubNode.SyncState.COMPLETED and trust(node) is Trust.ASK


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
    """Return who can ask services for an account: a session of this process, or the worker that has one.

    Raises `ServiceUnreachable` when nobody has.
    """
    if (service := sessions.get(account_jid)) is not None:
        return service
    account = await in_thread(nodes.load_account)(account_jid)
    if account is None:
        raise InvalidRequest(f"There is no account {account_jid}.")
    if not account.is_held():
        raise ServiceUnreachable(f"No worker holds a session of {account_jid}.")
    return rpc.RemoteService(account_jid, account.worker)
