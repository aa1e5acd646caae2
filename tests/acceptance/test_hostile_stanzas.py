"""Test that no stanza that strangers send through a real server ends the session of its recipient."""

import asyncio
import logging
import uuid
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from pubsubcache.exceptions import ServiceError, ServiceUnreachable
from pubsubcache.types import NodeAddress
from pubsubcache.utils.xmlform import PUBSUB, PUBSUB_EVENT
from pubsubcache.xmpp import session as session_module
from pubsubcache.xmpp.session import Session, open_session
from tests.acceptance.site import Site, entry, make_node
from tests.servers.proxy import Proxy
from tests.servers.xmpp import XmppServer
from tests.sessions import NASTY, Watched, assert_clean, watched

ODD = {
    "brace": '<x xmlns="urn:a}b"/>',
    "brace in a prefix": '<p:x xmlns:p="urn:a}b" p:y="1"/>',
    "braces alone": '<x xmlns="}{"><y xmlns="}"/></x>',
    "xml prefix": "<xml:x/>",
    "xml namespace": '<x xmlns="http://www.w3.org/XML/1998/namespace"/>',
    "xmlns namespace": '<x xmlns="http://www.w3.org/2000/xmlns/"/>',
    "undeclared prefix": "<p:x p:y='1'/>",
    "two colons": "<a:b:c/>",
    "same attribute twice": '<x xmlns:p="urn:1" xmlns:q="urn:1" p:y="1" q:y="2"/>',
    "forged end tag": "<x xmlns='urn:a\"/>&lt;/message>'/>",
}


# Prosody's SQL storage cannot read these again after storing them, and fails each time that it tries.
UNREADABLE = {"prosody": {"xml prefix", "xml namespace"}}


def storable(server: XmppServer) -> dict[str, str]:
    """Return the odd elements except those that break the server once it has stored them."""
    return {name: odd for name, odd in ODD.items() if name not in UNREADABLE.get(server.name, set())}


@pytest.fixture(autouse=True)
def impatient(settings: Any) -> None:
    settings.PUBSUBCACHE_RECONNECT_MAX_DELAY = 0.2


def message(to: str, name: str, inner: str = "") -> str:
    """Return a chat message that the session reports as an event of the node `name`."""
    event = f"<event xmlns='{PUBSUB_EVENT}'><items node='{name}'><item id='1'>{inner}</item></items></event>"
    return f"<message to='{to}' type='chat'><body>hi</body>{event}</message>"


async def is_relayed(server: XmppServer, xml: str) -> bool:
    """Send `xml` unchanged from a new session of bob's; return whether the server accepted it."""
    async with open_session(server.login("bob")) as bob:
        write(bob, xml)
        try:
            await bob.get_features(server.domain)
        except ServiceUnreachable:
            return False
    return True


def write(session: Session, xml: str) -> None:
    assert session._client is not None
    session._client.send_raw(xml)


async def relayed(server: XmppServer, unique: str, elements: dict[str, str], user: str) -> set[str]:
    """Send `user` odd messages; return the node names in those that the server accepted."""
    names = {f"{unique} {name}": odd for name, odd in elements.items()}
    return {name for name, odd in names.items() if await is_relayed(server, message(server.jid(user), name, odd))}


async def newcomer(server: XmppServer) -> str:
    """Return a new user, so that the test affects no other.

    Another user may have a stream that the server could still resume. It stores what it cannot deliver there, and
    Prosody then fails each time that the user comes online or is notified.
    """
    user = f"newcomer-{uuid.uuid4().hex[:8]}"
    await asyncio.to_thread(server.register, user, "a password of tests")
    return user


def seen(run: Watched) -> list[str]:
    return [event.node for event in run.events]


def onlines(run: Watched) -> int:
    return sum(status.state == "online" for status in run.statuses)


async def still_up(run: Watched, server: XmppServer) -> None:
    """Assert that the session answers, after it has received what the server sent before."""
    assert await run.session.get_features(server.pubsub)


