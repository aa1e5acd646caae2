"""Test that a service that does not answer does not slow down the account's other services."""

import asyncio
from typing import Any

import pytest

from pubsubcache.store import in_thread, nodes
from tests.acceptance.site import Site
from tests.adversary.component import HostileService, entry
from tests.adversary.conftest import MakeHostile, StartWorker
from tests.selection import how_many

pytestmark = pytest.mark.one_server

SOON = 20.0  # seconds: enough for a busy machine, but much less than the timeout of a request


@pytest.fixture(autouse=True)
def patient(settings: Any) -> None:
    settings.PUBSUBCACHE_IQ_TIMEOUT = 30.0


async def _published(site: Site, service: HostileService, address: Any, name: str) -> None:
    """Publish an item, and wait until it is cached."""
    service.publish(address.name, name, entry(name))

    async def readable() -> bool:
        return name in await site.names(address)

    await site.until(readable, timeout=SOON)


@pytest.mark.both_databases
async def test_notifications_without_payload_of_a_silent_service_do_not_delay_others(
    idle_site: Site, hostile: MakeHostile, worker: StartWorker
) -> None:
    site = idle_site
    evil, good = await hostile(site.server), await hostile(site.server, "good")
    parked = [evil.add_node(items=2) for _ in range(5)]
    address = good.add_node(items=2)
    await worker(site)
    await worker()
    for node in (*parked, address):
        await site.cached(node)
    evil.silent, evil.payloads = True, False
    for node in parked:
        evil.publish(node.name, "new", entry("New"))
    await evil.ping(evil.session_of(site.jid))
    for number in range(3):
        await _published(site, good, address, f"good-{number}")
    for node in parked:  # the cache could not fetch the notified items
        await site.until(lambda node=node: _is_stale(site, node), timeout=SOON)
    evil.silent = False
    for node in parked:
        await site.converged(node)


async def _is_stale(site: Site, node: Any) -> bool:
    page = await site.read(node, cache_only=True)
    assert "new" not in {item.id for item in page.items}
    return page.stale


async def test_readers_of_a_silent_service_do_not_delay_those_of_others(site: Site, hostile: MakeHostile) -> None:
    evil, good = await hostile(site.server), await hostile(site.server, "good")
    address, silent = good.add_node(items=2), evil.add_node()
    evil.silent = True
    reading = [asyncio.create_task(site.read(silent)) for _ in range(40)]
    try:
        await site.until(lambda: asyncio.sleep(0, evil.asked() > 0))
        async with asyncio.timeout(SOON):
            page = await site.read(address, use_cache=False)
        assert len(page.items) == 2
    finally:
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)


async def test_silent_nodes_do_not_delay_the_first_synchronisation_of_others(site: Site, hostile: MakeHostile) -> None:
    evil, good = await hostile(site.server), await hostile(site.server, "good")
    evil.silent = True
    for _ in range(60):
        await in_thread(nodes.get_or_create_node)(site.jid, evil.add_node(), by_hand=True)
    await site.until(lambda: asyncio.sleep(0, len(evil.requests) > 0))
    address = good.add_node(items=2)
    async with asyncio.timeout(SOON):
        await site.cached(address)


async def test_changed_nodes_of_a_silent_service_do_not_delay_reads_of_others(site: Site, hostile: MakeHostile) -> None:
    evil, good = await hostile(site.server), await hostile(site.server, "good")
    growing = [evil.add_node(items=1) for _ in range(64)]
    address = good.add_node(items=2)
    await site.cached(address)
    for node in growing:
        await in_thread(nodes.get_or_create_node)(site.jid, node, by_hand=True)
    for node in growing:
        await site.in_sync(node)
    evil.silent = True
    before = len(evil.requests)
    for node in growing:
        evil.publish(node.name, "new", entry("New"))
    await site.until(lambda: asyncio.sleep(0, len(evil.requests) > before))
    for _ in range(20):
        async with asyncio.timeout(SOON):
            assert len((await site.read(address, use_cache=False)).items) == 2
        await asyncio.sleep(0.1)  # while the cache requests more and more of the other nodes


async def test_many_nodes_of_a_slow_service_do_not_delay_others(site: Site, hostile: MakeHostile) -> None:
    evil, good = await hostile(site.server), await hostile(site.server, "good")
    evil.delay = 1.0
    for _ in range(how_many(300, 1000)):
        await in_thread(nodes.get_or_create_node)(site.jid, evil.add_node(items=1), by_hand=True)
    await site.until(lambda: asyncio.sleep(0, len(evil.requests) > 0))
    address = good.add_node(items=2)
    async with asyncio.timeout(SOON):
        await site.cached(address)
    await _published(site, good, address, "new")
