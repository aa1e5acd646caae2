"""Test that a cached node gives the same answers as its service."""

import asyncio
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from pubsubcache.exceptions import Forbidden, ItemNotFound, ServiceError
from pubsubcache.types import NodeAddress, Rsm
from tests.acceptance.site import Site, cached_node, entry, make_node, publish_many

FORMS: list[dict[str, Any]] = [
    {},
    {"max_items": 3},
    {"max_items": 100},
    {"item_ids": ["item-7", "item-2", "nothing", "item-11"]},
    {"item_ids": ["item-3"]},
    {"item_ids": ["nothing"]},
    {"rsm": {"max": 5}},
    {"rsm": {"max": 0}},
    {"rsm": {"max": 50}},
    {"rsm": {"max": 4, "before": ""}},
    {"rsm": {"max": 4, "index": 0}},
    {"rsm": {"max": 4, "index": 3}},
    {"rsm": {"max": 5, "index": 9}},
]


async def _prepared(site: Site, client) -> NodeAddress:
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 12)
    await site.read(address)
    await site.in_sync(address)
    await bob.publish(address, entry("Edited"), "item-4")
    await site.knows_order(address)
    return address


@pytest.mark.both_databases
async def test_every_form_is_answered_alike(site: Site, client) -> None:
    address = await _prepared(site, client)
    for form in FORMS:
        cached = await site.read(address, **form)
        live = await site.read(address, use_cache=False, **form)
        assert (cached.origin, live.origin) == ("cache", "service"), form
        assert [item.xml for item in cached.items] == [item.xml for item in live.items], form
        assert [item.parsed for item in cached.items] == [item.parsed for item in live.items], form
        assert cached.complete == live.complete, form
        assert (cached.rsm is None) == (live.rsm is None), form
        if cached.rsm is not None and live.rsm is not None:
            assert cached.rsm.count == live.rsm.count, form


async def _walk(site: Site, address: NodeAddress, backwards: bool, **options: Any) -> list[str]:
    pages: list[list[str]] = []
    rsm = Rsm(max=5, before="") if backwards else Rsm(max=5)
    for _ in range(10):
        page = await site.read(address, rsm=rsm, **options)
        if not page.items:
            break
        pages.append([item.id for item in page.items])
        assert page.rsm is not None
        rsm = Rsm(max=5, before=page.rsm.first) if backwards else Rsm(max=5, after=page.rsm.last)
    if backwards:
        pages.reverse()
    return [name for page in pages for name in page]


@pytest.mark.parametrize("backwards", [False, True])
async def test_pages_lead_through_the_whole_node(site: Site, client, backwards: bool) -> None:
    address = await _prepared(site, client)
    everything = [item.id for item in (await site.read(address, use_cache=False)).items]
    assert await _walk(site, address, backwards) == everything
    assert await _walk(site, address, backwards, use_cache=False) == everything


async def test_unknown_cursor_is_passed_on_to_the_service(site: Site, client) -> None:
    address = await _prepared(site, client)

    async def outcome(**options: Any) -> Any:
        try:
            page = await site.read(address, rsm={"max": 3, "after": "nothing"}, **options)
        except ServiceError as error:
            return error.condition
        return [item.id for item in page.items]

    assert await outcome() == await outcome(use_cache=False)


async def test_order_by(site: Site, client) -> None:
    address = await _prepared(site, client)
    bob = await client(site.server)
    await bob.publish(address, entry("Edited again"), "item-2")
    await site.converged(address)
    page = await site.read(address, order_by="modification")
    assert page.origin == "cache"
    by_change = [item.id for item in page.items]
    assert by_change[-1] == "item-2"
    by_creation = await site.read(address, order_by="creation", max_items=1)
    assert by_creation.origin == "cache"


async def test_a_missing_node(site: Site, client) -> None:
    for options in ({}, {"use_cache": False}):
        with pytest.raises(ItemNotFound):
            await site.read(NodeAddress(site.server.pubsub, "urn:example:nothing"), **options)


async def test_forbidden_node_is_reported_and_not_synchronised(site: Site, client) -> None:
    bob = await client(site.server)
    address = await make_node(bob, site.server, **{"pubsub#access_model": "whitelist"})
    await publish_many(bob, address, 2)
    for _ in range(2):
        with pytest.raises(Forbidden):
            await site.read(address)
    node = await site.node(address)
    assert node is not None
    assert node.sync_state == "NO_SYNC"
    assert "refused" in node.sync_error


async def test_revoked_access_hides_the_node(site: Site, client) -> None:
    bob = await client(site.server)
    address = await cached_node(site, bob, 2)
    if site.server.name == "prosody":
        await bob.configure(address, {"pubsub#access_model": "whitelist"})
    else:  # ejabberd lets subscribers read whatever the access model
        await make_outcast(bob, address, site.jid)
    with pytest.raises(Forbidden):
        await site.read(address, use_cache=False)
    node = await site.node(address)
    assert node is not None
    with pytest.raises(Forbidden):
        await site.read(address)
    await site.until(lambda: _names_are(site, address, []))


async def make_outcast(owner, address: NodeAddress, jid: str) -> None:
    """Ban an entity from a node (XEP-0060, 8.9.2)."""
    namespace = "http://jabber.org/protocol/pubsub#owner"
    payload = fromstring(
        f'<pubsub xmlns="{namespace}"><affiliations node="{address.name}">'
        f'<affiliation jid="{jid}" affiliation="outcast"/></affiliations></pubsub>'
    )
    await owner.ask("set", address.service, payload)


async def test_own_pep_node(site: Site, client) -> None:
    alice = await client(site.server, "alice")
    address = NodeAddress(site.jid, "urn:xmpp:microblog:0")
    await alice.publish(address, entry("Mine"), "first")
    page = await site.cached(address)
    assert [item.id for item in page.items][-1] == "first"
    await alice.publish(address, entry("Mine too"), "second")
    await site.until(lambda: _has_name(site, address, "second"))
    await site.converged(address)
    parsed = (await site.items(address))[-1].parsed
    assert (parsed["author_jid"], parsed["title"]) == (site.jid, "Mine too")
    await alice.delete_node(address)


async def _has_name(site: Site, address: NodeAddress, name: str) -> bool:
    return name in await site.names(address)


async def test_single_item_replaces_the_previous_one(site: Site, client) -> None:
    """PEP nodes keep one item by default, and drop the previous one without a notification."""
    alice = await client(site.server, "alice")
    address = NodeAddress(site.jid, "urn:xmpp:microblog:0:single")
    await alice.create_node(address, {"pubsub#max_items": "1", "pubsub#persist_items": "1"})
    await alice.publish(address, entry("One"), "one")
    await site.cached(address)
    for name in ("two", "three", "four"):
        await alice.publish(address, entry(name), name)
        await site.until(lambda name=name: _names_are(site, address, [name]))
        await site.converged(address)
    await alice.delete_node(address)


async def _names_are(site: Site, address: NodeAddress, names: list[str]) -> bool:
    return await site.names(address) == names


@pytest.mark.both_databases
async def test_readers_at_once_of_a_new_node(site: Site, client) -> None:
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 5)
    pages = await asyncio.gather(*(site.read(address) for _ in range(6)))
    assert all(len(page.items) == 5 for page in pages)
    await site.converged(address)
