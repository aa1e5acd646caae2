"""Test that the session survives whatever strangers send to the account or publish in open nodes."""

import pytest

from pubsubcache.utils.xmlform import PUBSUB
from tests.acceptance.site import Site, cached_node, entry
from tests.adversary.conftest import MakeStranger

#: Well-formed XML with legal namespaces that break code which joins names and namespaces.
ODD_NAMESPACES = {
    "brace": '<x xmlns="urn:a}b"/>',
    "opening brace": '<x xmlns="{urn:a"/>',
    "brace of an attribute": '<x xmlns="urn:c" xmlns:p="urn:a}b" p:q="1"/>',
    "space": '<x xmlns="urn:a b"/>',
    "within": '<x xmlns="urn:c"><y xmlns="}"/></x>',
}


async def _assert_session_works(site: Site, bob, name: str) -> None:
    """Assert that the session is still the same and that the cache follows new nodes."""
    started = (await site.account()).session_started
    address = await cached_node(site, bob, 2)
    await bob.publish(address, entry(name), "after")

    async def notified() -> bool:
        return "after" in await site.names(address)

    await site.until(notified)
    assert len((await site.read(address, use_cache=False)).items) == 3
    assert (await site.account()).session_started == started
    assert await site.is_online()


@pytest.mark.parametrize("name", ODD_NAMESPACES)
async def test_stanza_with_an_odd_namespace_does_not_end_the_session(
    site: Site, client, stranger: MakeStranger, name: str
) -> None:
    bob, carol = await client(site.server), await stranger(site.server)
    before = (await site.account()).session_started
    await carol.chat(site.jid, ODD_NAMESPACES[name])
    await _assert_session_works(site, bob, name)
    assert (await site.account()).session_started == before


@pytest.mark.parametrize("name", ODD_NAMESPACES)
async def test_stored_stanza_with_an_odd_namespace_does_not_end_the_session(
    idle_site: Site, client, stranger: MakeStranger, name: str
) -> None:
    bob, carol = await client(idle_site.server), await stranger(idle_site.server)
    await carol.chat(idle_site.jid, ODD_NAMESPACES[name])
    async with idle_site.working():
        await _assert_session_works(idle_site, bob, name)


async def test_item_with_an_odd_namespace_keeps_session_and_node_readable(
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

    async def notified() -> bool:
        return "after" in await site.names(address)

    await site.until(notified)
    live = await site.read(address, use_cache=False)
    assert {"item-0", "item-1", "item-2", "after"} <= {item.id for item in live.items}
    assert (await site.account()).session_started == before
