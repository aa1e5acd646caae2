"""Test exports and imports in their own processes, with real servers and databases."""

from collections.abc import Callable
from typing import Any

import pytest

from pubsubcache.exchange.records import EXTRA
from pubsubcache.store import in_thread
from pubsubcache.store.extra import extra_of
from tests.acceptance.site import Site, entry, make_node, publish_many
from tests.servers.xmpp import XmppServer

pytestmark = pytest.mark.one_server


@pytest.mark.parametrize("form", ["jsonl", "xml"])
async def test_imported_nodes_converge_to_the_service(
    xmpp_server: XmppServer, live_database: None, client: Any, manage: Callable[..., Any], form: str
) -> None:
    site = Site(xmpp_server)
    await site.add_account()
    bob = await client(xmpp_server)
    address = await make_node(bob, xmpp_server)
    await publish_many(bob, address, 30)
    async with site.working():
        await site.cached(address)
        node = await site.node(address)
        assert node is not None
        assert extra_of(node).keys() <= EXTRA.keys()
    exported = await in_thread(manage)("pubsub_export", "-O", form, "-a", site.jid, "-n", address.name)
    assert exported.returncode == 0, exported.stderr
    assert exported.stderr == "1 node with 30 items exported.\n"
    await in_thread(manage)("pubsub_reset", "--noinput", "-a", site.jid, "--keep-subscriptions")
    await bob.retract(address, "item-7")
    await bob.publish(address, entry("Edited"), "item-3")
    await bob.publish(address, entry("New"), "new")

    imported = await in_thread(manage)("pubsub_import", stdin=exported.stdout)
    assert imported.returncode == 0, imported.stderr
    page = await site.read(address)
    assert (page.origin, page.stale, len(page.items)) == ("cache", True, 30)
    async with site.working():
        await site.converged(address)
        node = await site.in_sync(address)
        assert node.subscribed
        await bob.publish(address, entry("Newer"), "newer")
        await site.converged(address)
        assert (await site.names(address))[-1] == "newer"
