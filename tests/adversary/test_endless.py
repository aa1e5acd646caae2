"""Test that every walk through an endless list ends."""

import asyncio
from typing import Any

import pytest

from pubsubcache.exceptions import PubsubCacheError
from pubsubcache.store import in_thread, nodes
from tests.acceptance.site import Site
from tests.adversary.conftest import MakeHostile

KINDS = ["news", "circle", "empty"]
MAX_ITEMS = 1000
MAX_REQUESTS = 100  # ten times the requests of a walk to the limit


@pytest.fixture(autouse=True)
def small(settings: Any) -> None:
    settings.PUBSUBCACHE_MAX_NODE_ITEMS = MAX_ITEMS
    settings.PUBSUBCACHE_RETRY_DELAY = 60.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["endless_items", "endless_ids"])
async def test_read_of_an_endless_node_ends(site: Site, hostile: MakeHostile, what: str, kind: str) -> None:
    service = await hostile(site.server)
    address = service.add_node("urn:example:plain", 3)
    setattr(service, what, kind)
    try:
        async with asyncio.timeout(20):
            page = await site.read(address)
    except PubsubCacheError:
        pass
    else:
        assert len(page.items) <= MAX_ITEMS + 100
    assert service.asked("get_items") + service.asked("get_item_ids") <= MAX_REQUESTS


@pytest.mark.both_databases
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["endless_items", "endless_ids"])
async def test_synchronisation_of_an_endless_node_ends(site: Site, hostile: MakeHostile, what: str, kind: str) -> None:
    service = await hostile(site.server)
    address = service.add_node(items=3)
    setattr(service, what, kind)
    await in_thread(nodes.get_or_create_node)(site.jid, address, by_hand=True)

    async def ended() -> bool:
        node = await site.node(address)
        return node is not None and node.sync_state in ("ERROR", "COMPLETED") and not node.sync_owner

    await site.until(ended, timeout=20)
    assert service.asked("get_items") + service.asked("get_item_ids") <= MAX_REQUESTS
    assert len(await site.names(address)) <= MAX_ITEMS


@pytest.mark.parametrize("kind", KINDS)
async def test_cached_node_that_becomes_endless_gets_a_bounded_number_of_requests(
    site: Site, hostile: MakeHostile, kind: str
) -> None:
    service, good = await hostile(site.server), await hostile(site.server, "good")
    address, other = service.add_node(items=3), good.add_node(items=2)
    await site.cached(address)
    service.endless_items = service.endless_ids = kind
    before = len(service.requests)
    await in_thread(nodes.invalidate_node)((await site.in_sync(address)).pk)
    await site.until(lambda: asyncio.sleep(0, len(service.requests) > before), timeout=20)

    async def ended() -> bool:
        node = await site.node(address)
        return node is None or not node.sync_owner

    await site.cached(other)
    await site.until(ended, timeout=20)
    assert len(service.requests) - before <= MAX_REQUESTS
