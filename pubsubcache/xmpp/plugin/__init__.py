"""A slixmpp plug-in that answers requests for items from the cache: `register_plugin("pubsub_cache", ...)`.

The plug-in `xep_0060` keeps its methods and their signatures, and returns stanzas as ever. See docs/plugin.md.
"""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, Protocol

import django
from django.apps import apps
from slixmpp import JID, ClientXMPP, InvalidJID, Iq
from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.plugins import BasePlugin, register_plugin
from slixmpp.plugins.xep_0059 import Set
from slixmpp.plugins.xep_0060.stanza import Pubsub
from slixmpp.xmlstream import register_stanza_plugin

from pubsubcache.exceptions import InvalidRequest, PubsubCacheError, ServiceError, ServiceUnreachable
from pubsubcache.types import ItemsPage, ItemsRequest, NodeAddress
from pubsubcache.utils import jid
from pubsubcache.utils.cleaning import get_logger
from pubsubcache.utils.xmlform import PUBSUB
from pubsubcache.xmpp.plugin.service import ClientService, request_timeout
from pubsubcache.xmpp.plugin.stanzas import Pages, iq_error, items_result

logger = get_logger(__name__)

READS = ("get_items", "get_item")
#: Methods that change a node. Of the first two it is known which items; after the others the node is compared.
WRITES = ("publish", "retract", "purge", "delete_node", "set_node_config", "unsubscribe")


class Cache(Protocol):
    """What the plug-in needs of an account's cache; the application's `AppConfig.cache_of` gives one."""

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ItemsPage:
        """Answer a request by the rules of `pubsubcache.cache.get_items`, raising what that raises."""
        ...

    async def written(self, address: NodeAddress, names: list[str] | None) -> None:
        """Take in that the items `names` of a node were changed at the service; None: anything may have been."""
        ...

    def close(self) -> None:
        """End what goes on in the background."""
        ...


@dataclass(frozen=True, slots=True)
class _Call:
    """What a call is about: the node, the service as the caller named it, how long one answer of it may take."""

    address: NodeAddress
    sender: str
    timeout: float | None


