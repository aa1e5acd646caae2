"""Fixtures of attackers and of the sites that they attack."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from pubsubcache.store import in_thread
from tests.acceptance.conftest import site
from tests.acceptance.site import Site
from tests.adversary.component import HostileService
from tests.adversary.process import QUICK, QUICK_CONSTANTS, resume
from tests.adversary.stranger import Stranger, open_stranger
from tests.servers.manage import ManagedProcess
from tests.servers.xmpp import XmppServer

__all__ = ["site"]

MakeHostile = Callable[..., Awaitable[HostileService]]
MakeStranger = Callable[..., Awaitable[Stranger]]
StartWorker = Callable[..., Awaitable[ManagedProcess]]


@pytest.fixture(autouse=True)
def quick(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use the same short times as the workers that `worker` starts."""
    for name, value in QUICK.items():
        setattr(settings, name, float(value))
    for name, number in QUICK_CONSTANTS.items():
        monkeypatch.setattr(name, number)


@pytest.fixture
async def hostile() -> AsyncIterator[MakeHostile]:
    """`await hostile(server, "evil")` returns a hostile service that stays connected until the test ends."""
    async with AsyncExitStack() as stack:

        async def connect(server: XmppServer, name: str = "evil") -> HostileService:
            return await stack.enter_async_context(HostileService(server, name))

        yield connect


@pytest.fixture
async def stranger() -> AsyncIterator[MakeStranger]:
    """`await stranger(server)` returns a client of carol's that stays logged in until the test ends."""
    async with AsyncExitStack() as stack:

        async def log_in(server: XmppServer, user: str = "carol") -> Stranger:
            return await stack.enter_async_context(open_stranger(server, user))

        yield log_in


@pytest.fixture
async def idle_site(xmpp_server: XmppServer, live_database: None) -> Site:
    """A site with alice's account and no worker."""
    site = Site(xmpp_server)
    await site.add_account()
    return site


@pytest.fixture
async def worker(live_database: None, on_redis: dict[str, str], tmp_path: Path) -> AsyncIterator[StartWorker]:
    """`await worker(site, PUBSUBCACHE_PAGE_SIZE="10")` starts a worker process with this environment.

    Web processes reach it through Redis. With `site`, the call waits until the worker has the session of the site's
    account. `log_file` replaces its own log file.
    """
    started: list[ManagedProcess] = []

    async def start(
        site: Site | None = None,
        log_file: Path | None = None,
        constants: Mapping[str, float] | None = None,
        **environment: str,
    ) -> ManagedProcess:
        env = {**QUICK, **on_redis, **environment}
        folder = tmp_path / f"worker-{len(started)}"
        patched = {**QUICK_CONSTANTS, **(constants or {})}
        process = ManagedProcess(folder, "pubsub_worker", env=env, ready=lambda: True, constants=patched)
        process.log_file = log_file or process.log_file
        started.append(process)
        await in_thread(process.start)()

        async def holds() -> bool:
            assert process.running, process.log_file
            account = await site.account()
            return account.is_online() and f"-{process.pid}-" in account.worker

        if site is not None:
            await site.until(holds)
        return process

    yield start
    for process in started:
        if process.running:
            resume(process)
        await in_thread(process.stop)()
