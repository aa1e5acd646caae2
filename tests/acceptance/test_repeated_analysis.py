"""Test on real services that nodes are analysed by several items, and again when their content changes."""

from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest

from pubsubcache.analysers import Analyser, Analysis, registry
from pubsubcache.exceptions import Forbidden
from pubsubcache.models import PubsubNode
from pubsubcache.parsers import ParseContext, mood
from pubsubcache.parsers.microblog import parse_entry
from pubsubcache.parsers.schema import Schema, reads
from pubsubcache.parsers.shapes import Shape
from pubsubcache.search import search
from pubsubcache.services.sessions import sessions
from pubsubcache.store import in_thread, set_policy
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.types import NodeAddress
from tests.acceptance.site import ATOM, Site, entry, make_node, new_name, publish_many
from tests.servers.xmpp import XmppServer

pytestmark = pytest.mark.one_server

AVATAR = "urn:xmpp:avatar:metadata"
HASH = "111f4b3c50d7b0df729d299bc6f8e9ef9066971f"
POSTS = Schema(title="Posts", about="", payloads=(Shape("entry", ATOM, whole=True),), keys=())


def avatar() -> Element:
    """Return the metadata of an avatar (XEP-0084), as communities have it in a node of entries."""
    info = f'<info id="{HASH}" bytes="12345" type="image/png" width="64" height="64"/>'
    return fromstring(f'<metadata xmlns="{AVATAR}">{info}</metadata>')


def thing(number: int = 0) -> Element:
    return Element(f"{{urn:example:thing:{number}}}thing")


def happy() -> Element:
    return fromstring(f'<mood xmlns="{mood.MOOD}"><happy/><text>The lake is warm</text></mood>')


@reads(POSTS)
def parse_post(item: Element, context: ParseContext) -> dict[str, Any]:
    return parse_entry(item, context)


async def found(**options: Any) -> list[str]:
    return await in_thread(lambda: [item.id for item in search(**options)])()


async def assert_not_synchronised(site: Site, address: NodeAddress) -> None:
    node = await site.node(address)
    assert node is not None
    assert (node.analyser, node.sync_state, node.sync_error) == ("", "NO_SYNC", "No analyser matches.")


async def assert_blog(site: Site, address: NodeAddress, *titles: str) -> None:
    """Wait until the node is in sync, and assert that it is a blog whose entries are parsed and found."""
    node = await site.in_sync(address)
    assert (node.analyser, node.type, node.sync_error, node.analysis_reason) == ("microblog", "blog", "", "")
    parsed = {item.name: item.parsed for item in await site.items(address)}
    for title in titles:
        assert parsed[title]["title"] == title
        assert await found(fts=f'"{title}"', types=["blog"], nodes=[address.name]) == [title]


@pytest.mark.parametrize("options", [{}, {"max_items": 1}, {"item_ids": [AVATAR]}])
async def test_blog_whose_newest_item_is_an_avatar(site: Site, client, options: dict[str, Any]) -> None:
    bob = await client(site.server)
    address = await make_node(bob, site.server, new_name("community-"))
    for title in ("First words", "Second words"):
        await bob.publish(address, entry(title), title)
    await bob.publish(address, avatar(), AVATAR)
    await site.read(address, **options)
    await assert_blog(site, address, "First words", "Second words")
    assert await site.names(address) == ["First words", "Second words", AVATAR]
    parsed = (await site.items(address))[2].parsed
    assert (parsed["sha1"], parsed["pictures"][0]["media_type"]) == (HASH, "image/png")
    assert await found(parsed=[("sha1", "==", HASH)], nodes=[address.name]) == [AVATAR]
    await bob.publish(address, entry("Third words"), "Third words")
    await site.converged(address)
    await bob.publish(address, avatar(), AVATAR)
    await site.converged(address)
    await assert_blog(site, address, "First words", "Second words", "Third words")