class PubsubCache(BasePlugin):
    """Reads of pubsub items from the cache of `account`, the bare JID that the client logs in to (by default its own).

    Raises `InvalidRequest` (a `ValueError`) when it is registered for another account than the client's.
    """

    name = "pubsub_cache"
    description = "Pubsub cache"
    dependencies = {"xep_0060"}
    default_config = {"account": ""}

    def plugin_init(self) -> None:
        """Take the place of the methods of `xep_0060`."""
        if not isinstance(self.xmpp, ClientXMPP):
            raise InvalidRequest("Only clients have an account whose cache can be used.")
        self._client = self.xmpp
        own = self._client.boundjid.bare
        self._account = jid.account(self.config["account"] or own)
        if self._account != jid.account(own):
            raise InvalidRequest(f"The client of {own} cannot use the cache of {self._account}.")
        if not apps.ready:
            django.setup()
        register_stanza_plugin(Pubsub, Set)  # without it slixmpp does not see the pages of its own requests
        self._service = ClientService(self._client)
        self._cache: Cache = _cache_of(self._account, self._service)
        self._tasks: set[asyncio.Future[Any]] = set()
        self._writes: dict[NodeAddress, set[asyncio.Future[Any]]] = {}
        self._pubsub = self._client.plugin["xep_0060"]
        self._originals = {name: getattr(self._pubsub, name) for name in READS + WRITES}
        self._own = {
            "get_items": self._reader(self._pubsub.get_items, self._get_items),
            "get_item": self._reader(self._pubsub.get_item, self._get_item),
            **{name: self._writer(name) for name in WRITES},
        }
        vars(self._pubsub).update(self._own)

    def plugin_end(self) -> None:
        """Give the methods back; requests under way come to their end."""
        for name, method in self._own.items():
            if vars(self._pubsub).get(name) is method:
                setattr(self._pubsub, name, self._originals[name])
        self._cache.close()
        self._service.close()

    def _start(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = self._client.loop.create_task(work)
        self._tasks.add(task)  # the event loop itself would let it go
        task.add_done_callback(self._tasks.discard)
        return task

    def _answer(self, work: Awaitable[Iq], callback: Callable[[Iq], Any] | None) -> "asyncio.Task[Iq]":
        """Return a future as slixmpp does: `callback` gets the answer, be it an error, before who awaits it."""

        async def answer() -> Iq:
            try:
                result = await work
            except IqError as error:
                self._call(callback, error.iq)
                raise
            self._call(callback, result)
            return result

        return self._start(answer())

    def _call(self, callback: Callable[[Iq], Any] | None, answer: Iq) -> None:
        if callback is None:
            return
        try:
            outcome = callback(answer)
        except Exception as error:
            logger.exception("The callback of a request failed.")
            self._client.exception(error)  # type: ignore[no-untyped-call]
        else:
            if inspect.iscoroutine(outcome):
                self._start(outcome)

    # Reads

    @staticmethod
    def _reader(original: Callable[..., Any], ours: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def read(*args: Any, **kwargs: Any) -> Any:
            return ours(*args, **kwargs)

        return read

    def _get_items(
        self,
        jid: Any,
        node: str,
        item_ids: Any = None,
        max_items: int | None = None,
        iterator: bool = False,
        ifrom: Any = None,
        callback: Any = None,
        timeout: float | None = None,
    ) -> Any:
        ids = None if item_ids is None else list(item_ids)
        original = partial(self._originals["get_items"], jid, node, ids, max_items, ifrom=ifrom, timeout=timeout)
        call = self._call_of(jid, node, ifrom, timeout)
        request = _request(ids or None, max_items)
        if call is None or request is None:
            return original(iterator=iterator, callback=callback)
        if iterator:
            query = self._client.Iq(sto=jid, sfrom=ifrom, stype="get")
            query["pubsub"]["items"]["node"] = node
            return Pages(query, request, partial(self._read_page, call, query), partial(self._wrap, call))
        return self._answer(self._read_once(call, request, original), callback)

    def _get_item(
        self,
        jid: Any,
        node: str,
        item_id: str,
        ifrom: Any = None,
        callback: Any = None,
        timeout: float | None = None,
    ) -> Any:
        original = partial(self._originals["get_item"], jid, node, item_id, ifrom=ifrom, timeout=timeout)
        call = self._call_of(jid, node, ifrom, timeout)
        request = _request([item_id], None)
        if call is None or request is None:
            return original(callback=callback)
        return self._answer(self._read_once(call, request, original), callback)

    def _call_of(self, service: Any, node: Any, ifrom: Any, timeout: Any = None) -> _Call | None:
        """Return what a call is about, or None when it is not the cache's to answer."""
        own = self._client.boundjid
        try:
            peer, sender = JID(service or ""), JID(ifrom or "")
            address = NodeAddress(jid.normalise(peer.bare) if peer.bare else self._account, node)
            is_ours = sender.full in ("", own.bare, own.full) and jid.bare(own.bare) == self._account
        except (InvalidJID, InvalidRequest):
            return None
        is_sound = isinstance(node, str) and node and (timeout is None or isinstance(timeout, (int, float)))
        if peer.resource or not is_ours or not is_sound:
            return None
        return _Call(address, peer.full or self._account, timeout)

    async def _read(self, call: _Call, request: ItemsRequest) -> ItemsPage | None:
        """Return the cache's answer, or None when the request is to be sent as it was made."""
        if self._service.online and (writes := self._writes.get(call.address)):
            settled = asyncio.gather(*writes, return_exceptions=True)
            await asyncio.wait({settled, self._client.disconnected}, return_when=asyncio.FIRST_COMPLETED)
        request_timeout.set(call.timeout)
        try:
            return await self._cache.get_items(call.address, request)
        except ServiceError as error:
            raise iq_error(self._client, call.sender, error) from None
        except ServiceUnreachable as error:
            if isinstance(error.__cause__, IqTimeout):
                raise error.__cause__ from None
        except PubsubCacheError as error:
            logger.info("Not answered by the cache: %s", error)
        return None

    async def _read_once(self, call: _Call, request: ItemsRequest, original: Callable[[], Awaitable[Iq]]) -> Iq:
        page = await self._read(call, request)
        return await (original() if page is None else self._wrap(call, page))

    async def _read_page(self, call: _Call, query: Iq, request: ItemsRequest) -> ItemsPage:
        page = await self._read(call, request)
        if page is None:
            raise IqTimeout(query)  # type: ignore[no-untyped-call]
        return page

    async def _wrap(self, call: _Call, page: ItemsPage) -> Iq:
        return await items_result(self._client, call.sender, call.address.name, page)

    # Writes

    def _writer(self, name: str) -> Callable[..., Any]:
        original = self._originals[name]
        signature = inspect.signature(original)

        @wraps(original)
        def write(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs).arguments
            call = self._call_of(given["jid"], given["node"], given.get("ifrom"))
            if call is None:
                return original(*args, **kwargs)
            callback = given.pop("callback", None)
            written = self._start(self._write(call.address, original(**given), partial(_names, name, given)))
            self._note(call.address, written)
            return self._answer(asyncio.shield(written), callback)

        return write

    def _note(self, address: NodeAddress, written: "asyncio.Future[Iq]") -> None:
        """Have reads of a node wait for what this client wrote before, as they would at the service."""
        self._writes.setdefault(address, set()).add(written)

        def forget(done: "asyncio.Future[Iq]") -> None:
            self._writes[address].discard(done)
            if not self._writes[address]:
                del self._writes[address]

        written.add_done_callback(forget)

    async def _write(self, address: NodeAddress, sent: Awaitable[Iq], names: Callable[[Iq], list[str] | None]) -> Iq:
        """Return the service's answer to a write once the cache has taken it in."""
        result = await sent
        try:
            await self._cache.written(address, names(result))
        except Exception:
            logger.exception("What was written to %s did not reach the cache.", address.uri)
        return result


def _cache_of(account: str, service: ClientService) -> Cache:
    config: Any = apps.get_app_config("pubsubcache")
    cache: Cache = config.cache_of(account, service)
    return cache


def _request(item_ids: list[str] | None, max_items: int | None) -> ItemsRequest | None:
    """Return the request of a call, or None when it is one that only the service can make sense of."""
    try:
        return ItemsRequest(item_ids=None if item_ids is None else tuple(item_ids), max_items=max_items)
    except (InvalidRequest, TypeError):
        return None


def _names(method: str, given: dict[str, Any], result: Iq) -> list[str] | None:
    """Return the ids of the items that a successful write changed; None when it does not say."""
    if method == "retract":
        return [str(given["id"])]
    if method != "publish":
        return None
    item = result.xml.find(f"{{{PUBSUB}}}pubsub/{{{PUBSUB}}}publish/{{{PUBSUB}}}item")
    name = (None if item is None else item.get("id")) or given.get("id")
    return [str(name)] if name else None


register_plugin(PubsubCache)