async def test_odd_messages_do_not_end_the_session(xmpp_server: XmppServer) -> None:
    unique, user = uuid.uuid4().hex, await newcomer(xmpp_server)
    async with watched(xmpp_server.login(user)) as run:
        await run.until_online(1)
        names = await relayed(xmpp_server, unique, ODD, user)
        assert f"{unique} brace" in names
        await run.until(lambda: names <= set(seen(run)))
        await still_up(run, xmpp_server)
        assert onlines(run) == 1


async def test_odd_messages_kept_for_later_are_delivered_once(xmpp_server: XmppServer) -> None:
    unique, user = uuid.uuid4().hex, await newcomer(xmpp_server)
    names = await relayed(xmpp_server, unique, storable(xmpp_server), user)
    assert f"{unique} brace" in names
    async with watched(xmpp_server.login(user)) as run:
        await run.until(lambda: names <= set(seen(run)))
        await still_up(run, xmpp_server)
        assert onlines(run) == 1
    async with watched(xmpp_server.login(user)) as run:
        await run.until_online(1)
        await still_up(run, xmpp_server)
        assert not names & set(seen(run))


@pytest.mark.both_databases
async def test_odd_items_are_kept_as_the_service_has_them(site: Site, client: Any) -> None:
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await bob.publish(address, entry("First"), "first")
    assert await is_relayed(site.server, publishing(address, "listed", ODD["brace"]))
    await site.cached(address)
    for number, odd in enumerate(storable(site.server).values()):
        await is_relayed(site.server, publishing(address, f"notified-{number}", odd))
    await bob.publish(address, entry("Last"), "last")
    await site.converged(address)
    names = await site.names(address)
    assert {"first", "listed", "notified-0", "last"} <= set(names)
    [item] = (await site.read(address, item_ids=["notified-0"])).items
    assert item.payload is not None
    assert item.payload.tag == "{urn:a}b}x"


def publishing(address: NodeAddress, item_id: str, payload: str) -> str:
    items = f"<publish node='{address.name}'><item id='{item_id}'>{payload}</item></publish>"
    return f"<iq type='set' id='p' to='{address.service}'><pubsub xmlns='{PUBSUB}'>{items}</pubsub></iq>"


@pytest.fixture
def small(settings: Any) -> Iterator[int]:
    """A bound on the size of stanzas that the servers' own stanzas do not exceed."""
    settings.PUBSUBCACHE_MAX_STANZA_SIZE = 30_000
    return settings.PUBSUBCACHE_MAX_STANZA_SIZE


async def test_a_message_over_the_bound_is_skipped(
    xmpp_server: XmppServer, small: int, caplog: pytest.LogCaptureFixture
) -> None:
    user = await newcomer(xmpp_server)
    async with watched(xmpp_server.login(user)) as run:
        await run.until_online(1)
        assert await is_relayed(xmpp_server, message(xmpp_server.jid(user), "big", "x" * 2 * small))
        assert await is_relayed(xmpp_server, message(xmpp_server.jid(user), "small"))
        await run.until(lambda: "small" in seen(run))
        assert "big" not in seen(run)
        assert onlines(run) == 1
    skipped = f"Skipped a stanza from {xmpp_server.jid('bob')}"
    assert len([record for record in caplog.records if skipped in record.getMessage()]) == 1


@pytest.mark.parametrize("is_online", [True, False], ids=["online", "offline"])
async def test_message_ends_the_stream_only_once(xmpp_server: XmppServer, small: int, is_online: bool) -> None:
    """A message far over the bound ends the stream, and the server does not deliver it again.

    It is larger than one read from the socket: a stanza that one read returns whole is only skipped.
    """
    user = await newcomer(xmpp_server)
    poison = message(xmpp_server.jid(user), "poison", "x" * 30 * small)
    if not is_online:
        assert await is_relayed(xmpp_server, poison)
    async with watched(xmpp_server.login(user)) as run:
        await run.until_online(1)
        if is_online:
            assert await is_relayed(xmpp_server, poison)
        await run.until_online(2)
        assert any("stanza longer than" in status.detail for status in run.statuses)
        unique = uuid.uuid4().hex
        assert await is_relayed(xmpp_server, message(xmpp_server.jid(user), unique))
        await run.until(lambda: unique in seen(run))
        await still_up(run, xmpp_server)
        assert onlines(run) == 2


