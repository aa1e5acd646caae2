"""What a hostile service costs those who read from another one: site and worker are one process, as by default.

The good service and the hostile one are processes of their own. An attack also takes time of the machine and of the
XMPP server, so each one is measured twice: on this site, and on another site in a process of its own. Against the
latter, what is measured here shows what the cache does; against a quiet machine, what its readers see.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import psutil
from django.conf import settings

from pubsubcache.exceptions import PubsubCacheError
from pubsubcache.models import PubsubItem, PubsubNode
from pubsubcache.store import in_thread, nodes
from pubsubcache.types import NodeAddress
from pubsubcache.worker import process
from tests.acceptance.site import Site
from tests.benchmarks.attacker import NODES
from tests.benchmarks.plan import Figure, Plan, at_most
from tests.benchmarks.servers import RunningServer, describe
from tests.benchmarks.world import PREFIX, site_of

ATTACKS = ("endless", "flood", "silent")
READERS = 40
ALLOWED = 100.0  # MiB more than at the start
SETTLING = 2.0  # seconds between the beginning of an attack and the first measurement
CACHED, LIVE = f"{PREFIX}cached", f"{PREFIX}live"
OTHER_USER = "bob"

Times = dict[str, list[float]]
Order = Callable[..., Awaitable[None]]


async def measure(servers: dict[str, RunningServer], plan: Plan) -> list[Figure]:
    """Measure on Prosody, with external components as services."""
    settings.PUBSUBCACHE_SYNC_TIMEOUT = 20.0
    process.set_up()  # as `pubsub_serve` does
    server = servers["prosody"]
    site = site_of(server)
    await site.add_account()
    figures: list[Figure] = []
    async with (
        _service(server, "good", [CACHED, LIVE]) as good,
        _service(server, "evil", NODES) as evil,
        _bystander(server) as bystander,
        site.working(),
    ):
        cached, live = (NodeAddress(f"good.{server.domain}", name) for name in (CACHED, LIVE))
        hostile = hostile_nodes(server)
        await site.cached(cached)
        await add_nodes(site, hostile)
        quiet = await _times(site, good, cached, live, plan.calls_small)
        for kind, taken in quiet.items():
            figures.append(Figure("hostile", f"no attack: {kind}", statistics.median(taken), "ms"))
        memory = _memory()
        for name in ATTACKS:
            await bystander("attacked")
            await evil(*_order(name, server.jid(OTHER_USER)))
            await asyncio.sleep(SETTLING)
            elsewhere = await _times(site, good, cached, live, plan.calls_small)
            await evil("calm")
            await bystander("calm")
            await asyncio.sleep(SETTLING)
            async with under_attack(site, hostile):
                await evil(*_order(name, site.jid))
                await asyncio.sleep(SETTLING)
                here = await _times(site, good, cached, live, plan.calls_small)
                await evil("calm")
            await asyncio.sleep(SETTLING)
            figures += _compared(name, quiet, elsewhere, here)
            more = _memory() - memory
            figures.append(at_most("hostile", f"{name}: memory more than at the start", more, ALLOWED, "MiB"))
    return figures


def _order(attack: str, jid: str) -> list[str]:
    return [attack, jid] if attack == "flood" else [attack]


def _compared(attack: str, quiet: Times, elsewhere: Times, here: Times) -> list[Figure]:
    figures = []
    for kind, taken in here.items():
        median = statistics.median(taken)
        if kind == "notification":
            figures.append(at_most("hostile", f"{attack}: {kind}, the slowest", max(taken), 2000, "ms"))
        else:
            figures.append(Figure("hostile", f"{attack}: {kind}", median, "ms"))
            figures.append(Figure("hostile", f"{attack}: {kind}, 95 of 100 within", _percentile(taken), "ms"))
            for words, usual in (("another site attacked", elsewhere), ("no attack", quiet)):
                ratio = median / statistics.median(usual[kind])
                figures.append(at_most("hostile", f"{attack}: {kind} against {words}", ratio, 2, "x"))
    return figures


def _percentile(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=20)[-1]


def hostile_nodes(server: RunningServer) -> list[NodeAddress]:
    """Return the addresses of the attacker's nodes."""
    return [NodeAddress(f"evil.{server.domain}", name) for name in NODES]


async def add_nodes(site: Site, addresses: list[NodeAddress]) -> None:
    """Wait until the nodes are cached."""
    for address in addresses:
        await site.cached(address)


def _memory() -> float:
    return float(psutil.Process(os.getpid()).memory_info().rss) / 1024 / 1024


# Other processes


@asynccontextmanager
async def _process(module: str, told: Any, **environment: str) -> AsyncIterator[Order]:
    """Run a module of this package, which was `told` something; give what gives it an order, and waits for it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"tests.benchmarks.{module}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environment},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    async def say(*words: str) -> None:
        stdin.write(f"{' '.join(words)}\n".encode())
        if not await asyncio.wait_for(stdout.readline(), 60):
            raise RuntimeError(f"{module} has ended.")

    try:
        await say(json.dumps(told))
        yield say
    finally:
        stdin.close()
        await process.wait()


@asynccontextmanager
async def _service(server: RunningServer, name: str, node_names: list[str]) -> AsyncIterator[Order]:
    async with _process("attacker", {"server": describe(server), "name": name, "nodes": node_names}) as order:
        yield order


@asynccontextmanager
async def _bystander(server: RunningServer) -> AsyncIterator[Order]:
    with tempfile.TemporaryDirectory(prefix="pubsubcache-bystander-") as folder:
        own = f"sqlite:///{folder}/db.sqlite3"
        async with _process("bystander", describe(server), DATABASE_URL=own, DATA_DIR=folder) as order:
            yield order


# What is measured


@asynccontextmanager
async def under_attack(site: Site, addresses: list[NodeAddress]) -> AsyncIterator[None]:
    """Read from the hostile service and synchronise its nodes during the block."""

    async def read(address: NodeAddress) -> None:
        while True:
            with suppress(PubsubCacheError):
                await site.read(address, use_cache=False, max_items=5)
            await asyncio.sleep(0.5)

    for address in addresses:
        rows = PubsubNode.objects.filter(account__jid=site.jid, service=address.service, name=address.name)
        await in_thread(nodes.request_sync)(rows)
    tasks = [asyncio.create_task(read(addresses[number % len(addresses)])) for number in range(READERS)]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _times(site: Site, good: Order, cached: NodeAddress, live: NodeAddress, calls: int) -> Times:
    """Return the times, in milliseconds, of hits, live reads and notifications of the good service."""

    async def hit() -> None:
        page = await site.read(cached, cache_only=True, max_items=20)
        assert page.items

    async def live_read() -> None:
        await site.read(live, use_cache=False)

    async def notified() -> None:
        name = f"note-{time.monotonic_ns()}"
        await good("publish", cached.name, name)
        while not await in_thread(PubsubItem.objects.filter(name=name).exists)():  # noqa: ASYNC110  (no events)
            await asyncio.sleep(0.002)

    measured = {"hit": hit, "live read": live_read, "notification": notified}
    times: Times = {kind: [] for kind in measured}
    for _ in range(calls):
        for kind, call in measured.items():
            began = time.perf_counter()
            await call()
            times[kind].append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0.02)  # so that the calls are spread over the attack
    return times
