"""Test unusual items, bursts of notifications and forged notifications."""

import asyncio
from typing import Any
from xml.etree.ElementTree import Element, SubElement, fromstring

import pytest

from pubsubcache.exceptions import ServiceError
from pubsubcache.syncing import notifications
from pubsubcache.utils.xmlform import PUBSUB
from pubsubcache.worker.keeper import Keeper
from tests.acceptance.site import Site, cached_node, entry, make_node, publish_many
from tests.oracle.payloads import payloads, publish
from tests.oracle.steps import IDS, PAYLOADS
from tests.selection import how_many
from tests.servers.ejabberd import Ejabberd

MANY = how_many(2_000, 10_000)


def nested(depth: int) -> Element:
    """Return elements nested to this depth."""
    top = current = Element("{urn:example:deep}top")
    for _ in range(depth - 1):
        current = SubElement(current, "{urn:example:deep}in")
    current.text = "bottom"
    return top


async def tried(*actions: Any) -> int:
    """Run actions that the service may refuse; return how many succeeded."""
    outcomes = await asyncio.gather(*actions, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, ServiceError):
            raise outcome
    return sum(not isinstance(outcome, BaseException) for outcome in outcomes)


@pytest.mark.both_databases
async def test_listed_and_notified_odd_items_are_stored_alike(site: Site, client) -> None:
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    odd = {f"kind {kind}": payloads(kind, kind) for kind in PAYLOADS}
    odd |= {name: [entry("Odd id")] for name in IDS}
    odd["entities"] = [
        fromstring(f'<entry xmlns="http://www.w3.org/2005/Atom"><title>&lt;&amp;&#233;{chr(0x85)}&#9;</title></entry>')
    ]
    odd["250 KB"] = [entry("Large", summary="x" * 250_000)]
    odd["900 deep"] = [nested(900)]
    odd["no date"] = [entry("A date", updated="2026-99-99T99:99:99Z", published="never")]
    await publish_many(bob, address, 2)
    await tried(*(publish(bob, address, name, elements) for name, elements in odd.items()))
    await site.cached(address)
    await site.converged(address)
    listed = [(item.name, item.data) for item in await site.items(address)]
    assert len(listed) > len(IDS)
    other = await cached_node(site, bob, 2)
    done = await tried(*(publish(bob, other, name, elements) for name, elements in odd.items()))
    await site.converged(other)
    notified = [(item.name, item.data) for item in await site.items(other)]
    assert len(notified) == done  # includes the two published before, which were edited
    assert dict(notified) == dict(listed)


async def test_deeply_nested_item_does_not_affect_others(site: Site, client) -> None:
    bob = await client(site.server)
    address = await cached_node(site, bob, 3)
    bob._client.send_raw(  # sent as text, as slixmpp cannot serialise this depth
        f'<iq type="set" id="deep" to="{address.service}"><pubsub xmlns="{PUBSUB}"><publish node="{address.name}">'
        f'<item id="deep"><x xmlns="urn:example:deep">{"<x>" * 1_100}{"</x>" * 1_100}</x></item>'
        "</publish></pubsub></iq>"
    )
    await publish_many(bob, address, 3, first=3)
    await site.converged(address)
    assert {f"item-{number}" for number in range(6)} <= set(await site.names(address))


async def test_forged_notifications_are_dropped_and_counted(site: Site, client) -> None:
    bob = await client(site.server)
    address = await cached_node(site, bob, 3)
    before = [item.data for item in await site.items(address)]
    keeper = _keeper(site)
    for action in (
        '<items node="{0}"><item id="item-1"><entry xmlns="http://www.w3.org/2005/Atom"/></item></items>',
        '<items node="{0}"><retract id="item-0"/></items>',
        '<purge node="{0}"/>',
        '<delete node="{0}"/>',
    ):
        event = f'<event xmlns="http://jabber.org/protocol/pubsub#event">{action.format(address.name)}</event>'
        message = bob._client.make_message(mto=site.jid, mtype="headline")
        message.append(fromstring(event))
        message.send()

    async def counted() -> bool:
        return sum(keeper._applier.dropped.values()) >= 4

    await site.until(counted)
    assert [item.data for item in await site.items(address)] == before
    assert (await site.read(address)).origin == "cache"


def _keeper(site: Site) -> Keeper:
    assert site.worker is not None
    (keeper,) = site.worker._keepers.values()
    return keeper


@pytest.mark.both_databases
async def test_burst_of_notifications_ends_equal_to_the_service(
    ejabberd: Ejabberd, live_database: None, client
) -> None:
    site = Site(ejabberd)
    await site.add_account()
    async with site.working():
        bob = await client(ejabberd)
        address = await cached_node(site, bob, 20)
        for start in range(0, MANY, 500):
            await asyncio.gather(
                *(bob.publish(address, entry(f"Title {n}"), f"item-{n % 200}") for n in range(start, start + 500))
            )
        await site.converged(address)
        by_name = {item.name: item for item in await site.items(address)}
        assert len(by_name) == 200
        assert by_name["item-199"].parsed["title"] == f"Title {MANY - 1}"


@pytest.mark.parametrize("size", [1, 50])
async def test_overflow_of_the_queue_revalidates_nodes(
    xmpp_server, live_database: None, client, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(notifications, "MAX_EVENTS", size)
    monkeypatch.setattr(notifications, "BATCH_SIZE", 2)
    site = Site(xmpp_server)
    await site.add_account()
    async with site.working():
        bob = await client(xmpp_server)
        address = await cached_node(site, bob, 5)
        await publish_many(bob, address, 200, first=5, together=200)
        await site.converged(address)
        assert len(await site.names(address)) == 205


async def test_items_without_an_id_or_payload_in_one_message(site: Site, client) -> None:
    bob = await client(site.server)
    address = await make_node(bob, site.server, **{"pubsub#deliver_payloads": "0"})
    await publish_many(bob, address, 3)
    await site.cached(address)
    await publish_many(bob, address, 3, first=2)
    await site.converged(address)
    assert (await site.items(address))[-1].parsed["title"] == "Title 4"
