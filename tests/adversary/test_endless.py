"""Test that every walk through an endless list ends."""

import asyncio
from typing import Any

import pytest

from pubsubcache.exceptions import PubsubCacheError
from pubsubcache.store import in_thread, nodes
from pubsubcache.xmpp import turns
from tests.acceptance.site import TIMEOUT, Site
from tests.adversary.component import Request, entry
from tests.adversary.conftest import MakeHostile

pytestmark = pytest.mark.one_server

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
        async with asyncio.timeout(TIMEOUT):
            page = await site.read(address)
    except PubsubCacheError:
        pass
    else:
        assert len(page.items) <= MAX_ITEMS + 100
    assert service.asked("get_items") + service.asked("get_item_ids") <= MAX_REQUESTS


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

    await site.until(ended)
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
    await site.until(lambda: asyncio.sleep(0, len(service.requests) > before))

    async def ended() -> bool:
        node = await site.node(address)
        return node is None or not node.sync_owner

    await site.cached(other)
    await site.until(ended)
    assert len(service.requests) - before <= MAX_REQUESTS


async def test_large_answers_come_one_at_a_time_while_another_service_is_asked(
    site: Site, hostile: MakeHostile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "RECENTLY", 3600.0)
    monkeypatch.setattr(turns, "HALF_LIFE", 3600.0)
    service, good = await hostile(site.server), await hostile(site.server, "good")
    address, other = service.add_node(items={"large": entry("x" * 2 * turns.HEAVY)}), good.add_node(items=2)
    released = asyncio.Event()
    pending = most = answered = 0

    async def answer(request: Request) -> str:
        nonlocal pending, most, answered
        pending += 1
        most = max(most, pending)
        await released.wait()
        pending -= 1
        answered += 1
        return service.honest_answer(request)

    async def read() -> None:
        while True:
            await site.read(address, use_cache=False)

    async def read_good_until_answered(number: int) -> None:
        async with asyncio.timeout(60):
            while answered < number:
                for _ in range(3):  # so that another request could come meanwhile
                    await site.read(other, use_cache=False)
                released.set()
                released.clear()

    service.answers["get_items"] = answer
    readers = [asyncio.create_task(read()) for _ in range(10)]
    try:
        await read_good_until_answered(turns.MAX_PENDING_OF_SERVICE)
        most = pending
        await read_good_until_answered(turns.MAX_PENDING_OF_SERVICE + 4)
        assert most == 1
    finally:
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
