"""Test that notifications of a lost session never overwrite what was listed later."""

import asyncio

import pytest

from tests.acceptance.site import Site
from tests.adversary.component import entry
from tests.adversary.conftest import MakeHostile, StartWorker
from tests.servers.proxy import Proxy
from tests.servers.xmpp import XmppServer

pytestmark = pytest.mark.both_databases

QUEUED = 1500


@pytest.mark.parametrize("elsewhere", [True, False], ids=["behind another node", "behind its own node"])
async def test_queue_of_a_lost_session_does_not_overwrite_a_later_listing(
    server_without_resumption: XmppServer,
    live_database: None,
    hostile: MakeHostile,
    worker: StartWorker,
    elsewhere: bool,
) -> None:
    service = await hostile(server_without_resumption)
    address, other = service.add_node(items={"x": entry("v0")}), service.add_node(items=1)
    async with Proxy(server_without_resumption.host, server_without_resumption.port) as proxy:
        site = Site(server_without_resumption)
        await site.add_account(port=proxy.port)
        # Notifications are applied one at a time, so that it takes long.
        await worker(site, constants={"pubsubcache.syncing.notifications.BATCH_SIZE": 1})
        await worker()
        await site.cached(address)
        await site.cached(other)
        await service.flood([other.name if elsewhere else address.name], QUEUED)
        service.publish(address.name, "x", entry("v1"))
        await service.ping(service.session_of(site.jid))
        async with proxy.down():
            service.nodes[address.name] = {"x": entry("v2")}
        was_fresh = False
        async with asyncio.timeout(180):
            while True:
                page = await site.read(address)
                titles = [item.xml for item in page.items if item.id == "x"]
                is_fresh = page.origin == "cache" and not page.stale
                if was_fresh and is_fresh:
                    assert "v2" in titles[0]
                if is_fresh and not was_fresh and "v2" in titles[0]:
                    was_fresh = True
                    service.publish(address.name, "marker", entry("After all that was queued"))
                if was_fresh and "marker" in await site.names(address):
                    break
                await asyncio.sleep(0.05)
        await site.converged(address)
        assert [item.xml for item in (await site.read(address)).items if "v2" in item.xml]
