"""Test items that the cache cannot keep, in the middle of a node on a real server."""

from typing import Any

import pytest

from pubsubcache.types import ItemsPage, NodeAddress, Rsm, known_id
from tests.acceptance.site import Site, cached_node, entry, make_node, publish_many

pytestmark = pytest.mark.one_server

LARGE = "x" * 5000
LONG_ID = "long-" + "x" * 2100
FORMS: list[dict[str, Any]] = [
    {},
    {"max_items": 4},
    {"item_ids": ["item-1", "odd", LONG_ID, "item-4"]},
    {"rsm": Rsm(max=0)},
    {"rsm": Rsm(max=3)},
    {"rsm": Rsm(max=3, before="")},
    {"rsm": Rsm(max=4, index=2)},
]


def answer(page: ItemsPage) -> tuple[Any, ...]:
    count = None if page.rsm is None else page.rsm.count
    return [(item.id, item.xml) for item in page.items], page.left_out, page.complete, count


async def check_equal(site: Site, address: NodeAddress) -> None:
    """Assert that the cache and the service give the same answer to every form of request."""
    for form in FORMS:
        live = await site.read(address, use_cache=False, **form)
        page = await site.read(address, **form)
        assert page.origin == "cache", form
        assert answer(page) == answer(live), form


async def walk(site: Site, address: NodeAddress, **options: Any) -> list[str]:
    found: list[str] = []
    cursor = None
    while True:
        page = await site.read(address, rsm=Rsm(max=2, after=cursor), **options)
        found += [item.id for item in page.items] + [name for name, _ in page.left_out]
        if page.complete:
            return sorted(found)
        assert page.rsm is not None
        cursor = page.rsm.last


async def test_node_with_odd_items_is_cached_edited_and_retracted(site: Site, client: Any, settings: Any) -> None:
    settings.PUBSUBCACHE_MAX_ITEM_SIZE = 3000
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 3)
    await bob.publish(address, entry("Odd", summary=LARGE), "odd")
    await bob.publish(address, entry("Long"), LONG_ID)
    await publish_many(bob, address, 3, first=3)
    await site.cached(address)
    node = await site.in_sync(address)
    assert (node.sync_state, node.item_count, node.evicted_count) == ("COMPLETED", 6, 2)
    await check_equal(site, address)
    page = await site.read(address)
    assert dict(page.left_out).keys() == {"odd", known_id(LONG_ID)}
    expected = sorted([f"item-{number}" for number in range(6)] + ["odd", known_id(LONG_ID)])
    assert await walk(site, address) == expected
    assert await walk(site, address, use_cache=False) == expected

    for summary in ("small", LARGE, "small again", LARGE):
        await bob.publish(address, entry("Odd", summary=summary), "odd")

        async def arrived(is_odd: bool = summary == LARGE) -> bool:
            names = await site.names(address)
            return ("odd" in names) != is_odd

        await site.until(arrived)
        await site.converged(address)
        await site.knows_order(address)
        await check_equal(site, address)

    await bob.retract(address, "odd", notify=True)
    await bob.retract(address, LONG_ID, notify=True)

    async def retracted() -> bool:
        node = await site.node(address)
        return node is not None and node.evicted_count == 0

    await site.until(retracted)
    await site.converged(address)
    await check_equal(site, address)
    assert (await site.read(address)).left_out == []


async def test_odd_item_arrives_by_notification(site: Site, client: Any, settings: Any) -> None:
    settings.PUBSUBCACHE_MAX_ITEM_SIZE = 3000
    bob = await client(site.server)
    address = await cached_node(site, bob, 3)
    await bob.publish(address, entry("Odd", summary=LARGE), "odd")
    await bob.publish(address, entry("Long"), LONG_ID)
    await publish_many(bob, address, 2, first=3)

    async def arrived() -> bool:
        return len(await site.names(address)) == 5

    await site.until(arrived)
    await site.converged(address)
    await check_equal(site, address)
    assert len((await site.read(address)).left_out) == 2
