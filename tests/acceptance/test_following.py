"""Test that changes by other clients reach the cache."""

import asyncio

import pytest

from tests.acceptance.site import Site, cached_node, entry, make_node, publish_many


async def test_a_first_read_is_live_and_a_later_one_cached(site: Site, client) -> None:
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 5)
    first = await site.read(address)
    assert first.origin == "service"
    assert [item.id for item in first.items] == [f"item-{n}" for n in range(5)]
    assert first.items[0].parsed["title"] == "Title 0"
    node = await site.in_sync(address)
    assert (node.sync_state, node.subscribed, node.analyser, node.type) == ("COMPLETED", True, "microblog", "blog")
    second = await site.read(address)
    assert second.origin == "cache"
    assert [item.xml for item in second.items] == [item.xml for item in first.items]
    assert [item.parsed for item in second.items] == [item.parsed for item in first.items]


@pytest.mark.both_databases
async def test_publish_edit_retract_purge_delete(site: Site, client) -> None:
    bob = await client(site.server)
    address = await cached_node(site, bob, 5)
    await bob.publish(address, entry("New"), "item-5")
    await bob.publish(address, entry("Edited"), "item-1")
    await bob.retract(address, "item-2", notify=True)
    await site.converged(address)
    by_name = {item.name: item for item in await site.items(address)}
    assert set(by_name) == {"item-0", "item-1", "item-3", "item-4", "item-5"}
    assert by_name["item-1"].parsed["title"] == "Edited"
    assert by_name["item-1"].updated > by_name["item-1"].created
    await bob.purge_node(address)
    await site.until(lambda: _empty(site, address))
    await site.in_sync(address)
    assert (await site.read(address)).items == []
    await bob.delete_node(address)
    await site.until(lambda: _gone(site, address))


async def _empty(site: Site, address) -> bool:
    return await site.names(address) == []


async def _gone(site: Site, address) -> bool:
    return await site.node(address) is None


@pytest.mark.both_databases
async def test_many_quick_updates_keep_the_last(site: Site, client) -> None:
    bob = await client(site.server)
    address = await cached_node(site, bob, 3)
    for turn in range(20):
        await asyncio.gather(*(bob.publish(address, entry(f"{turn}-{n}"), "item-1") for n in range(40)))
    await site.converged(address)
    by_name = {item.name: item for item in await site.items(address)}
    assert by_name["item-1"].parsed["title"] == "19-39"


async def test_a_burst_is_stored_in_order(site: Site, client) -> None:
    bob = await client(site.server)
    address = await cached_node(site, bob, 3)
    await publish_many(bob, address, 1000, first=3, together=100)
    await site.until(lambda: _has(site, address, 1003), timeout=180)
    await site.converged(address)
    assert await site.names(address) == [f"item-{n}" for n in range(1003)]


async def _has(site: Site, address, count: int) -> bool:
    return len(await site.names(address)) == count


async def test_skipped_notification_invalidates_the_nodes_of_its_service(site: Site, client, settings) -> None:
    bob = await client(site.server)
    large, other = await make_node(bob, site.server), await make_node(bob, site.server)
    for address in (large, other):
        await publish_many(bob, address, 2)
        await site.cached(address)
    settings.PUBSUBCACHE_MAX_STANZA_SIZE = 20_000
    await bob.publish(large, entry("x" * 40_000), "large")

    async def invalidated() -> bool:
        return (await site.read(large, cache_only=True)).stale

    await site.until(invalidated)
    settings.PUBSUBCACHE_MAX_STANZA_SIZE = 10_000_000
    for address in (large, other):
        await site.converged(address)
