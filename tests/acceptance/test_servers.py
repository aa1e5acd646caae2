"""Test the private servers: they answer, keep their data over a restart, and leave no process behind."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import psycopg
import pytest
from selenium.webdriver import Chrome

from project.sample.process import PrivateServer
from pubsubcache.exceptions import ServiceError
from pubsubcache.types import NodeAddress
from tests.servers.chromium import chromium, forget_visits, open_page
from tests.servers.ejabberd import Ejabberd
from tests.servers.postgresql import PostgreSQL
from tests.servers.processes import family, survivors
from tests.servers.redis import Redis
from tests.servers.xmpp import TestProsody, XmppServer

ROOT = Path(__file__).resolve().parents[2]


def is_listening(server: PrivateServer) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((server.host, server.port)) == 0


@pytest.mark.parametrize("kind", [TestProsody, Ejabberd, Redis])
def test_server_stops_with_all_its_processes(kind: type[PrivateServer], tmp_path: Path) -> None:
    server = kind(tmp_path / "server")
    with server:
        processes = family(server.pid)
        assert is_listening(server)
    assert not is_listening(server)
    assert not survivors(processes)


def test_postgresql_stops_and_removes_its_data() -> None:
    with PostgreSQL() as server:
        processes = family(server.pid)
        assert len(processes) > 1
    assert not survivors(processes)
    assert not server.folder.exists()


def test_chromium_stops_with_all_its_processes(tmp_path: Path) -> None:
    before = set(psutil.Process().children(recursive=True))
    with chromium(tmp_path) as browser:
        open_page(browser, "data:text/html,<title>a page</title>")
        assert browser.title == "a page"
        processes = [process for process in psutil.Process().children(recursive=True) if process not in before]
        assert len(processes) > 1
    assert not survivors(processes)


def test_killed_run_ends_its_servers(tmp_path: Path) -> None:
    script = "import sys, pathlib; from project.sample.prosody import Prosody; server = Prosody(pathlib.Path(sys.argv[1])); server.start(); print(server.pid, flush=True); sys.stdin.read()"  # noqa: E501
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout
        processes = family(int(run.stdout.readline()))
        run.send_signal(signal.SIGKILL)
    assert not survivors(processes)


async def test_nodes_outlive_a_restart(xmpp_server: XmppServer, client: Callable[..., Any]) -> None:
    address = NodeAddress(xmpp_server.pubsub, "kept")
    bob = await client(xmpp_server, "bob")
    await bob.create_node(address)
    xmpp_server.restart()
    again = await client(xmpp_server, "bob")
    with pytest.raises(ServiceError, match="conflict"):
        await again.create_node(address)
    await again.delete_node(address)


async def test_password_can_be_changed_while_running(xmpp_server: XmppServer, client: Callable[..., Any]) -> None:
    for password in ("one", "two"):
        xmpp_server.register("dave", password)
        assert (await client(xmpp_server, "dave")).online
    xmpp_server.users.pop("dave")


def test_rows_outlive_a_restart_of_postgresql(postgresql: PostgreSQL) -> None:
    database = "restarted"
    postgresql.create_database(database)
    with postgresql.connect(database) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    postgresql.restart()
    with postgresql.connect(database) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
    with postgresql.connect() as connection:
        connection.execute(f"DROP DATABASE {database}")


def test_a_connection_to_a_stopped_postgresql_is_refused(postgresql: PostgreSQL) -> None:
    postgresql.stop()
    with pytest.raises(psycopg.OperationalError):
        postgresql.connect()
    postgresql.start()
    postgresql.connect().close()


class Page(SimpleHTTPRequestHandler):
    """A page of a site that the browser may keep data of."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>a site</title>")

    def log_message(self, *arguments: Any) -> None:
        """Log nothing."""


@pytest.fixture
def site() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def test_browser_forgets_sites(browser: Chrome, site: str) -> None:
    kept = "return [document.cookie, localStorage.getItem('b')]"
    open_page(browser, site)
    browser.execute_script("document.cookie = 'a=1'; localStorage.setItem('b', '2')")
    assert browser.execute_script(kept) == ["a=1", "2"]
    forget_visits(browser)
    open_page(browser, site)
    assert browser.execute_script(kept) == ["", None]
