"""Test that the cache converges to the service after connections broke, stalled or were fragmented."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.acceptance.site import Site, cached_node, entry, make_node, publish_many
from tests.servers.proxy import Proxy


@pytest.fixture(autouse=True)
def quick(settings: Any) -> None:
    settings.PUBSUBCACHE_PAGE_SIZE = 20
    settings.PUBSUBCACHE_RETRY_DELAY = 0.2
    settings.PUBSUBCACHE_RECONNECT_MAX_DELAY = 0.5


@pytest.fixture
async def proxy(xmpp_server) -> AsyncIterator[Proxy]:
    async with Proxy(xmpp_server.host, xmpp_server.port) as proxy:
        yield proxy


@pytest.fixture
async def proxied_site(xmpp_server, proxy: Proxy, live_database: None) -> AsyncIterator[Site]:
    site = Site(xmpp_server)
    await site.add_account(port=proxy.port)
    async with site.working():
        yield site


@pytest.mark.both_databases
async def test_a_connection_that_breaks_in_the_middle_of_pages(proxied_site: Site, proxy: Proxy, client) -> None:
    bob = await client(proxied_site.server)
    address = await make_node(bob, proxied_site.server)
    await publish_many(bob, address, 300)
    await proxied_site.read(address, max_items=1)
    for budget in (500, 5_000, 20_000, 60_000):
        proxy.budget = budget

        async def broken() -> bool:
            return proxy.budget is None or await proxied_site.equal_to_service(address)

        await proxied_site.until(broken)
    proxy.budget = None
    await proxied_site.converged(address)
    assert len(await proxied_site.names(address)) == 300


async def test_slow_answers_in_small_pieces(proxied_site: Site, proxy: Proxy, client) -> None:
    proxy.piece, proxy.delay = 997, 0.001
    bob = await client(proxied_site.server)
    address = await cached_node(proxied_site, bob, 100)
    await publish_many(bob, address, 50, first=80)
    await proxied_site.converged(address)


async def test_changes_during_a_lost_connection_are_found(proxied_site: Site, proxy: Proxy, client) -> None:
    bob = await client(proxied_site.server)
    address = await cached_node(proxied_site, bob, 10)
    async with proxy.down():
        await bob.publish(address, entry("New"), "new")
        await bob.retract(address, "item-3", notify=True)
        page = await proxied_site.read(address)
        assert len(page.items) == 10
    await proxied_site.converged(address)


async def test_cache_recovers_after_a_restart_of_the_server(proxied_site: Site, proxy: Proxy, client) -> None:
    bob = await client(proxied_site.server)
    address = await cached_node(proxied_site, bob, 10)
    proxied_site.server.restart()
    again = await client(proxied_site.server, "bob")
    other = await make_node(again, proxied_site.server)
    await publish_many(again, other, 3)
    await proxied_site.until(proxied_site.is_online)

    async def readable() -> bool:
        return await proxied_site.equal_to_service(address)

    await proxied_site.until(readable)
    await proxied_site.converged(address)
    await proxied_site.cached(other)
    await proxied_site.converged(other)
