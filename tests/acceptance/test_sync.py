"""Test that nodes of all sizes are synchronised completely with each kind of service."""

import asyncio

import pytest

from pubsubcache.analysers import Analyser, registry
from pubsubcache.types import NodeAddress
from tests.acceptance.site import Site, entry, left_site, make_node, new_name, publish_many, working_site
from tests.servers.xmpp import XmppServer


@pytest.fixture
async def ejabberd_site(ejabberd: XmppServer, live_database: None):
    async with working_site(ejabberd) as site:
        yield site


@pytest.fixture
async def prosody_site(prosody: XmppServer, live_database: None):
    async with working_site(prosody) as site:
        yield site


async def _synchronised(site: Site, address: NodeAddress, count: int) -> None:
    await site.read(address, max_items=1)
    await site.until(lambda: _is_completed(site, address), timeout=400)
    node = await site.in_sync(address)
    assert (node.item_count, node.partial) == (count, False)
    assert await site.names(address) == [f"item-{n}" for n in range(count)]


async def _is_completed(site: Site, address: NodeAddress) -> bool:
    node = await site.node(address)
    assert node is None or node.sync_state != "ERROR", node.sync_error
    return node is not None and node.sync_state == "COMPLETED"


@pytest.mark.parametrize("count", [2001, pytest.param(20_000, marks=pytest.mark.long)])
async def test_a_large_node_with_paging(ejabberd_site: Site, client, count: int) -> None:
    bob = await client(ejabberd_site.server)
    address = await make_node(bob, ejabberd_site.server)
    await publish_many(bob, address, count, together=500)
    await _synchronised(ejabberd_site, address, count)


@pytest.mark.both_databases
async def test_a_large_node_without_paging(prosody_site: Site, client) -> None:
    bob = await client(prosody_site.server)
    address = await make_node(bob, prosody_site.server)
    await publish_many(bob, address, 1000, together=200)
    await _synchronised(prosody_site, address, 1000)


@pytest.mark.both_databases
async def test_changes_during_a_synchronisation(site: Site, client, settings) -> None:
    settings.PUBSUBCACHE_PAGE_SIZE = 5
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 60)
    await site.read(address)

    async def disturb() -> None:
        for number in range(0, 60, 4):
            await bob.publish(address, entry(f"Edited {number}"), f"item-{number}")
            await bob.retract(address, f"item-{number + 1}")
            await bob.publish(address, entry("New"), f"new-{number}")

    await disturb()
    await site.converged(address)


@pytest.mark.both_databases
async def test_what_was_missed_is_repaired(xmpp_server: XmppServer, live_database: None, client) -> None:
    bob = await client(xmpp_server)
    site, address = await left_site(xmpp_server, bob, 10)
    keys = {item.name: item.pk for item in await site.items(address)}
    await bob.publish(address, entry("Edited"), "item-3")
    await bob.retract(address, "item-5", notify=True)
    await bob.publish(address, entry("New"), "new")
    async with site.working():
        await site.converged(address)
    after = {item.name: item.pk for item in await site.items(address)}
    assert after.keys() == keys.keys() - {"item-5"} | {"new"}
    assert all(after[name] == pk for name, pk in keys.items() if name != "item-5")


async def test_node_deleted_while_offline_is_forgotten(xmpp_server: XmppServer, live_database: None, client) -> None:
    bob = await client(xmpp_server)
    site, address = await left_site(xmpp_server, bob, 3)
    await bob.delete_node(address)
    async with site.working():

        async def gone() -> bool:
            return await site.node(address) is None

        await site.until(gone)


async def test_a_parser_that_fails_stops_nothing_but_its_item(site: Site, client) -> None:
    def parse(item, context):
        if item.get("id") == "bad":
            raise RuntimeError("no sense in it")
        return {"title": item.get("id")}

    analyser = Analyser(name="picky", type="picky", node="urn:example:picky", to_sync=True, parser=parse)
    with registry.temporarily(analyser, replace=True):
        bob = await client(site.server)
        address = await make_node(bob, site.server, new_name("urn:example:picky/"))
        await bob.publish(address, entry("A"), "good")
        await bob.publish(address, entry("B"), "bad")
        await site.cached(address)
        await bob.publish(address, entry("C"), "fine")
        await site.converged(address)
        by_name = {item.name: item for item in await site.items(address)}
        assert by_name["good"].parsed == {"title": "good"}
        assert by_name["fine"].parsed == {"title": "fine"}
        assert by_name["bad"].parsed is None
        assert by_name["bad"].parse_error == "RuntimeError: no sense in it"


@pytest.mark.parametrize("kind", ["none", "not to sync", "match_cb"])
async def test_nodes_that_are_not_synchronised(site: Site, client, kind: str) -> None:
    def refuse(analysis):
        raise RuntimeError("no match after all")

    analysers = {
        "none": [],
        "not to sync": [Analyser(name="live", type="live", node="urn:example:live")],
        "match_cb": [Analyser(name="odd", type="odd", node="urn:example:live", to_sync=True, match_cb=refuse)],
    }[kind]
    with registry.temporarily(*analysers, replace=True):
        bob = await client(site.server)
        address = await make_node(bob, site.server, new_name("urn:example:live/"))
        await publish_many(bob, address, 3)
        for _ in range(2):
            page = await site.read(address)
            assert (page.origin, len(page.items)) == ("service", 3)
        node = await site.node(address)
        assert node is not None
        assert node.sync_state == "NO_SYNC"
        reasons = {"none": "No analyser", "not to sync": "does not synchronise", "match_cb": "no match after all"}
        assert reasons[kind] in node.sync_error
        assert await site.items(address) == []


async def test_two_accounts_have_their_own_rows(site: Site, client) -> None:
    carol = Site(site.server, "carol")
    await carol.add_account()
    await carol.until(carol.is_online)
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 3)
    await asyncio.gather(site.cached(address), carol.cached(address))
    await bob.publish(address, entry("New"), "new")
    await asyncio.gather(site.converged(address), carol.converged(address))
    assert {item.pk for item in await site.items(address)}.isdisjoint(item.pk for item in await carol.items(address))
