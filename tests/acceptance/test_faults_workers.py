"""Test workers that are killed, replaced or stopped in the middle of their work."""

import asyncio
import os
import signal

import pytest
from django.test import override_settings

from pubsubcache.services import remote
from pubsubcache.store import in_thread, nodes
from pubsubcache.types import NodeAddress
from tests.acceptance.site import Site, make_node, publish_many
from tests.servers.ejabberd import Ejabberd
from tests.servers.manage import ManagedProcess

pytestmark = pytest.mark.both_databases

ENV = {
    "PUBSUBCACHE_PAGE_SIZE": "10",
    "PUBSUBCACHE_LEASE_TIMEOUT": "2",
    "PUBSUBCACHE_RETRY_DELAY": "0.2",
}
ITEMS = 1000


async def _started(site: Site, client) -> NodeAddress:
    """Create a node that takes long to synchronise, and request its synchronisation."""
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, ITEMS, together=300)
    await in_thread(nodes.get_or_create_node)(site.jid, address, by_hand=True)
    return address


async def _is_half_done(site: Site, address: NodeAddress) -> bool:
    return len(await site.names(address)) > ITEMS // 10


async def _done(site: Site, address: NodeAddress) -> None:
    async def complete() -> bool:
        node = await site.node(address)
        assert node is not None
        return node.sync_state == "COMPLETED" and not node.sync_owner

    await site.until(complete, timeout=120)
    assert await site.names(address) == [f"item-{number}" for number in range(ITEMS)]


async def test_large_node_is_complete_after_workers_are_killed_and_stopped(
    ejabberd: Ejabberd, live_database: None, client, start_manage
) -> None:
    site = Site(ejabberd)
    await site.add_account()
    address = await _started(site, client)
    with override_settings(PUBSUBCACHE_LEASE_TIMEOUT=2):
        first = await in_thread(start_manage)("pubsub_worker", env=ENV, ready=lambda: True)
        await site.until(lambda: _is_half_done(site, address))
        os.kill(first.pid, signal.SIGKILL)
        node = await site.node(address)
        assert node is not None
        assert node.sync_state == "IN_PROGRESS"
        kept = len(await site.names(address))
        others = [await in_thread(start_manage)("pubsub_worker", env=ENV, ready=lambda: True) for _ in range(2)]

        async def holder_at_work() -> ManagedProcess | None:
            node, name = await site.node(address), (await site.account()).worker
            holders = [worker for worker in others if f"-{worker.pid}-" in name]
            return holders[0] if holders and node is not None and node.sync_done else None

        holder = await site.until(holder_at_work)
        await asyncio.to_thread(holder.stop)
        assert holder.exit_code == 0
        assert len(await site.names(address)) >= kept
        await _done(site, address)


async def test_stopped_under_load_nothing_is_lost(ejabberd: Ejabberd, live_database: None, client) -> None:
    site = Site(ejabberd)
    await site.add_account()
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 5)
    async with site.working():
        await site.cached(address)
    publishing = asyncio.create_task(publish_many(bob, address, 600, first=5, together=20))
    while not publishing.done():
        async with site.working():
            await remote.awake()
    await publishing
    async with site.working():
        await site.converged(address)
    assert len(await site.names(address)) == 605
