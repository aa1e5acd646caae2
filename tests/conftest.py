"""Servers and a database for all tests. A server is started when the first test asks for it, and never twice."""

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

# Property tests take the time they need on a busy machine, and leave no folder behind.
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
    """Hash the passwords of users in no time; what a site does takes long on purpose."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(scope="session")
def prosody(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestProsody]:
    """A private Prosody, running; a test that stops it starts it again.

    What breaks it would make later tests fail, for no reason that they show: so it must not.
    """
    with TestProsody(tmp_path_factory.mktemp("prosody")) as server:
        yield server
        assert "Traceback[" not in server.log_file.read_text(errors="replace"), "A test broke Prosody; see its log."


@pytest.fixture(scope="session")
def ejabberd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ejabberd]:
    """A private ejabberd, running; a test that stops it starts it again."""
    with Ejabberd(tmp_path_factory.mktemp("ejabberd")) as server:
        yield server


@pytest.fixture(params=["prosody", "ejabberd"])
def xmpp_server(request: pytest.FixtureRequest) -> XmppServer:
    """One XMPP server after the other."""
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
    """One XMPP server after the other, whose sessions cannot be resumed (XEP-0198)."""
    return _without_resumption(request.param)


@pytest.fixture
async def client() -> AsyncIterator[Callable[..., Awaitable[Any]]]:
    """Another client: `await client(server, "bob")` is a session of bob's, open until the test ends."""
    from pubsubcache.xmpp.session import open_session

    async with AsyncExitStack() as sessions:

        async def open_client(server: XmppServer, user: str = "bob", **changes: Any) -> Any:
            return await sessions.enter_async_context(open_session(server.login(user, **changes)))

        yield open_client


@pytest.fixture(scope="session")
def postgresql(pytestconfig: pytest.Config) -> Iterator[PostgreSQL]:
    """A private PostgreSQL, running: the one of the tests' database if that is what the run is on."""
    if server := pytestconfig.stash.get(server_key, None):
        yield server
        return
    with PostgreSQL() as own_server:
        yield own_server


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """A private Redis, running; a test that stops it starts it again."""
    with Redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def on_redis(redis_server: Redis) -> Iterator[dict[str, str]]:
    """Have the test's process reach workers by Redis; the environment with which they do."""
    redis_server.start()
    with override_settings(CHANNEL_LAYERS=redis_server.channel_layers):
        yield {"REDIS_URL": redis_server.url}


@pytest.fixture(scope="session")
def _chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def browser(_chromium: Chrome) -> Iterator[Chrome]:
    """A browser that remembers nothing of the test before."""
    yield _chromium
    forget_visits(_chromium)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(pytestconfig: pytest.Config) -> None:
    """Keep SQLite's test database in a file, where other threads and processes find it."""
    from django.db import connection

    if connection.vendor == "sqlite":
        connection.settings_dict["TEST"]["NAME"] = str(pytestconfig.stash[folder_key] / "test.sqlite3")


@pytest.fixture
def live_database(transactional_db: None) -> None:
    """The tests' database with real transactions, so that other threads and processes see what is written."""


@pytest.fixture
def manage(live_database: None) -> Callable[..., Any]:
    """`manage("pubsub_get", "-n", "blog", env={...})` runs a command in its own process to its end."""
    return run_manage


@pytest.fixture
def start_manage(live_database: None, tmp_path: Path) -> Iterator[Callable[..., ManagedProcess]]:
    """`start_manage("pubsub_worker", ready=...)` starts a command that runs on, until the test ends."""
    started: list[ManagedProcess] = []

    def start(*arguments: str, **options: Any) -> ManagedProcess:
        process = ManagedProcess(tmp_path / f"process-{len(started)}", *arguments, **options)
        started.append(process)
        process.start()
        return process

    yield start
    for process in reversed(started):
        process.stop()
