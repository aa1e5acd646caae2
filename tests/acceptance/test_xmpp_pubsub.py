"""Test how Prosody and ejabberd answer our requests and notify us: the facts that the cache relies on."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Callable
from xml.etree.ElementTree import Element, fromstring

import pytest

from pubsubcache.exceptions import Forbidden, InvalidRequest, ItemNotFound, ServiceError
from pubsubcache.types import Item, ItemsRequest, NodeAddress, Publish, PubsubEvent, Retract, Rsm, ServicePage
from pubsubcache.utils import xmlform
from pubsubcache.xmpp.session import Session, open_session
from tests.servers.xmpp import XmppServer, wait_online

TIMEOUT = 30


class Follower:
    """A running session that records its notifications."""

    def __init__(self, session: Callable[..., Session]) -> None:
        self._events: list[PubsubEvent] = []
        self._changed = asyncio.Event()
        self.session = session(on_event=self._take)

    def _take(self, event: PubsubEvent) -> None:
        self._events.append(event)
        self._changed.set()

    def seen(self, node: NodeAddress) -> list[str]:
        """Return the notifications of a node in short form. ejabberd sends the owner of a PEP node each one twice."""
        seen: list[str] = []
        for event in self._events:
            if (event.sender, event.node) == (node.service, node.name):
                seen += [_short(change) for change in event.changes] or [event.kind]
        return [text for index, text in enumerate(seen) if index == 0 or text != seen[index - 1]]

    def items(self, node: NodeAddress) -> list[Item]:
        events = [event for event in self._events if event.node == node.name]
        return [change.item for event in events for change in event.changes if isinstance(change, Publish)]

    async def until(self, node: NodeAddress, last: str) -> list[str]:
        """Wait for the notification `last` of a node; return all its notifications in short form."""
        async with asyncio.timeout(TIMEOUT):
            while last not in self.seen(node):
                self._changed.clear()
                await self._changed.wait()
        return self.seen(node)


def _short(change: Publish | Retract) -> str:
    if isinstance(change, Retract):
        return f"-{change.id}"
    return f"+{change.item.id}" + ("" if change.has_payload else " without payload")


@contextlib.asynccontextmanager
async def following(server: XmppServer, user: str) -> AsyncIterator[Follower]:
    follower = Follower(lambda **callbacks: Session(server.login(user), **callbacks))
    task = asyncio.create_task(follower.session.run())
    try:
        await wait_online(follower.session, TIMEOUT)
        yield follower
    finally:
        await follower.session.stop()
        await task


@pytest.fixture
async def bob(xmpp_server: XmppServer) -> AsyncIterator[Session]:
    """The publisher."""
    async with open_session(xmpp_server.login("bob")) as session:
        yield session


@pytest.fixture
async def alice(xmpp_server: XmppServer) -> AsyncIterator[Session]:
    """A reader."""
    async with open_session(xmpp_server.login("alice")) as session:
        yield session


@pytest.fixture
async def node(xmpp_server: XmppServer, bob: Session) -> NodeAddress:
    """A new open node of the pubsub service."""
    address = NodeAddress(xmpp_server.pubsub, f"facts-{uuid.uuid4()}")
    await bob.create_node(address, {"pubsub#access_model": "open", "pubsub#max_items": 5000})
    return address


@pytest.fixture
async def pep(xmpp_server: XmppServer, bob: Session) -> AsyncIterator[NodeAddress]:
    """A new open PEP node of bob's."""
    address = NodeAddress(xmpp_server.jid("bob"), f"facts-{uuid.uuid4()}")
    await bob.create_node(address, {"pubsub#access_model": "open", "pubsub#max_items": 100})
    yield address
    await bob.delete_node(address)


def entry(text: str) -> Element:
    return fromstring(
        f"<entry xmlns='http://www.w3.org/2005/Atom'><title xml:lang='de'>{text} &amp; ü</title>"
        "<x:flag xmlns:x='urn:x' b='2' a='1'/></entry>"
    )


async def publish(session: Session, node: NodeAddress, *ids: str) -> None:
    for item_id in ids:
        await session.publish(node, entry(item_id), item_id)


def ids(page: ServicePage) -> list[str]:
    return [item.id for item in page.items]


async def test_items_come_oldest_first(alice: Session, bob: Session, node: NodeAddress) -> None:
    await publish(bob, node, "a", "b", "c", "d")
    assert ids(await alice.get_items(node, ItemsRequest())) == ["a", "b", "c", "d"]
    assert ids(await alice.get_items(node, ItemsRequest(max_items=2))) == ["c", "d"]
    assert ids(await alice.get_items(node, ItemsRequest(max_items=1))) == ["d"]


