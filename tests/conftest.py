"""Servers and a database for all tests. A server starts when a test first needs it, and only once."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, settings
from selenium.webdriver import Chrome

from tests.database import folder_key, server_key
from tests.selection import how_many
from tests.servers.chromium import chromium, forget_visits
from tests.servers.ejabberd import Ejabberd
from tests.servers.manage import ManagedProcess
from tests.servers.manage import manage as run_manage
from tests.servers.postgresql import PostgreSQL
from tests.servers.redis import Redis
from tests.servers.xmpp import TestProsody, XmppServer

# Property tests have no deadline, as the machine may be busy, and write no folder.
settings.register_profile(
    "tests",
    max_examples=how_many(100, 1000),
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("tests")


@pytest.fixture(scope="session", autouse=True)
def quick_passwords() -> Iterator[None]:
    """Use a fast password hasher, as the default one is slow on purpose."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(scope="session")
def prosody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestProsody]:
    """A running private Prosody; a test that stops it starts it again.

    A traceback in its log fails the run, as later, unrelated tests would fail for the same reason.
    """
    with TestProsody(tmp_path_factory.mktemp("prosody")) as server:
        yield server
        assert "Traceback[" not in server.log_file.read_text(errors="replace"), "A test broke Prosody; see its log."


@pytest.fixture(scope="session")
def ejabberd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ejabberd]:
    """A running private ejabberd; a test that stops it starts it again."""
    with Ejabberd(tmp_path_factory.mktemp("ejabberd")) as server:
        yield server


@pytest.fixture(params=["prosody", "ejabberd"])
def xmpp_server(request: pytest.FixtureRequest) -> XmppServer:
    """Each of the XMPP servers in turn."""
    server: XmppServer = request.getfixturevalue(request.param)
    server.start()
    return server


@pytest.fixture(scope="session")
def _without_resumption(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], XmppServer]]:
    with ExitStack() as stack:
        started: dict[str, Any] = {}

        def start(name: str) -> XmppServer:
            if name not in started:
                kind = {"prosody": TestProsody, "ejabberd": Ejabberd}[name]
                folder = tmp_path_factory.mktemp(f"{name}-without-resumption")
                started[name] = stack.enter_context(kind(folder, stream_management=False))
            started[name].start()
            server: XmppServer = started[name]
            return server

        yield start


@pytest.fixture(params=["prosody", "ejabberd"])
def server_without_resumption(
    request: pytest.FixtureRequest, _without_resumption: Callable[[str], XmppServer]
) -> XmppServer:
    """Each of the XMPP servers in turn, without resumption of streams (XEP-0198)."""
    return _without_resumption(request.param)


@pytest.fixture
async def client() -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """`await client(server, "bob")` opens a session of bob's, which is closed when the test ends."""
    from pubsubcache.xmpp.session import open_session

    async with AsyncExitStack() as sessions:

        async def open_client(server: XmppServer, user: str = "bob", **changes: Any) -> Any:
            return await sessions.enter_async_context(open_session(server.login(user, **changes)))

        yield open_client


@pytest.fixture(scope="session")
def postgresql(pytestconfig: pytest.Config) -> Iterator[PostgreSQL]:
    """A running private PostgreSQL: the one with the test database if the run uses PostgreSQL."""
    if server := pytestconfig.stash.get(server_key, None):
        yield server
        return
    with PostgreSQL() as own_server:
        yield own_server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A running private Redis; a test that stops it starts it again."""
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def on_redis(redis_server: Redis) -> Iterator[dict[str, str]]:
    """Connect the test process to workers through Redis; the value is the environment that workers need."""
    redis_server.start()
    with override_settings(CHANNEL_LAYERS=redis_server.channel_layers):
        yield {"REDIS_URL": redis_server.url}


@pytest.fixture(scope="session")
def _chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def browser(_chromium: Chrome) -> Iterator[Chrome]:
    """A browser without cookies or storage of earlier tests."""
    yield _chromium
    forget_visits(_chromium)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(pytestconfig: pytest.Config) -> None:
    """Keep SQLite's test database in a file, so that other threads and processes can open it."""
    from django.db import connection

    if connection.vendor == "sqlite":
        connection.settings_dict["TEST"]["NAME"] = str(pytestconfig.stash[folder_key] / "test.sqlite3")


@pytest.fixture
def live_database(transactional_db: None) -> None:
    """The test database with real transactions, so that other threads and processes see what is written."""


@pytest.fixture
def manage(live_database: None) -> Callable[..., Any]:
    """`manage("pubsub_get", "-n", "blog", env={...})` runs a command in its own process until it exits."""
    return run_manage


@pytest.fixture
def start_manage(live_database: None, tmp_path: Path) -> Iterator[Callable[..., ManagedProcess]]:
    """`start_manage("pubsub_worker", ready=...)` starts a command that is stopped when the test ends."""
    started: list[ManagedProcess] = []

    def start(*arguments: str, **options: Any) -> ManagedProcess:
        process = ManagedProcess(tmp_path / f"process-{len(started)}", *arguments, **options)
        started.append(process)
        process.start()
        return process

    yield start
    for process in reversed(started):
        process.stop()
