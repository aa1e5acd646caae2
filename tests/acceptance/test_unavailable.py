"""Test that the copy of a node is hidden when its owner blocks our account or is deleted."""

from typing import Any
from xml.etree.ElementTree import Element, SubElement

import pytest

from pubsubcache.exceptions import ItemNotFound, PubsubCacheError
from pubsubcache.store import nodes
from pubsubcache.types import NodeAddress
from tests.acceptance.site import Site, entry, new_name, working_site
from tests.servers.ejabberd import Ejabberd
from tests.servers.xmpp import TestProsody

BLOCKING = "urn:xmpp:blocking"


async def cached_pep_node(site: Site, bob: Any, user: str) -> NodeAddress:
    """Create and cache a PEP node of `user` with three items."""
    address = NodeAddress(site.server.jid(user), new_name())
    await bob.create_node(address, {"pubsub#access_model": "open", "pubsub#max_items": "100"})
    for number in range(3):
        await bob.publish(address, entry(f"Title {number}"), f"item-{number}")
    assert len((await site.cached(address)).items) == 3
    return address


def blocking(action: str, jid: str) -> Element:
    query = Element(f"{{{BLOCKING}}}{action}")
    SubElement(query, f"{{{BLOCKING}}}item", {"jid": jid})
    return query


@pytest.fixture
def quick(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Revalidate nodes and retry after short delays."""
    settings.PUBSUBCACHE_RECONCILE_INTERVAL = 1.0
    settings.PUBSUBCACHE_RETRY_DELAY = 0.2
    settings.PUBSUBCACHE_RETRY_MAX_DELAY = 1.0
    monkeypatch.setattr(nodes, "UNAVAILABLE_PERIOD", 1.0)


@pytest.mark.usefixtures("quick", "live_database")
async def test_copy_of_an_account_that_blocked_ours_is_hidden_and_comes_back(prosody: TestProsody, client: Any) -> None:
    async with working_site(prosody) as site:
        bob = await client(prosody)
        address = await cached_pep_node(site, bob, "bob")
        await bob.ask("set", "", blocking("block", site.jid))

        async def hidden() -> bool:
            node = await site.node(address)
            return node is not None and node.sync_state == "ERROR" and node.item_count == 0

        try:
            await site.until(hidden)
            node = await site.node(address)
            assert node is not None
            assert node.sync_error.startswith("The service has answered service-unavailable ")
            assert node.unavailable_count >= 5
            with pytest.raises(PubsubCacheError):
                await site.read(address)
        finally:
            await bob.ask("set", "", blocking("unblock", site.jid))
        await site.in_sync(address)
        assert len((await site.read(address)).items) == 3


@pytest.mark.usefixtures("quick", "live_database")
async def test_node_of_a_deleted_account_is_forgotten(ejabberd: Ejabberd, client: Any) -> None:
    user = "mallory"
    async with working_site(ejabberd) as site:
        ejabberd.register(user, "secret of a short life")
        address = await cached_pep_node(site, await client(ejabberd, user), user)
        ejabberd.delete(user)

        async def gone() -> bool:
            return await site.node(address) is None

        await site.until(gone)
        with pytest.raises(ItemNotFound):
            await site.read(address)
