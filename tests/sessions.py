"""Sessions that record their reports, and servers with scripted answers, for tests of the transport."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pubsubcache.exceptions import ServiceUnreachable
from pubsubcache.types import PubsubEvent
from pubsubcache.xmpp.session import Login, Session, SessionStatus, open_session

TIMEOUT = 30
#: A hostile text of a server, as XML: line breaks, terminal escape sequences, and far too long.
NASTY = "refused&#10;2026-01-01 00:00:00 INFO forged&#13;&#x85;&#x202e;\u2028" + "x" * 6_000_000


class Watched:
    """A running session and everything that it reported."""

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
        """Wait until the session has come online `times` times, and return the status of the last time."""
        await self.until(lambda: len(self._onlines()) >= times)
        return self._onlines()[times - 1]

    def _onlines(self) -> list[SessionStatus]:
        return [status for status in self.statuses if status.state == "online"]


@contextlib.asynccontextmanager
async def watched(login: Login) -> AsyncIterator[Watched]:
    """Run a session inside the block."""
    run = Watched(login)
    try:
        yield run
    finally:
        await run.session.stop()
        await asyncio.gather(run.task, return_exceptions=True)


HEADER = b"<?xml version='1.0'?><stream:stream id='1' version='1.0' xmlns='jabber:client' "
HEADER += b"xmlns:stream='http://etherx.jabber.org/streams'>"
STARTTLS = b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>"


def mechanisms(*names: str) -> bytes:
    """Return stream features that offer these SASL mechanisms."""
    inner = "".join(f"<mechanism>{name}</mechanism>" for name in names)
    offer = f"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{inner}</mechanisms>"
    return f"<stream:features>{offer}</stream:features>".encode()


@contextlib.asynccontextmanager
async def scripted_server(*answers: bytes, bundle: Path | None = None) -> AsyncIterator[tuple[int, bytearray]]:
    """Run a server that sends the next answer each time it receives something.

    With `bundle`, a key with its certificate, it starts TLS first. Yields its port and what it received after that.
    """
    received = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await talk(reader, writer)
        writer.close()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if bundle is not None:
            await reader.read(65536)
            writer.write(HEADER + STARTTLS)
            await reader.read(65536)
            writer.write(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(bundle)
            await writer.start_tls(context)
        for answer in answers:
            received.extend(await reader.read(65536))
            writer.write(answer)
        while data := await reader.read(65536):
            received.extend(data)

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], received


async def refusal(login: Login) -> Exception:
    """Return the reason why a session cannot be opened."""
    with pytest.raises(ServiceUnreachable) as caught:
        async with open_session(login):
            pass
    return caught.value


def assert_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Assert that ordinary network errors left no traceback, and so no secret, in the log."""
    records = caplog.get_records("call")
    assert not [record.getMessage() for record in records if record.exc_info or record.name == "asyncio"]


def assert_clean(text: str) -> None:
    """Assert that a text made from `NASTY` is one short line."""
    assert len(text) <= 1000
    assert text.isprintable()
    assert "refused 2026" in text
