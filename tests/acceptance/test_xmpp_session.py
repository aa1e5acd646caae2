"""Test sessions with real servers."""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from pubsubcache.exceptions import AuthenticationFailed, ServiceUnreachable, TooLarge, UntrustedServer
from pubsubcache.types import ItemsRequest, NodeAddress, Publish
from pubsubcache.xmpp import client
from pubsubcache.xmpp.session import Session, SessionStatus, open_session
from tests.servers.proxy import Proxy
from tests.servers.xmpp import XmppServer
from tests.sessions import TIMEOUT, Watched, assert_quiet, watched


@pytest.fixture(autouse=True)
def impatient(settings: Any) -> None:
    settings.PUBSUBCACHE_RECONNECT_MAX_DELAY = 0.2


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert_quiet(caplog)


@pytest.fixture
async def proxy(xmpp_server: XmppServer) -> AsyncIterator[Proxy]:
    async with Proxy(xmpp_server.host, xmpp_server.port) as proxy:
        yield proxy


@pytest.fixture
async def node(xmpp_server: XmppServer) -> NodeAddress:
    """A new node that alice is subscribed to and bob publishes to."""
    address = NodeAddress(xmpp_server.pubsub, f"session-{uuid.uuid4()}")
    async with open_session(xmpp_server.login("bob")) as bob, open_session(xmpp_server.login("alice")) as alice:
        await bob.create_node(address, {"pubsub#access_model": "open", "pubsub#max_items": 100})
        await alice.subscribe(address)
    return address


def entry(text: str) -> Element:
    element = Element("{urn:example:note}note")
    element.text = text
    return element


async def publish(server: XmppServer, address: NodeAddress, *ids: str) -> None:
    async with open_session(server.login("bob")) as bob:
        for item_id in ids:
            await bob.publish(address, entry(item_id), item_id)


def published(run: Watched, address: NodeAddress) -> list[str]:
    """Return the ids in the notifications of a node; ejabberd also repeats the last item of other nodes at login."""
    changes = [change for event in run.events if event.node == address.name for change in event.changes]
    return [change.item.id for change in changes if isinstance(change, Publish)]


async def test_short_session_logs_in_and_out(xmpp_server: XmppServer) -> None:
    async with open_session(xmpp_server.login("alice")) as session:
        assert session.online
        assert "http://jabber.org/protocol/pubsub" in await session.get_features(xmpp_server.pubsub)
    assert not session.online
    with pytest.raises(ServiceUnreachable):
        await session.get_features(xmpp_server.pubsub)


async def test_wrong_password_is_tried_once(
    xmpp_server: XmppServer, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "slixmpp")
    async with watched(xmpp_server.login("alice", password="wrong-secret", port=proxy.port)) as run:
        with pytest.raises(AuthenticationFailed) as caught:
            await asyncio.wait_for(run.task, TIMEOUT)
        assert [status.state for status in run.statuses] == ["connecting", "auth_failed"]
        assert xmpp_server.jid("alice") in str(caught.value)
        assert "wrong-secret" not in repr(run.reports) + str(caught.value) + repr(run.session.login) + caplog.text
        assert proxy.accepted == 1


async def test_untrusted_certificate_is_refused_and_retried(xmpp_server: XmppServer) -> None:
    async with watched(xmpp_server.login("alice", ca_file="")) as run:
        await run.until(lambda: len(run.statuses) >= 4)
    assert [status.state for status in run.statuses[:4]] == ["connecting", "error", "connecting", "error"]
    assert "not trusted: self-signed certificate" in run.statuses[1].detail
    with pytest.raises(UntrustedServer, match="not trusted"):
        async with open_session(xmpp_server.login("alice", ca_file="")):
            pass


async def test_an_untrusted_certificate_may_be_allowed(xmpp_server: XmppServer) -> None:
    async with open_session(xmpp_server.login("alice", ca_file="", tls_verify=False)) as session:
        assert session.online


async def test_session_waits_for_a_server_that_starts_later(xmpp_server: XmppServer, unused_tcp_port: int) -> None:
    async with watched(xmpp_server.login("alice", port=unused_tcp_port)) as run:
        await run.until(lambda: len(run.statuses) >= 4)
        assert [status.state for status in run.statuses[:4]] == ["connecting", "offline", "connecting", "offline"]
        assert "Connection refused" in run.statuses[1].detail
        with pytest.raises(ServiceUnreachable):
            await run.session.get_item_ids(NodeAddress(xmpp_server.pubsub, "any"))
        async with Proxy(xmpp_server.host, xmpp_server.port, listen=unused_tcp_port):
            assert not (await run.until_online(1)).resumed


async def test_a_restarted_server_gets_a_new_session(xmpp_server: XmppServer, node: NodeAddress) -> None:
    async with watched(xmpp_server.login("alice")) as run:
        first = await run.until_online(1)
        await asyncio.to_thread(xmpp_server.restart)
        second = await run.until_online(2)
        assert not second.resumed
        assert first.session_started is not None
        assert second.session_started is not None
        assert second.session_started > first.session_started
        await publish(xmpp_server, node, "after-restart")
        await run.until(lambda: "after-restart" in published(run, node))