async def test_skipped_request_is_answered(xmpp_server: XmppServer, small: int) -> None:
    async with watched(xmpp_server.login("alice")) as run, open_session(xmpp_server.login("bob")) as bob:
        await run.until_online(1)
        assert run.session._client is not None
        alice = run.session._client.boundjid.full
        question = Element("{urn:example}question")
        question.text = "x" * 2 * small
        with pytest.raises(ServiceError, match="not-acceptable"):
            await bob.ask("get", alice, question)
        question.text = "short"
        with pytest.raises(ServiceError, match="feature-not-implemented"):
            await bob.ask("get", alice, question)
        assert onlines(run) == 1


async def test_request_cannot_inject_xml_into_our_answer(xmpp_server: XmppServer) -> None:
    namespace = "http://www.w3.org/XML/1998/namespace}x=&quot;&quot;/>&lt;/stream:stream>"
    async with watched(xmpp_server.login("alice")) as run:
        await run.until_online(1)
        assert run.session._client is not None
        alice = run.session._client.boundjid.full
        question = f"<iq type='get' id='1' to='{alice}' xmlns:p='{namespace}' p:y='1'><q xmlns='urn:q'/></iq>"
        await is_relayed(xmpp_server, question)
        await still_up(run, xmpp_server)
        assert onlines(run) == 1


async def test_a_message_whose_handling_fails_is_skipped_and_not_delivered_again(
    xmpp_server: XmppServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unique, user = uuid.uuid4().hex, await newcomer(xmpp_server)
    failed = []
    parse = session_module.parse_message

    def fail(stanza: Element, own: str) -> Any:
        events = parse(stanza, own)
        if any(event.node == f"{unique} bad" for event in events):
            failed.append(stanza.get("from"))
            raise ValueError("what a\nbug says")
        return events

    monkeypatch.setattr(session_module, "parse_message", fail)
    async with (
        Proxy(xmpp_server.host, xmpp_server.port) as proxy,
        watched(xmpp_server.login(user, port=proxy.port)) as run,
    ):
        await run.until_online(1)
        assert await is_relayed(xmpp_server, message(xmpp_server.jid(user), f"{unique} bad"))
        assert await is_relayed(xmpp_server, message(xmpp_server.jid(user), f"{unique} good"))
        await run.until(lambda: f"{unique} good" in seen(run))
        assert onlines(run) == 1
        proxy.cut()
        assert (await run.until_online(2)).resumed
        await still_up(run, xmpp_server)
        assert seen(run).count(f"{unique} good") == 1
    assert len(failed) == 1
    [record] = [record for record in caplog.records if "handling it failed" in record.getMessage()]
    assert record.levelno == logging.ERROR
    assert all(line.startswith("  ") for line in (record.exc_text or "").splitlines())


async def test_an_error_text_is_one_bounded_line(xmpp_server: XmppServer, caplog: pytest.LogCaptureFixture) -> None:
    async with open_session(xmpp_server.login("alice")) as alice, open_session(xmpp_server.login("bob")) as bob:
        assert bob._client is not None
        own = bob._client.boundjid.full

        def answer(stanza: Any) -> None:
            condition = "<forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>"
            text = f"<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'>{NASTY}</text>"
            error = f"<error type='auth'>{condition}{text}</error>"
            write(bob, f"<iq type='error' id='{stanza['id']}' to='{stanza['from']}'>{error}</iq>")

        bob._client.register_handler(Callback("Evil", MatchXPath("{jabber:client}iq/{urn:evil}q"), answer))
        with pytest.raises(ServiceError) as caught:
            await alice.ask("get", own, Element("{urn:evil}q"))
    assert caught.value.condition == "forbidden"
    assert_clean(caught.value.text)
    assert_clean(str(caught.value))


async def test_waiting_requests_survive_odd_messages(xmpp_server: XmppServer) -> None:
    user = await newcomer(xmpp_server)
    async with watched(xmpp_server.login(user)) as run:
        await run.until_online(1)
        asked = [asyncio.create_task(run.session.get_features(xmpp_server.pubsub)) for _ in range(20)]
        await is_relayed(xmpp_server, message(xmpp_server.jid(user), "any", ODD["brace"]))
        assert all(await asyncio.gather(*asked))
