"""slixmpp plug-in that answers requests for items from the cache: `register_plugin("pubsub_cache", ...)`.

It replaces methods of the plug-in `xep_0060` but keeps their signatures and results. See docs/plugin.md.
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
#: Methods that change a node. The first two change known items; after the others, the node is revalidated.
WRITES = ("publish", "retract", "purge", "delete_node", "set_node_config", "unsubscribe")


class Cache(Protocol):
    """The cache of an account as used by the plug-in; `AppConfig.cache_of` returns one."""

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ItemsPage:
        """Answer a request like `pubsubcache.cache.get_items`, and raise the same errors."""
        ...

    async def written(self, address: NodeAddress, item_ids: list[str] | None) -> None:
        """Update the cache after items changed at the service; None if any item may have changed."""
        ...

    def close(self) -> None:
        """Cancel background tasks."""
        ...


@dataclass(frozen=True, slots=True)
class _Call:
    """A call of a pubsub method: the node, the JID of the service as given, and the timeout of a request in seconds."""

    address: NodeAddress
    sender: str
    timeout: float | None


class PubsubCache(BasePlugin):
    """Reads pubsub items from the cache of an account.

    The option `account` is the bare JID of the account, by default that of the client.

    Raises:
        InvalidRequest: The account is not that of the client. This is a `ValueError`.
    """

    name = "pubsub_cache"
    description = "Pubsub cache"
    dependencies = {"xep_0060"}
    default_config = {"account": ""}

    def plugin_init(self) -> None:
        """Replace the methods of `xep_0060`."""
        if not isinstance(self.xmpp, ClientXMPP):
            raise InvalidRequest("Only clients have an account whose cache can be used.")
        self._client = self.xmpp
        own = self._client.boundjid.bare
        self._account = jid.account(self.config["account"] or own)
        if self._account != jid.account(own):
            raise InvalidRequest(f"The client of {own} cannot use the cache of {self._account}.")
        if not apps.ready:
            django.setup()
        register_stanza_plugin(Pubsub, Set)  # otherwise slixmpp does not parse the <set/> in answers
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
        """Restore the methods of `xep_0060`. Pending requests still complete."""
        for name, method in self._own.items():
            if vars(self._pubsub).get(name) is method:
                setattr(self._pubsub, name, self._originals[name])
        self._cache.close()
        self._service.close()

    def _start(self, coroutine: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = self._client.loop.create_task(coroutine)
        self._tasks.add(task)  # the event loop only keeps weak references
        task.add_done_callback(self._tasks.discard)
        return task

    def _answer(self, awaitable: Awaitable[Iq], callback: Callable[[Iq], Any] | None) -> "asyncio.Task[Iq]":
        """Return a future like slixmpp's: `callback` gets the answer, or the error, before whoever awaits it."""

        async def answer() -> Iq:
            try:
                result = await awaitable
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
        """Describe a call, or return None if the cache must not answer it."""
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
        """Return the answer of the cache, or None if the original request must be sent."""
        if self._service.online and (writes := self._writes.get(call.address)):
            finished = asyncio.gather(*writes, return_exceptions=True)
            await asyncio.wait({finished, self._client.disconnected}, return_when=asyncio.FIRST_COMPLETED)
        request_timeout.set(call.timeout)
        try:
            return await self._cache.get_items(call.address, request)
        except ServiceError as error:
            raise iq_error(self._client, call.sender, error) from None
        except ServiceUnreachable as error:
            if isinstance(error.__cause__, IqTimeout):
                raise error.__cause__ from None
        except PubsubCacheError as error:
            logger.info("The cache did not answer a request: %s", error)
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
            written = self._start(self._write(call.address, original(**given), partial(_changed_ids, name, given)))
            self._delay_reads(call.address, written)
            return self._answer(asyncio.shield(written), callback)

        return write

    def _delay_reads(self, address: NodeAddress, written: "asyncio.Future[Iq]") -> None:
        """Make later reads of a node wait for a write, because the service would answer them in order too."""
        self._writes.setdefault(address, set()).add(written)

        def forget(done: "asyncio.Future[Iq]") -> None:
            self._writes[address].discard(done)
            if not self._writes[address]:
                del self._writes[address]

        written.add_done_callback(forget)

    async def _write(
        self, address: NodeAddress, sent: Awaitable[Iq], changed_ids: Callable[[Iq], list[str] | None]
    ) -> Iq:
        """Wait for the answer to a write, update the cache, and return the answer."""
        result = await sent
        try:
            await self._cache.written(address, changed_ids(result))
        except Exception:
            logger.exception("Failed to update the cache after a write to %s.", address.uri)
        return result


def _cache_of(account: str, service: ClientService) -> Cache:
    config: Any = apps.get_app_config("pubsubcache")
    cache: Cache = config.cache_of(account, service)
    return cache


def _request(item_ids: list[str] | None, max_items: int | None) -> ItemsRequest | None:
    """Build the request of a call, or return None if the arguments are invalid and only the service can answer."""
    try:
        return ItemsRequest(item_ids=None if item_ids is None else tuple(item_ids), max_items=max_items)
    except (InvalidRequest, TypeError):
        return None


def _changed_ids(method: str, given: dict[str, Any], result: Iq) -> list[str] | None:
    """Return the ids of the items that a successful write changed, or None if they are unknown."""
    if method == "retract":
        return [str(given["id"])]
    if method != "publish":
        return None
    item = result.xml.find(f"{{{PUBSUB}}}pubsub/{{{PUBSUB}}}publish/{{{PUBSUB}}}item")
    item_id = (None if item is None else item.get("id")) or given.get("id")
    return [str(item_id)] if item_id else None


register_plugin(PubsubCache)