async def test_empty_node_that_is_filled_while_a_worker_runs(site: Site, client) -> None:
    bob, phone = await client(site.server), await client(site.server, "alice")
    address = await make_node(bob, site.server, new_name("empty-"))
    assert (await site.read(address)).items == []
    await assert_not_synchronised(site, address)
    await phone.subscribe(address)  # the service notifies all clients of the account
    for number in range(30):
        await bob.publish(address, thing(number), f"thing-{number}")
    await bob.publish(address, entry("First words"), "First words")
    await assert_blog(site, address, "First words")
    await bob.publish(address, entry("Second words"), "Second words")
    await site.converged(address)
    await assert_blog(site, address, "Second words")


async def test_empty_node_kept_by_staff_gets_its_analyser_from_a_notification(site: Site, client) -> None:
    bob = await client(site.server)
    address = await make_node(bob, site.server, new_name("empty-"))
    await site.read(address)
    await in_thread(set_policy)(PubsubNode.objects.filter(name=address.name), "always")
    assert (await site.in_sync(address)).analyser == ""
    await bob.publish(address, entry("First words"), "First words")

    async def is_analysed() -> bool:
        return (await site.in_sync(address)).analyser == "microblog"

    await site.until(is_analysed)
    await assert_blog(site, address, "First words")


async def test_node_that_staff_never_keep_stays_unsynchronised(site: Site, client) -> None:
    bob, phone = await client(site.server), await client(site.server, "alice")
    address = await make_node(bob, site.server, new_name("empty-"))
    await site.read(address)
    await in_thread(set_policy)(PubsubNode.objects.filter(name=address.name), "never")
    await phone.subscribe(address)
    await bob.publish(address, entry("First words"), "First words")

    async def analysed() -> PubsubNode | None:
        node = await site.node(address)
        return node if node is not None and node.analyser else None

    node = await site.until(analysed)
    assert (node.analyser, node.sync_state, node.sync_error) == (
        "microblog", "NO_SYNC", "Staff decided: never synchronise.",
    )  # fmt: skip
    page = await site.read(address)
    assert (page.origin, page.state, page.items[0].parsed["title"]) == ("service", "NO_SYNC", "First words")
    assert await site.items(address) == []


async def test_empty_node_that_is_read_later_without_a_worker(
    xmpp_server: XmppServer, live_database: None, client
) -> None:
    site = Site(xmpp_server)
    await site.add_account()
    bob, alice = await client(xmpp_server), await client(xmpp_server, "alice")
    address = await make_node(bob, xmpp_server, new_name("empty-"))
    with sessions.offered(site.jid, alice):
        await site.read(address)
        await assert_not_synchronised(site, address)
        await bob.publish(address, entry("First words"), "First words")
        await bob.publish(address, avatar(), AVATAR)
        page = await site.read(address)
        assert (page.origin, page.state) == ("service", None)
        assert page.items[0].parsed["title"] == "First words"
        node = await site.node(address)
        assert node is not None
        await sync_node(alice, node.pk)
        await assert_blog(site, address, "First words")
        assert (await site.read(address)).origin == "cache"


async def test_node_that_is_filled_between_two_workers(xmpp_server: XmppServer, live_database: None, client) -> None:
    site = Site(xmpp_server)
    await site.add_account()
    bob = await client(xmpp_server)
    address = await make_node(bob, xmpp_server, new_name("empty-"))
    async with site.working():
        await site.read(address)
    await publish_many(bob, address, 3)
    await assert_not_synchronised(site, address)
    async with site.working():
        await site.read(address)
        node = await site.in_sync(address)
        assert (node.analyser, len(await site.items(address))) == ("microblog", 3)


@pytest.mark.both_databases
async def test_two_workers_analyse_a_node_once(xmpp_server: XmppServer, live_database: None, client) -> None:
    samples: list[str | None] = []

    def note(analysis: Analysis) -> None:
        samples.append(None if analysis.item is None else analysis.item.get("id"))

    posts = Analyser(name="posts", type="post", namespace=ATOM, to_sync=True, parser=parse_post, match_cb=note)
    site = Site(xmpp_server)
    await site.add_account()
    bob, phone = await client(xmpp_server), await client(xmpp_server, "alice")
    address = await make_node(bob, xmpp_server, new_name("empty-"))
    with registry.temporarily(posts, replace=True):
        async with site.working(), site.working():
            await site.read(address)
            await phone.subscribe(address)
            await publish_many(bob, address, 20)
            node = await site.in_sync(address)
            await site.converged(address)
            assert (node.analyser, len(await site.items(address))) == ("posts", 20)
            assert len(samples) == 1