async def test_cut_stream_is_resumed_without_loss(xmpp_server: XmppServer, proxy: Proxy, node: NodeAddress) -> None:
    async with watched(xmpp_server.login("alice", port=proxy.port)) as run:
        first = await run.until_online(1)
        await publish(xmpp_server, node, "before")
        await run.until(lambda: published(run, node) == ["before"])
        proxy.holding = True
        await publish(xmpp_server, node, "during-1", "during-2")
        proxy.cut()
        proxy.holding = False
        second = await run.until_online(2)
        assert second.resumed
        assert second.session_started == first.session_started
        await publish(xmpp_server, node, "after")
        await run.until(lambda: "after" in published(run, node))
        assert published(run, node) == ["before", "during-1", "during-2", "after"]
        ours = [report for report in run.reports if isinstance(report, SessionStatus) or report.node == node.name]
        kinds = [report.state if isinstance(report, SessionStatus) else "event" for report in ours]
        assert kinds == ["connecting", "online", "event", "offline", "connecting", "online", "event", "event", "event"]
        assert await run.session.get_item_ids(node)


async def test_a_stream_is_resumed_again_and_again(xmpp_server: XmppServer, proxy: Proxy, node: NodeAddress) -> None:
    async with watched(xmpp_server.login("alice", port=proxy.port)) as run:
        await run.until_online(1)
        for times in range(2, 6):
            await publish(xmpp_server, node, f"item-{times}")
            proxy.cut()
            assert (await run.until_online(times)).resumed
            assert await run.session.get_item_ids(node)
        await run.until(lambda: "item-5" in published(run, node))
        assert published(run, node) == ["item-2", "item-3", "item-4", "item-5"]


async def test_waiting_requests_fail_when_the_connection_is_lost(
    xmpp_server: XmppServer, proxy: Proxy, node: NodeAddress
) -> None:
    async with watched(xmpp_server.login("alice", port=proxy.port)) as run:
        await run.until_online(1)
        proxy.holding = True
        requests = [asyncio.create_task(run.session.get_items(node, ItemsRequest())) for _ in range(40)]
        await asyncio.sleep(0)
        proxy.cut()
        results = await asyncio.wait_for(asyncio.gather(*requests, return_exceptions=True), 20)
        assert {type(result) for result in results} == {ServiceUnreachable}
        proxy.holding = False
        assert (await run.until_online(2)).resumed
        assert (await run.session.get_items(node, ItemsRequest())).items == []


async def test_a_service_that_does_not_answer_is_unreachable(
    xmpp_server: XmppServer, proxy: Proxy, settings: Any
) -> None:
    async with open_session(xmpp_server.login("alice", port=proxy.port)) as session:
        settings.PUBSUBCACHE_IQ_TIMEOUT = 0.2
        proxy.holding = True
        with pytest.raises(ServiceUnreachable, match=r"did not answer within 0\.2 seconds"):
            await session.get_features(xmpp_server.pubsub)
        proxy.holding = False
        settings.PUBSUBCACHE_IQ_TIMEOUT = TIMEOUT
        assert await session.get_features(xmpp_server.pubsub)


async def test_a_silent_connection_is_noticed(
    xmpp_server: XmppServer, proxy: Proxy, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PUBSUBCACHE_IQ_TIMEOUT = 0.3
    monkeypatch.setattr(client, "KEEPALIVE_INTERVAL", 0.3)
    async with watched(xmpp_server.login("alice", port=proxy.port)) as run:
        await run.until_online(1)
        proxy.holding = True
        await run.until(lambda: any("no longer answers" in status.detail for status in run.statuses))
        proxy.holding = False
        await run.until_online(2)


async def test_oversized_answer_is_refused_and_the_session_stays(
    xmpp_server: XmppServer, node: NodeAddress, settings: Any
) -> None:
    async with open_session(xmpp_server.login("bob")) as bob:
        for name in ("big", "bigger"):  # together more than one read from the socket
            await bob.publish(node, entry("x" * 200_000), name)
        await bob.publish(node, entry("x"), "last")  # the one that ejabberd repeats at login
    async with watched(xmpp_server.login("alice")) as run:
        await run.until_online(1)
        settings.PUBSUBCACHE_MAX_STANZA_SIZE = 150_000
        with pytest.raises(TooLarge, match="longer than 150000 bytes"):
            await run.session.get_items(node, ItemsRequest())
        assert (await run.session.get_items(node, ItemsRequest(item_ids=("last",)))).items
        assert [status.state for status in run.statuses] == ["connecting", "online"]


async def test_stopping_is_safe_at_any_point(xmpp_server: XmppServer) -> None:
    never_run = Session(xmpp_server.login("alice"))
    await never_run.stop()
    await never_run.run()

    for wait in (0, 1, 3, 10, 50):
        async with watched(xmpp_server.login("alice")) as run:
            for _ in range(wait):
                await asyncio.sleep(0)
            await asyncio.wait_for(asyncio.gather(run.session.stop(), run.session.stop()), 60)
            assert run.task.done()
            await run.session.stop()

    async with watched(xmpp_server.login("alice")) as run:
        await run.until_online(1)
        await asyncio.wait_for(run.session.stop(), 60)
        assert run.task.done()
        assert run.statuses[-1].state == "offline"


async def test_a_cancelled_run_leaves_no_session_behind(xmpp_server: XmppServer) -> None:
    async with watched(xmpp_server.login("alice")) as run:
        await run.until_online(1)
        run.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run.task
        assert not run.session.online
    left = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]
    assert not {name for name in left if name.startswith(("XMLStream", "Client", "Session"))}
