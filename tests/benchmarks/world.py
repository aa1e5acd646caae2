"""The site that is measured: servers that run already, nodes filled once, an account in the cache."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pubsubcache.exceptions import ServiceError
from pubsubcache.store import in_thread
from pubsubcache.types import ItemsRequest, NodeAddress, Rsm
from pubsubcache.xmpp.session import Session, open_session
from tests.acceptance.site import Site, make_node, publish_many
from tests.benchmarks.servers import RunningServer

PREFIX = "urn:xmpp:microblog:0:benchmark/"


def site_of(server: RunningServer) -> Site:
    """Return alice's site on `server`."""
    return Site(server)


async def filled(server: RunningServer, count: int) -> NodeAddress:
    """Return a node of `count` items, made unless an earlier run did."""
    address = NodeAddress(server.pubsub, f"{PREFIX}{count}")
    async with open_session(server.login("bob")) as bob:
        with suppress(ServiceError):
            await make_node(bob, server, address.name)
        held = await _count(bob, address)
        await publish_many(bob, address, count - held, first=held)
    return address


async def _count(session: Session, address: NodeAddress) -> int:
    page = await session.get_items(address, ItemsRequest(rsm=Rsm(max=0)))
    return page.rsm.count or 0 if page.rsm else len(page.items)


async def in_database(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run `function` where asynchronous code uses the database."""
    return await in_thread(function)(*arguments)
