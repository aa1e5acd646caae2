"""A site that runs in the test process: its accounts, its worker, and what its readers see."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest
from channels.layers import get_channel_layer
from django.db import close_old_connections

from pubsubcache import cache
from pubsubcache.exceptions import ServiceUnreachable
from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.store import in_thread
from pubsubcache.types import ItemsPage, NodeAddress
from pubsubcache.worker import PubsubWorker
from pubsubcache.xmpp.session import Session
from tests.servers.xmpp import XmppServer

TIMEOUT = 60.0
ATOM = "http://www.w3.org/2005/Atom"


def entry(title: str, **more: str) -> Element:
    """Return an Atom entry."""
    fields = {"title": title, "updated": "2026-03-01T12:00:00Z", "published": "2026-03-01T12:00:00Z", **more}
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    return fromstring(f'<entry xmlns="{ATOM}">{inner}</entry>')


def new_name(prefix: str = "urn:xmpp:microblog:0:tests/") -> str:
    """Return a node name that no other test uses."""
    return prefix + uuid.uuid4().hex[:12]


@in_thread
def _create_account(fields: dict[str, Any]) -> Account:
    account, _ = Account.objects.update_or_create(jid=fields["jid"], defaults=fields)
    return account


@in_thread
def _node(jid: str, address: NodeAddress) -> PubsubNode | None:
    return (
        PubsubNode.objects.select_related("account")
        .filter(account__jid=jid, service=address.service, name=address.name)
        .with_time()
        .first()
    )


@in_thread
def _items(jid: str, address: NodeAddress) -> list[PubsubItem]:
    items = PubsubItem.objects.filter(node__account__jid=jid, node__service=address.service, node__name=address.name)
    return list(items.in_order())


@dataclass
class Site:
    """A site with an account of `server`; `worker` is set inside `working()`."""

    server: XmppServer
    user: str = "alice"
    worker: PubsubWorker | None = None
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def jid(self) -> str:
        """The account's JID."""
        return self.server.jid(self.user)

    async def add_account(self, **changes: Any) -> Account:
        """Add the account to the cache."""
        return await _create_account({**self.server.account_fields(self.user), **changes})

    @asynccontextmanager
    async def working(self) -> AsyncIterator[PubsubWorker]:
        """Run a worker with a session of the account inside the block."""
        worker = PubsubWorker(channel_layer=get_channel_layer())
        task = asyncio.create_task(worker.work())
        self.worker = worker
        try:
            await self.until(self.is_online)
            yield worker
        finally:
            worker.stop()
            await task
            await in_thread(close_old_connections)()

    async def account(self) -> Account:
        """Return the account's row as it is now."""
        return await in_thread(Account.objects.with_time().get)(jid=self.jid)

    async def is_online(self) -> bool:
        """Return whether the account is online."""
        return (await self.account()).is_online()

    async def until(self, condition: Callable[[], Any], timeout: float = TIMEOUT) -> Any:  # noqa: ASYNC109
        """Return what `condition` (a coroutine function) returns once it is true."""
        async with asyncio.timeout(timeout):
            while True:
                if (outcome := await condition()) or outcome == []:
                    return outcome
                await asyncio.sleep(0.02)

    async def node(self, address: NodeAddress) -> PubsubNode | None:
        """Return the row of a node, or None."""
        return await _node(self.jid, address)

    async def items(self, address: NodeAddress) -> list[PubsubItem]:
        """Return the rows of a node's items, oldest first."""
        return await _items(self.jid, address)

    async def names(self, address: NodeAddress) -> list[str]:
        """Return the ids of a node's cached items, oldest first."""
        return [item.name for item in await self.items(address)]

    async def read(self, address: NodeAddress, **options: Any) -> ItemsPage:
        """Read a node through the public API."""
        return await cache.get_items(self.jid, address.service, address.name, **options)

    async def in_sync(self, address: NodeAddress) -> PubsubNode:
        """Wait until a node is fresh; return its row."""

        async def fresh_node() -> PubsubNode | None:
            node = await self.node(address)
            if node is not None and cache.freshness(node) is cache.Freshness.FRESH and not node.sync_owner:
                return node
            return None

        return await self.until(fresh_node)

    async def knows_order(self, address: NodeAddress) -> None:
        """Wait, after an edit, until the cache has learned where the service puts edited items."""

        async def known() -> bool:
            return (await self.in_sync(address)).moves is not None

        await self.until(known)

    async def cached(self, address: NodeAddress, **options: Any) -> ItemsPage:
        """Read a node so that it is cached, and return the answer of the cache."""
        await self.read(address, **options)
        await self.in_sync(address)
        page = await self.read(address, **options)
        assert page.origin == "cache"
        return page

    async def equal_to_service(self, address: NodeAddress) -> bool:
        """Return whether the cache has the same items as the service, in the same order."""
        try:
            live = await self.read(address, use_cache=False)
        except ServiceUnreachable:
            return False
        return [item.data for item in await self.items(address)] == [item.xml for item in live.items]

    async def converged(self, address: NodeAddress) -> None:
        """Wait until a node is fresh and its items equal those of the service."""

        async def equal() -> bool:
            equal = await self.equal_to_service(address)
            node = await self.node(address)
            return equal and node is not None and cache.freshness(node) is cache.Freshness.FRESH and not node.sync_owner

        try:
            await self.until(equal)
        except TimeoutError:
            live = await self.read(address, use_cache=False)
            node = await self.node(address)
            pytest.fail(
                f"The cache did not become equal to the service: {[item.id for item in live.items][-50:]} there, "
                f"{(await self.names(address))[-50:]} here, {vars(node) if node else None}"
            )


async def publish_many(session: Session, address: NodeAddress, count: int, first: int = 0, together: int = 50) -> None:
    """Publish `count` entries in order, with ids from item-0 (or item-`first`) up."""
    for start in range(first, first + count, together):
        numbers = range(start, min(start + together, first + count))
        await asyncio.gather(*(session.publish(address, entry(f"Title {n}"), f"item-{n}") for n in numbers))


async def make_node(session: Session, server: XmppServer, name: str | None = None, **config: str) -> NodeAddress:
    """Create an open node that keeps its items on the server's pubsub service."""
    address = NodeAddress(server.pubsub, name or new_name())
    fields = {
        "pubsub#max_items": "100000",
        "pubsub#persist_items": "1",
        "pubsub#access_model": "open",
        "pubsub#notify_retract": "1",
        "pubsub#notify_delete": "1",
        **config,
    }
    await session.create_node(address, fields)
    return address


@asynccontextmanager
async def working_site(server: XmppServer) -> AsyncIterator[Site]:
    """Run a site with alice's account and a worker that has its session."""
    server.start()
    site = Site(server)
    await site.add_account()
    async with site.working():
        yield site


async def cached_node(site: Site, session: Session, count: int) -> NodeAddress:
    """Create a node with `count` entries and wait until the site has cached it."""
    address = await make_node(session, site.server)
    await publish_many(session, address, count)
    await site.cached(address)
    return address


async def left_site(server: XmppServer, session: Session, count: int) -> tuple[Site, NodeAddress]:
    """Return a site whose worker cached a node of `count` entries and has stopped."""
    site = Site(server)
    await site.add_account()
    async with site.working():
        return site, await cached_node(site, session, count)