async def test_item_ids_come_oldest_first_or_newest_first(
    xmpp_server: XmppServer, alice: Session, bob: Session, node: NodeAddress
) -> None:
    await publish(bob, node, "a", "b", "c")
    expected = {"prosody": ["c", "b", "a"], "ejabberd": ["a", "b", "c"]}
    assert await alice.get_item_ids(node) == expected[xmpp_server.name]


async def test_requested_items_come_as_asked_or_by_age_and_unknown_ones_are_absent(
    xmpp_server: XmppServer, alice: Session, bob: Session, node: NodeAddress
) -> None:
    await publish(bob, node, "a", "b", "c")
    expected = {"prosody": ["c", "a"], "ejabberd": ["a", "c"]}
    got = await alice.get_items(node, ItemsRequest(item_ids=("c", "zz", "a")))
    assert ids(got) == expected[xmpp_server.name]
    assert ids(await alice.get_items(node, ItemsRequest(item_ids=("zz",)))) == []


async def test_an_edited_item_keeps_its_place_or_becomes_the_newest(
    xmpp_server: XmppServer, alice: Session, bob: Session, node: NodeAddress
) -> None:
    await publish(bob, node, "a", "b", "c", "a")
    expected = {"prosody": ["b", "c", "a"], "ejabberd": ["a", "b", "c"]}
    assert ids(await alice.get_items(node, ItemsRequest())) == expected[xmpp_server.name]


async def test_prosody_does_not_support_paging(prosody: XmppServer) -> None:
    prosody.start()
    address = NodeAddress(prosody.pubsub, f"facts-{uuid.uuid4()}")
    async with open_session(prosody.login("bob")) as bob:
        await publish(bob, address, "a", "b", "c")
        for rsm in (Rsm(max=2), Rsm(max=1, before=""), Rsm(max=0), Rsm(max=1, index=1), Rsm(max=1, after="zz")):
            page = await bob.get_items(address, ItemsRequest(rsm=rsm))
            assert (ids(page), page.rsm) == (["a", "b", "c"], None)
        page = await bob.get_items(address, ItemsRequest(rsm=Rsm(max=1), max_items=2))
        assert (ids(page), page.rsm) == (["b", "c"], None)


async def test_ejabberd_supports_paging(ejabberd: XmppServer) -> None:
    ejabberd.start()
    address = NodeAddress(ejabberd.pubsub, f"facts-{uuid.uuid4()}")
    async with open_session(ejabberd.login("bob")) as bob:
        await bob.create_node(address, {"pubsub#max_items": 100})
        await publish(bob, address, "a", "b", "c", "d", "e")

        async def page(max_items: int | None = None, **rsm: str | int) -> tuple[list[str], Rsm]:
            got = await bob.get_items(address, ItemsRequest(rsm=Rsm(**rsm), max_items=max_items))  # type: ignore[arg-type]
            assert got.rsm is not None
            return ids(got), got.rsm

        got, first = await page(max=2)
        assert (got, first.count, first.index) == (["a", "b"], 5, 0)
        assert first.last not in (None, "b")  # its cursors are times
        assert (await page(max=2, after=first.last or ""))[0] == ["c", "d"]
        assert (await page(max=2, before=first.last or ""))[0] == ["a"]
        assert (await page(max=2, before=""))[0] == ["d", "e"]
        assert (await page(max=2, index=1))[0] == ["b", "c"]
        assert (await page(max=0)) == ([], Rsm(count=5))
        # Item ids are not cursors, and unknown cursors are not errors: both look like the end.
        assert (await page(max=2, after="a")) == ([], Rsm(count=5))
        assert (await page(max=2, after="zz")) == ([], Rsm(count=5))
        # max_items has no effect with a page.
        assert (await page(max=2, max_items=1))[0] == ["a", "b"]


async def test_a_missing_node_is_not_found(xmpp_server: XmppServer, alice: Session) -> None:
    missing = NodeAddress(xmpp_server.pubsub, "missing")
    for request in (ItemsRequest(), ItemsRequest(rsm=Rsm(max=1)), ItemsRequest(item_ids=("a",))):
        with pytest.raises(ItemNotFound):
            await alice.get_items(missing, request)
    for call in (alice.get_item_ids, alice.subscribe, alice.get_node_metadata):
        with pytest.raises(ItemNotFound):
            await call(missing)
    await alice.unsubscribe(missing)


