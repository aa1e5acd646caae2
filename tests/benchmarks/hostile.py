"""What a hostile service costs those who read from another one: site and worker are one process, as by default."""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import psutil
from django.conf import settings

from pubsubcache.exceptions import PubsubCacheError
from pubsubcache.store import in_thread, nodes
from pubsubcache.types import NodeAddress
from tests.acceptance.site import Site
from tests.adversary.component import HostileService, entry
from tests.benchmarks.attacker import NODES
from tests.benchmarks.plan import Figure, Plan, at_most
from tests.benchmarks.servers import RunningServer, describe
from tests.benchmarks.world import site_of

ATTACKS = ("silent", "endless", "flood")
READERS = 40
ALLOWED = 100.0  # MiB more than at the start


async def measure(servers: dict[str, RunningServer], plan: Plan) -> list[Figure]:
    """Measure on Prosody, with an external component as the hostile service."""
    settings.PUBSUBCACHE_SYNC_TIMEOUT = 20.0
    server = servers["prosody"]
    site = site_of(server)
    await site.add_account()
    async with HostileService(server, "good") as good, attacker(server) as attack, site.working():  # type: ignore[arg-type]
        cached, live = good.add_node(items=20), good.add_node(items=20)
        hostile = [NodeAddress(f"evil.{server.domain}", name) for name in NODES]
        await site.cached(cached)
        for address in hostile:
            await site.cached(address)
        usual = await _times(site, good, cached, live, plan.calls_small)
        figures: list[Figure] = []
        memory = _memory()
        for name in ATTACKS:
            async with attack(name), _readers(site, hostile):
                for address in hostile:
                    await in_thread(nodes.request_sync)(_rows(site, address))
                during = await _times(site, good, cached, live, plan.calls_small)
            for kind, took in during.items():
                bound = 2.0 if kind != "notification" else 2000.0 / usual[kind]
                title = f"{name}: {kind} against usual ({usual[kind]:.1f} ms)"
                figures.append(at_most("hostile", title, took / usual[kind], bound, "x"))
            figures.append(
                at_most("hostile", f"{name}: memory more than at the start", _memory() - memory, ALLOWED, "MiB")
            )
    return figures


def _rows(site: Site, address: NodeAddress) -> Any:
    from pubsubcache.models import PubsubNode

    return PubsubNode.objects.filter(account__jid=site.jid, service=address.service, name=address.name)


def _memory() -> float:
    return float(psutil.Process(os.getpid()).memory_info().rss) / 1024 / 1024


@asynccontextmanager
async def attacker(server: RunningServer) -> AsyncIterator[Callable[[str], Any]]:
    """Run a hostile service; `attack(name)` is a context in which it attacks."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.attacker", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    async def say(line: str) -> None:
        stdin.write(f"{line}\n".encode())
        await asyncio.wait_for(stdout.readline(), 30)

    @asynccontextmanager
    async def attack(name: str) -> AsyncIterator[None]:
        await say(name)
        try:
            yield
        finally:
            if name == "flood":
                await say("end")
            await say("none")

    try:
        await say(json.dumps(describe(server)))
        yield attack
    finally:
        stdin.close()
        await process.wait()


@asynccontextmanager
async def _readers(site: Site, addresses: list[NodeAddress]) -> AsyncIterator[None]:
    """Have many read from the hostile service meanwhile."""

    async def read(address: NodeAddress) -> None:
        while True:
            with suppress(PubsubCacheError):
                await site.read(address, use_cache=False, max_items=5)
            await asyncio.sleep(0.5)

    tasks = [asyncio.create_task(read(addresses[number % len(addresses)])) for number in range(READERS)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _times(
    site: Site, good: HostileService, cached: NodeAddress, live: NodeAddress, calls: int
) -> dict[str, float]:
    """Return the medians, in milliseconds, of a hit, a live read and a notification of the good service."""
    numbers = iter(range(calls))

    async def notified() -> None:
        name = f"note-{time.monotonic_ns()}-{next(numbers)}"
        good.publish(cached.name, name, entry(name))
        while name not in await site.names(cached):  # noqa: ASYNC110  (the database has no events)
            await asyncio.sleep(0.002)

    async def hit() -> None:
        page = await site.read(cached, cache_only=True, max_items=20)
        assert page.items

    return {
        "hit": await _median(hit, calls),
        "live read": await _median(lambda: site.read(live, use_cache=False), calls),
        "notification": await _median(notified, min(20, calls)),
    }


async def _median(call: Callable[[], Awaitable[Any]], calls: int) -> float:
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        await call()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000
