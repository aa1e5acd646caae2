"""What anybody may send to the account, or publish where anybody may: the session stays, and goes on."""

import pytest

from pubsubcache.utils.xmlform import PUBSUB
from tests.acceptance.site import Site, cached_node, entry
from tests.adversary.conftest import MakeStranger

#: XML that is well-formed and has legal namespaces, which code that joins names and namespaces trips over.
ODD_NAMESPACES = {
    "brace": '<x xmlns="urn:a}b"/>',
    "opening brace": '<x xmlns="{urn:a"/>',
    "brace of an attribute": '<x xmlns="urn:c" xmlns:p="urn:a}b" p:q="1"/>',
    "space": '<x xmlns="urn:a b"/>',
    "within": '<x xmlns="urn:c"><y xmlns="}"/></x>',
}


async def _goes_on(site: Site, bob, name: str) -> None:
    """Check that the session is the one that it was, and that the cache learns of what is published."""
    started = (await site.account()).session_started
    address = await cached_node(site, bob, 2)
    await bob.publish(address, entry(name), "after")

    async def told() -> bool:
        return "after" in await site.names(address)

    await site.until(told, timeout=20)
    assert len((await site.read(address, use_cache=False)).items) == 3
    assert (await site.account()).session_started == started
    assert await site.is_online()


@pytest.mark.parametrize("name", ODD_NAMESPACES)
async def test_stanza_with_an_odd_namespace_leaves_the_session_up(
    site: Site, client, stranger: MakeStranger, name: str
) -> None:
    bob, carol = await client(site.server), await stranger(site.server)
    before = (await site.account()).session_started
    await carol.chat(site.jid, ODD_NAMESPACES[name])
    await _goes_on(site, bob, name)
    assert (await site.account()).session_started == before


@pytest.mark.parametrize("name", ODD_NAMESPACES)
async def test_stanza_with_an_odd_namespace_that_waited_for_the_session_leaves_it_up(
    idle_site: Site, client, stranger: MakeStranger, name: str
) -> None:
    bob, carol = await client(idle_site.server), await stranger(idle_site.server)
    await carol.chat(idle_site.jid, ODD_NAMESPACES[name])
    async with idle_site.working():
        await _goes_on(idle_site, bob, name)


async def test_item_with_an_odd_namespace_leaves_session_and_node_readable(
    site: Site, client, stranger: MakeStranger
) -> None:
    bob, raw = await client(site.server), await stranger(site.server, "bob")
    address = await cached_node(site, bob, 3)
    before = (await site.account()).session_started
    await raw.say(
        f"<iq type='set' id='odd' to='{address.service}'><pubsub xmlns='{PUBSUB}'><publish node='{address.name}'>"
        f"<item id='odd'>{ODD_NAMESPACES['brace']}</item></publish></pubsub></iq>"
    )
    await bob.publish(address, entry("After"), "after")

    async def told() -> bool:
        return "after" in await site.names(address)

    await site.until(told, timeout=20)
    live = await site.read(address, use_cache=False)
    assert {"item-0", "item-1", "item-2", "after"} <= {item.id for item in live.items}
    assert (await site.account()).session_started == before