async def test_a_closed_node_is_forbidden(
    xmpp_server: XmppServer, alice: Session, bob: Session, node: NodeAddress
) -> None:
    await publish(bob, node, "a")
    await bob.configure(node, {"pubsub#access_model": "whitelist"})
    assert (await bob.get_node_metadata(node))["pubsub#access_model"] == ("whitelist",)
    with pytest.raises(Forbidden):
        await alice.get_items(node, ItemsRequest())
    with pytest.raises(Forbidden):
        await alice.subscribe(node)
    if xmpp_server.name == "prosody":
        with pytest.raises(Forbidden):
            await alice.get_item_ids(node)
    else:
        assert await alice.get_item_ids(node) == []  # as if it were empty


async def test_nodes_of_others_can_be_read_but_not_listed(alice: Session, bob: Session, pep: NodeAddress) -> None:
    await publish(bob, pep, "a", "b")
    assert ids(await alice.get_items(pep, ItemsRequest())) == ["a", "b"]
    with pytest.raises(ServiceError):
        await alice.get_item_ids(pep)
    assert sorted(await bob.get_item_ids(pep)) == ["a", "b"]


async def test_subscriptions_are_made_listed_and_ended(
    xmpp_server: XmppServer, alice: Session, node: NodeAddress, pep: NodeAddress
) -> None:
    for address in (node, pep):
        made = await alice.subscribe(address)
        assert (made.jid, made.state, made.node) == (xmpp_server.jid("alice"), "subscribed", address.name)
        assert await alice.subscribe(address) == made
        assert await alice.get_subscriptions(address) == [made]
        await alice.unsubscribe(address)
        assert await alice.get_subscriptions(address) == []
        await alice.unsubscribe(address)


async def test_changes_of_a_node_are_notified_in_order(
    xmpp_server: XmppServer, bob: Session, node: NodeAddress
) -> None:
    async with following(xmpp_server, "alice") as follower:
        await follower.session.subscribe(node)
        await publish(bob, node, "a", "b")
        await bob.publish(node, entry("a, edited"), "a")
        await bob.retract(node, "b")
        await bob.purge_node(node)
        await publish(bob, node, "c")
        assert await follower.until(node, "+c") == ["+a", "+b", "+a", "-b", "purge", "+c"]
        assert "a, edited" in follower.items(node)[2].xml

        await bob.configure(node, {"pubsub#notify_delete": True, "pubsub#notify_config": True})
        await bob.configure(node, {"pubsub#title": "Another"})
        await bob.delete_node(node)
        seen = await follower.until(node, "delete")
        assert "configuration" in seen or xmpp_server.name == "prosody"


async def test_ejabberd_does_not_notify_deletion_and_configuration(ejabberd: XmppServer) -> None:
    ejabberd.start()
    gone, after = (NodeAddress(ejabberd.pubsub, f"facts-{uuid.uuid4()}") for _ in range(2))
    async with open_session(ejabberd.login("bob")) as bob, following(ejabberd, "alice") as follower:
        for address in (gone, after):
            await bob.create_node(address)
            await follower.session.subscribe(address)
        await bob.configure(gone, {"pubsub#title": "Another"})
        await bob.delete_node(gone)
        await publish(bob, after, "end")
        await follower.until(after, "+end")
        assert follower.seen(gone) == []


async def test_changes_of_an_own_node_are_notified(xmpp_server: XmppServer, bob: Session, pep: NodeAddress) -> None:
    async with following(xmpp_server, "bob") as follower:
        await follower.session.subscribe(pep)
        await publish(bob, pep, "a", "b")
        await bob.retract(pep, "a")
        await publish(bob, pep, "c")
        assert await follower.until(pep, "+c") == ["+a", "+b", "-a", "+c"]
        await bob.purge_node(pep)
        await publish(bob, pep, "d")
        seen = await follower.until(pep, "+d")
        assert ("purge" in seen) == (xmpp_server.name == "prosody")


async def test_notified_item_equals_the_fetched_one_except_for_the_publisher(
    xmpp_server: XmppServer, bob: Session, node: NodeAddress, pep: NodeAddress
) -> None:
    async with following(xmpp_server, "alice") as follower:
        for address in (node, pep):
            await follower.session.subscribe(address)
            await publish(bob, address, "a")
            await follower.until(address, "+a")
            (fetched,) = (await follower.session.get_items(address, ItemsRequest())).items
            notified = follower.items(address)[-1]
            assert fetched.publisher is None
            if xmpp_server.name == "prosody" and address is pep:
                assert notified.publisher == xmpp_server.jid("bob")
                del notified.element.attrib["publisher"]
            assert xmlform.to_text(notified.element) == fetched.xml


