"""Test the building blocks of attacks on both servers."""

import asyncio
import socket
import ssl
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from django.db import connection

from pubsubcache.exceptions import ServiceError
from pubsubcache.models import Account
from tests.acceptance.site import Site
from tests.adversary import process
from tests.adversary.clock import Clock
from tests.adversary.component import Refusal, entry
from tests.adversary.conftest import MakeHostile, MakeStranger, StartWorker
from tests.servers.manage import environment
from tests.servers.xmpp import XmppServer


async def test_hostile_service_is_cached_and_followed_like_any_other(site: Site, hostile: MakeHostile) -> None:
    service = await hostile(site.server)
    address = service.add_node("urn:xmpp:microblog:0", 3)
    page = await site.cached(address)
    assert [item.id for item in page.items] == ["item-0", "item-1", "item-2"]
    assert service.subscribers["urn:xmpp:microblog:0"] == {site.jid}
    service.publish(address.name, "new", entry("New"))
    await site.converged(address)
    assert await site.names(address) == ["item-0", "item-1", "item-2", "new"]


async def test_hostile_service_can_refuse_and_be_silent(site: Site, hostile: MakeHostile) -> None:
    service = await hostile(site.server)
    address = service.add_node("blog", 1)

    def refuse(request: Any) -> str:
        raise Refusal("forbidden", "go & away")

    service.answers["get_items"] = refuse
    with pytest.raises(ServiceError, match="go & away"):
        await site.read(address)
    service.answers.clear()
    service.silent = {"get_items"}
    reading = asyncio.create_task(site.read(address))
    await site.until(lambda: asyncio.sleep(0, service.asked() > 1))
    service.silent = False
    reading.cancel()
    await asyncio.wait({reading})
    assert len((await site.read(address)).items) == 1


async def test_stranger_reaches_an_account(xmpp_server: XmppServer, stranger: MakeStranger) -> None:
    carol, other = await stranger(xmpp_server), await stranger(xmpp_server, "bob")
    got = other.loop.create_future()
    other.add_event_handler("message", lambda message: got.set_result(message["body"]))
    other.send_presence()
    await other.say("<iq type='get' id='x'><ping xmlns='urn:xmpp:ping'/></iq>")
    await carol.chat(other.boundjid.full, "")
    assert await asyncio.wait_for(got, 60) == "hi"


def test_clock_affects_only_its_process_and_at_once(tmp_path: Path, db: None) -> None:
    clock = Clock(tmp_path / "clock", 7200)
    script = (
        "import asyncio, sys, time\n"
        "async def main():\n"
        "    for _ in range(2):\n"
        "        before = time.monotonic(); await asyncio.sleep(0.05); assert time.monotonic() - before < 5\n"
        "        print(time.time(), flush=True); sys.stdin.readline()\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment(clock.environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdin is not None
        assert run.stdout is not None
        assert float(run.stdout.readline()) - time.time() == pytest.approx(7200, abs=60)
        clock.offset = -3600
        run.stdin.write("\n\n")
        run.stdin.flush()
        assert float(run.stdout.readline()) - time.time() == pytest.approx(-3600, abs=60)


def test_process_is_paused_outside_a_transaction(live_database: None) -> None:
    script = (
        "import signal, sqlite3, sys, time\n"
        "database = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "database.execute('BEGIN IMMEDIATE')\n"
        "print('begun', flush=True)\n"
        "time.sleep(1)\n"  # so that the first pause finds the transaction
        "database.execute('ROLLBACK')\n"
        "signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, connection.settings_dict["NAME"]], stdout=subprocess.PIPE, text=True
    ) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "begun\n"
            process.pause(writer)
            Account.objects.create(jid="writable@example.org")
        finally:
            writer.kill()


async def test_worker_runs_with_its_own_clock(idle_site: Site, worker: StartWorker, tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    started = await worker(idle_site, **clock.environment)
    clock.offset = 3600
    with process.paused(started):
        assert started.running
    clock.offset = 0

    async def continues() -> bool:
        return f"-{started.pid}-" in (await idle_site.account()).worker and await idle_site.is_online()

    await idle_site.until(continues)
    assert process.memory(started) > 10
    process.kill(started)
    assert not started.running


def _presented(server: XmppServer) -> x509.Certificate:
    """Return the certificate that the server shows to a new client."""
    with socket.create_connection((server.host, server.port), timeout=60) as plain:
        plain.sendall(
            f"<stream:stream to='{server.domain}' xmlns='jabber:client' version='1.0'"
            " xmlns:stream='http://etherx.jabber.org/streams'>".encode()
        )
        got = b""
        while b"</stream:features>" not in got:
            got += plain.recv(65536)
        plain.sendall(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        while b"<proceed" not in got or not got.rstrip().endswith(b">"):
            got += plain.recv(65536)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain, server_hostname=server.domain) as tls:
            return x509.load_der_x509_certificate(tls.getpeercert(binary_form=True) or b"")


async def test_another_certificate_is_presented_without_a_restart(xmpp_server: Any) -> None:
    before = (xmpp_server.certificates.key.read_bytes(), xmpp_server.certificates.certificate.read_bytes())
    try:
        xmpp_server.present_certificate(xmpp_server.certificates.issue([xmpp_server.domain], timedelta(days=-1)))

        async def expired() -> bool:
            shown = await asyncio.to_thread(_presented, xmpp_server)
            return bool(shown.not_valid_after_utc < datetime.now(UTC))

        await Site(xmpp_server).until(expired)
    finally:
        xmpp_server.present_certificate(b"".join(before))