async def test_items_of_a_node_are_parsed_by_their_kinds(site: Site, client) -> None:
    posts = Analyser(name="posts", type="post", namespace=ATOM, to_sync=True, parser=parse_post)
    moods = Analyser(name="mood", type="mood", node=mood.MOOD, parser=mood.parse_mood)
    with registry.temporarily(posts, moods, replace=True):
        bob = await client(site.server)
        address = await make_node(bob, site.server, new_name("mixed-"))
        await bob.publish(address, happy(), "mood")
        await bob.publish(address, entry("First words"), "post")
        await bob.publish(address, thing(), "thing")

        async def assert_parsed(page: list[Any], *item_ids: str) -> None:
            parsed = {item.id: item.parsed for item in page}
            for item_id in item_ids:
                assert parsed[item_id].get("title") == ("First words" if "post" in item_id else None)
                assert parsed[item_id].get("mood") == ("happy" if "mood" in item_id else None)
            assert parsed["thing"] is None

        await assert_parsed((await site.read(address)).items, "mood", "post")
        node = await site.in_sync(address)
        assert node.type == "post"
        await bob.publish(address, happy(), "mood 2")
        await bob.publish(address, entry("First words"), "post 2")
        await site.converged(address)
        page = await site.read(address)
        assert page.origin == "cache"
        await assert_parsed(page.items, "mood", "post", "mood 2", "post 2")
        assert (await site.items(address))[2].parse_error
        for options in ({"parsed": [("mood", "==", "happy")]}, {"fts": '"The lake is warm"'}):
            assert sorted(await found(nodes=[address.name], **options)) == ["mood", "mood 2"]


async def test_blog_that_becomes_something_else(site: Site, client) -> None:
    things = Analyser(name="things", type="thing", namespace="urn:example:thing:0", to_sync=True)
    with registry.temporarily(things):
        bob = await client(site.server)
        address = await make_node(bob, site.server, new_name("changing-"))
        await publish_many(bob, address, 3)
        await site.cached(address)
        for number in range(12):  # the last one makes four times as many
            assert (await site.in_sync(address)).analyser == "microblog"
            await bob.publish(address, thing(), f"thing-{number}")
            await site.converged(address)

        async def is_changed() -> bool:
            node = await site.in_sync(address)
            return (node.analyser, node.parse_anew, node.sync_requested) == ("things", False, None)

        await site.until(is_changed)
        await site.converged(address)
        page = await site.read(address)
        assert page.origin == "cache"
        assert len(page.items) == 15


async def test_private_node_of_another_account_is_analysed_once_it_is_opened(site: Site, client) -> None:
    bob = await client(site.server)
    address = await make_node(bob, site.server, new_name("private-"), **{"pubsub#access_model": "whitelist"})
    with pytest.raises(Forbidden):
        await site.read(address)
    await bob.publish(address, entry("First words"), "First words")
    with pytest.raises(Forbidden):
        await site.read(address)
    node = await site.node(address)
    assert node is not None
    assert (node.analyser, node.sync_state) == ("", "NO_SYNC")
    assert "refused" in node.sync_error
    assert await site.items(address) == []
    await bob.configure(address, {"pubsub#access_model": "open"})
    await site.read(address)
    await assert_blog(site, address, "First words")


async def test_failing_match_cb_is_shown_as_the_reason_until_it_works(site: Site, client) -> None:
    def fail(analysis: Analysis) -> None:
        raise RuntimeError("no match after all")

    bob, phone = await client(site.server), await client(site.server, "alice")
    address = await make_node(bob, site.server, new_name("empty-"))
    odd = Analyser(name="odd", type="odd", namespace=ATOM, to_sync=True, match_cb=fail)
    with registry.temporarily(odd, replace=True):
        await site.read(address)
        await phone.subscribe(address)
        await bob.publish(address, entry("First words"), "First words")

        async def has_failed() -> bool:
            node = await site.node(address)
            return node is not None and "no match after all" in node.sync_error

        await site.until(has_failed)
    await site.read(address)
    await assert_blog(site, address, "First words")
