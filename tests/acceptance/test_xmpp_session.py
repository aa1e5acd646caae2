"""Sessions against real servers, and against servers that misbehave."""

import asyncio
import base64
import contextlib
import logging
import ssl
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from pubsubcache.exceptions import AuthenticationFailed, ServiceUnreachable, TooLarge, UntrustedServer
from pubsubcache.types import ItemsRequest, NodeAddress, Publish, PubsubEvent
from pubsubcache.xmpp import client
from pubsubcache.xmpp.session import Login, Session, SessionStatus, open_session
from tests.servers.xmpp import XmppServer

TIMEOUT = 30


class Proxy:
    """A TCP proxy before a server, whose connections can be cut, or fall silent."""

    def __init__(self, host: str, port: int) -> None:
        self.target = host, port
        self.connections = 0
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            server_reader, server_writer = await asyncio.open_connection(*self.target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, server_writer}
        async with asyncio.TaskGroup() as group:
            group.create_task(self._copy(reader, server_writer))
            group.create_task(self._copy(server_reader, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self.flowing.wait()
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # a cut
        writer.transport.abort()


class Watched:
    """A session that runs, with all that it reported."""

    def __init__(self, login: Login) -> None:
        self.reports: list[SessionStatus | PubsubEvent] = []
        self.session = Session(login, on_event=self._report, on_status=self._report)
        self._changed = asyncio.Event()
        self.task = asyncio.create_task(self.session.run())

    def _report(self, report: SessionStatus | PubsubEvent) -> None:
        self.reports.append(report)
        self._changed.set()

    @property
    def statuses(self) -> list[SessionStatus]:
        return [report for report in self.reports if isinstance(report, SessionStatus)]

    @property
    def events(self) -> list[PubsubEvent]:
        return [report for report in self.reports if isinstance(report, PubsubEvent)]

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(TIMEOUT):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_online(self, times: int) -> SessionStatus:
        """Wait for the session to have come online so many times, and return how it did the last time."""
        await self.until(lambda: len(self._onlines()) >= times)
        return self._onlines()[times - 1]

    def _onlines(self) -> list[SessionStatus]:
        return [status for status in self.statuses if status.state == "online"]


@contextlib.asynccontextmanager
async def watched(login: Login) -> AsyncIterator[Watched]:
    run = Watched(login)
    try:
        yield run
    finally:
        await run.session.stop()
        await asyncio.gather(run.task, return_exceptions=True)


@pytest.fixture(autouse=True)
def impatient(settings: Any) -> None:
    settings.PUBSUBCACHE_RECONNECT_MAX_DELAY = 0.2


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What is expected of a network leaves no traceback, and no secret, in the log."""
    yield
    records = caplog.get_records("call")
    assert not [record.getMessage() for record in records if record.exc_info or record.name == "asyncio"]


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
    """The ids in the notifications of a node; ejabberd also repeats the last item of other nodes at a login."""
    changes = [change for event in run.events if event.node == address.name for change in event.changes]
    return [change.item.id for change in changes if isinstance(change, Publish)]


async def test_a_short_session_logs_in_asks_and_leaves(xmpp_server: XmppServer) -> None:
    async with open_session(xmpp_server.login("alice")) as session:
        assert session.online
        assert "http://jabber.org/protocol/pubsub" in await session.get_features(xmpp_server.pubsub)
    assert not session.online
    with pytest.raises(ServiceUnreachable):
        await session.get_features(xmpp_server.pubsub)


async def test_a_wrong_password_is_tried_once(
    xmpp_server: XmppServer, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "slixmpp")
    async with watched(xmpp_server.login("alice", password="wrong-secret", port=proxy.port)) as run:
        with pytest.raises(AuthenticationFailed) as caught:
            await asyncio.wait_for(run.task, TIMEOUT)
        assert [status.state for status in run.statuses] == ["connecting", "auth_failed"]
        assert xmpp_server.jid("alice") in str(caught.value)
        assert "wrong-secret" not in repr(run.reports) + str(caught.value) + repr(run.session.login) + caplog.text
        assert proxy.connections == 1


async def test_an_untrusted_certificate_is_refused_and_tried_again_later(xmpp_server: XmppServer) -> None:
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


async def test_a_server_that_comes_later_is_found(xmpp_server: XmppServer, unused_tcp_port: int) -> None:
    async with watched(xmpp_server.login("alice", port=unused_tcp_port)) as run:
        await run.until(lambda: len(run.statuses) >= 4)
        assert [status.state for status in run.statuses[:4]] == ["connecting", "offline", "connecting", "offline"]
        assert "Connection refused" in run.statuses[1].detail
        with pytest.raises(ServiceUnreachable):
            await run.session.get_item_ids(NodeAddress(xmpp_server.pubsub, "any"))
        late = Proxy(xmpp_server.host, xmpp_server.port)
        server = await asyncio.start_server(late._serve, "127.0.0.1", unused_tcp_port)
        assert not (await run.until_online(1)).resumed
        server.close()


async def test_an_unknown_domain_is_a_sentence() -> None:
    with pytest.raises(ServiceUnreachable, match=r"nonexistent\.invalid cannot be reached"):
        async with open_session(Login("alice@nonexistent.invalid", "x")):
            pass


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


async def test_a_cut_stream_is_resumed_with_all_that_came_meanwhile(
    xmpp_server: XmppServer, proxy: Proxy, node: NodeAddress
) -> None:
    async with watched(xmpp_server.login("alice", port=proxy.port)) as run:
        first = await run.until_online(1)
        await publish(xmpp_server, node, "before")
        await run.until(lambda: published(run, node) == ["before"])
        proxy.flowing.clear()
        await publish(xmpp_server, node, "during-1", "during-2")
        proxy.cut()
        proxy.flowing.set()
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
        proxy.flowing.clear()
        requests = [asyncio.create_task(run.session.get_items(node, ItemsRequest())) for _ in range(40)]
        await asyncio.sleep(0)
        proxy.cut()
        results = await asyncio.wait_for(asyncio.gather(*requests, return_exceptions=True), 5)
        assert {type(result) for result in results} == {ServiceUnreachable}
        proxy.flowing.set()
        assert (await run.until_online(2)).resumed
        assert (await run.session.get_items(node, ItemsRequest())).items == []


async def test_a_service_that_does_not_answer_is_unreachable(
    xmpp_server: XmppServer, proxy: Proxy, settings: Any
) -> None:
    async with open_session(xmpp_server.login("alice", port=proxy.port)) as session:
        settings.PUBSUBCACHE_IQ_TIMEOUT = 0.2
        proxy.flowing.clear()
        with pytest.raises(ServiceUnreachable, match=r"did not answer within 0\.2 seconds"):
            await session.get_features(xmpp_server.pubsub)
        proxy.flowing.set()
        settings.PUBSUBCACHE_IQ_TIMEOUT = TIMEOUT
        assert await session.get_features(xmpp_server.pubsub)


async def test_a_silent_connection_is_noticed(
    xmpp_server: XmppServer, proxy: Proxy, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.PUBSUBCACHE_IQ_TIMEOUT = 0.3
    monkeypatch.setattr(client, "KEEPALIVE_INTERVAL", 0.3)
    async with watched(xmpp_server.login("alice", port=proxy.port)) as run:
        await run.until_online(1)
        proxy.flowing.clear()
        await run.until(lambda: any("no longer answers" in status.detail for status in run.statuses))
        proxy.flowing.set()
        await run.until_online(2)


async def test_an_answer_over_the_bound_is_refused_and_the_session_stays(
    xmpp_server: XmppServer, node: NodeAddress, settings: Any
) -> None:
    async with open_session(xmpp_server.login("bob")) as bob:
        for name in ("big", "bigger"):  # more than is read from the socket at once, in one answer
            await bob.publish(node, entry("x" * 200_000), name)
        await bob.publish(node, entry("x"), "last")  # which ejabberd sends at a login
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
            await asyncio.wait_for(asyncio.gather(run.session.stop(), run.session.stop()), 10)
            assert run.task.done()
            await run.session.stop()

    async with watched(xmpp_server.login("alice")) as run:
        await run.until_online(1)
        await asyncio.wait_for(run.session.stop(), 10)
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


Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

HEADER = b"<?xml version='1.0'?><stream:stream id='1' version='1.0' xmlns='jabber:client' "
HEADER += b"xmlns:stream='http://etherx.jabber.org/streams'>"
STARTTLS = b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"


def mechanisms(*names: str) -> bytes:
    inner = "".join(f"<mechanism>{name}</mechanism>" for name in names)
    offer = f"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{inner}</mechanisms>"
    return f"<stream:features>{offer}</stream:features>".encode()


@contextlib.asynccontextmanager
async def bad_server(*answers: bytes, certificates: Any = None) -> AsyncIterator[tuple[int, bytearray]]:
    """A server that gives each answer after something came, whatever it was; TLS first with `certificates`.

    Yields its port and what came since the answers began.
    """
    received = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await talk(reader, writer)
        writer.close()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if certificates is not None:
            await reader.read(65536)
            writer.write(HEADER + STARTTLS)
            await reader.read(65536)
            writer.write(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificates)
            await writer.start_tls(context)
        for answer in answers:
            received.extend(await reader.read(65536))
            writer.write(answer)
        while data := await reader.read(65536):
            received.extend(data)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], received


async def refusal(login: Login) -> Exception:
    with pytest.raises(ServiceUnreachable) as caught:
        async with open_session(login):
            pass
    return caught.value


async def test_without_tls_nothing_of_the_login_is_sent() -> None:
    async with bad_server(HEADER + mechanisms("PLAIN", "SCRAM-SHA-1")) as (port, received):
        error = await refusal(Login("alice@bad.test", "secret", host="127.0.0.1", port=port))
    assert isinstance(error, UntrustedServer)
    assert "offers no TLS" in str(error)
    assert b"<auth" not in received


@pytest.mark.parametrize(
    ("prolog", "words"),
    [
        (b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY a 'b'>]>" + HEADER[21:], "document type definition"),
        (b"<!-- -->" + HEADER, "comment"),
        (HEADER.decode().encode("utf-16"), "does not speak XMPP"),
        (HEADER[21:].decode().encode("utf-16-be"), "does not speak XMPP"),
        (HEADER + b"<a></b>", "not well-formed"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak XMPP"),
        (HEADER + b"<stream:features>" + b"<x/>" * 30_000, "longer than 100000 bytes"),
        (b"<?" + b"x" * 5000, "does not speak XMPP"),
        (
            HEADER
            + b"<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>evil.test:1</see-other-host>"
            + b"</stream:error></stream:stream>",
            "see-other-host",
        ),
    ],
)
async def test_a_stream_that_no_server_may_send_is_ended(prolog: bytes, words: str, settings: Any) -> None:
    settings.PUBSUBCACHE_MAX_STANZA_SIZE = 100_000
    async with bad_server(prolog) as (port, _):
        error = await refusal(Login("alice@bad.test", "secret", host="127.0.0.1", port=port))
    assert words in str(error)


async def test_a_server_that_says_nothing_is_given_up(settings: Any) -> None:
    settings.PUBSUBCACHE_CONNECT_TIMEOUT = 0.3
    async with bad_server() as (port, _):
        error = await refusal(Login("alice@bad.test", "secret", host="127.0.0.1", port=port))
    assert "took over 0.3 seconds" in str(error)


@pytest.fixture
def bundle(prosody: Any, tmp_path: Path) -> Path:
    """The certificate of Prosody's domain with its key, for a server in its place."""
    path = tmp_path / "both.pem"
    path.write_bytes(prosody.certificates.bundle)
    return path


async def test_the_certificate_must_be_that_of_the_domain(prosody: Any, bundle: Path) -> None:
    async with bad_server(certificates=bundle) as (port, _):
        error = await refusal(prosody.login("alice", jid="alice@elsewhere.test", port=port))
    assert isinstance(error, UntrustedServer)
    assert "not valid for 'elsewhere.test'" in str(error)


async def test_a_password_is_not_sent_as_it_is(prosody: Any, bundle: Path, settings: Any) -> None:
    async with bad_server(HEADER + mechanisms("PLAIN"), certificates=bundle) as (port, received):
        error = await refusal(prosody.login("alice", port=port))
        assert isinstance(error, AuthenticationFailed)
        assert "no safe way to log in: PLAIN" in str(error)
        assert b"<auth" not in received

        settings.PUBSUBCACHE_ALLOW_PLAINTEXT_AUTH = True
        settings.PUBSUBCACHE_CONNECT_TIMEOUT = 0.5
        await refusal(prosody.login("alice", port=port))
        assert b"PLAIN" in received


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (b"i=2000000000", "too many iterations"),
        (b"i=4095", "too few iterations (4095, at least 4096 are safe)"),
        (b"i=0", "too few iterations"),
        (b"i=-1", "no usable iteration count"),
        (b"i=+2000000000", "no usable iteration count"),
        (b"i=4096,i=1", "no usable iteration count"),
    ],
)
async def test_login_challenge_with_a_dangerous_iteration_count_is_refused(
    prosody: Any, bundle: Path, count: bytes, words: str
) -> None:
    challenge = base64.b64encode(b"r=x,s=QSXCR+Q6sek8bf92," + count).decode()
    answers = (
        HEADER + mechanisms("SCRAM-SHA-1"),
        f"<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{challenge}</challenge>".encode(),
    )
    async with bad_server(*answers, certificates=bundle) as (port, received):
        error = await refusal(prosody.login("alice", port=port))
    assert words in str(error)
    assert b"<response" not in received


async def test_a_refusal_for_the_time_being_is_no_wrong_password(prosody: Any, bundle: Path) -> None:
    failure = b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><temporary-auth-failure/></failure>"
    async with bad_server(HEADER + mechanisms("SCRAM-SHA-1"), failure, certificates=bundle) as (port, _):
        error = await refusal(prosody.login("alice", port=port))
    assert type(error) is ServiceUnreachable
    assert "temporary-auth-failure" in str(error)