async def test_a_publishers_own_items_are_notified_too(xmpp_server: XmppServer, node: NodeAddress) -> None:
    async with following(xmpp_server, "bob") as follower:
        await follower.session.subscribe(node)
        await publish(follower.session, node, "a")
        assert await follower.until(node, "+a") == ["+a"]


async def test_a_notification_may_come_without_a_payload(
    xmpp_server: XmppServer, bob: Session, node: NodeAddress
) -> None:
    await bob.configure(node, {"pubsub#deliver_payloads": False})
    async with following(xmpp_server, "alice") as follower:
        await follower.session.subscribe(node)
        await publish(bob, node, "a")
        assert await follower.until(node, "+a without payload") == ["+a without payload"]


async def test_full_node_drops_its_oldest_item_with_or_without_notification(
    xmpp_server: XmppServer, alice: Session, bob: Session, node: NodeAddress
) -> None:
    await bob.configure(node, {"pubsub#max_items": 2})
    async with following(xmpp_server, "alice") as follower:
        await follower.session.subscribe(node)
        await publish(bob, node, "a", "b", "c", "d")
        assert ids(await alice.get_items(node, ItemsRequest())) == ["c", "d"]
        await bob.purge_node(node)
        seen = await follower.until(node, "purge")
        evictions = [text for text in seen if text.startswith("-")]
        assert evictions == ([] if xmpp_server.name == "prosody" else ["-a", "-b"])


async def test_ejabberd_names_the_publisher_if_configured(ejabberd: XmppServer) -> None:
    ejabberd.start()
    address = NodeAddress(ejabberd.pubsub, f"facts-{uuid.uuid4()}")
    async with open_session(ejabberd.login("bob")) as bob:
        await bob.create_node(address)
        await publish(bob, address, "a")
        assert (await bob.get_items(address, ItemsRequest())).items[0].publisher is None
        await bob.configure(address, {"pubsub#itemreply": "publisher"})
        publisher = (await bob.get_items(address, ItemsRequest())).items[0].publisher
        assert (publisher or "").startswith(f"{ejabberd.jid('bob')}/")


async def test_ejabberd_repeats_the_last_item_at_login_as_if_it_were_new(ejabberd: XmppServer) -> None:
    ejabberd.start()
    address = NodeAddress(ejabberd.pubsub, f"facts-{uuid.uuid4()}")
    async with open_session(ejabberd.login("bob")) as bob, open_session(ejabberd.login("alice")) as alice:
        await bob.create_node(address)
        await alice.subscribe(address)
        await publish(bob, address, "a", "b")
        async with following(ejabberd, "alice") as follower:
            assert await follower.until(address, "+b") == ["+b"]
        await alice.unsubscribe(address)


async def test_many_items_come_whole(xmpp_server: XmppServer, alice: Session, bob: Session, node: NodeAddress) -> None:
    names = [f"item-{number:04}" for number in range(1500)]
    for start in range(0, len(names), 500):
        await asyncio.gather(*(bob.publish(node, entry("x" * 300), name) for name in names[start : start + 500]))
    assert sorted(ids(await alice.get_items(node, ItemsRequest()))) == names
    assert sorted(await alice.get_item_ids(node)) == names


async def test_service_generates_missing_ids(bob: Session, node: NodeAddress) -> None:
    given = await bob.publish(node, entry("text"))
    assert given
    assert ids(await bob.get_items(node, ItemsRequest())) == [given]


@pytest.mark.parametrize("name", ["nul \x00", "escape \x1b", "half \ud800", "not \ufffe"])
async def test_text_that_xml_cannot_represent_does_not_end_the_stream(alice: Session, name: str) -> None:
    service = alice.login.jid
    with pytest.raises(InvalidRequest, match="cannot be sent in XML"):
        await alice.get_items(NodeAddress(service, name), ItemsRequest())
    with pytest.raises(InvalidRequest, match="not a JID"):
        await alice.get_items(NodeAddress("@", "a"), ItemsRequest())
    assert alice.online
    with pytest.raises(ServiceError):
        await alice.get_items(NodeAddress(service, "<&\"'> \u2028 😀"), ItemsRequest())
