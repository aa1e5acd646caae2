"""Notifications: a burst until all are stored, single ones until each is, against receiving them only."""

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pubsubcache.signals import items_published
from pubsubcache.types import NodeAddress, PubsubEvent
from pubsubcache.xmpp.session import Session, open_session
from tests.acceptance.site import Site, entry, make_node
from tests.benchmarks.plan import Figure, Job, Plan, at_least
from tests.benchmarks.publisher import burst_names
from tests.benchmarks.servers import RunningServer, describe
from tests.benchmarks.world import PREFIX, site_of
from tests.servers.xmpp import wait_online

TIMEOUT = 300.0


async def measure(servers: dict[str, RunningServer], plan: Plan) -> list[Figure]:
    """Measure on ejabberd."""
    server = servers["ejabberd"]
    site = site_of(server)
    await site.add_account()
    received, stored, right = [], [], True
    async with site.working(), _publisher(server) as publish, open_session(server.login("bob")) as bob:
        for number in range(plan.rounds):
            received.append(await _receive(server, bob, publish, plan.burst, number))
            seconds, equal = await _store(site, bob, publish, plan.burst)
            stored.append(seconds)
            right = right and equal
        arrival, row = await _singles(site, server, bob, plan.singles)
    place = f"ejabberd, {plan.burst} at once"
    ratio = statistics.median(received) / statistics.median(stored)
    return [
        Figure("burst", f"{place}: received, nothing stored", plan.burst / statistics.median(received), "items/s"),
        Figure("burst", f"{place}: stored", plan.burst / statistics.median(stored), "items/s"),
        Figure("burst", f"{place}: stored against received", ratio, "x"),
        at_least("burst", f"{place}: all stored, as the service has them (1: yes)", float(right), 1),
        Figure("notification", "ejabberd, one: published until received", arrival, "ms"),
        Figure("notification", "ejabberd, one: published until its row is committed", row, "ms"),
    ]


@dataclass
class Watch:
    """Counts what came of a burst; `done` is set when all is there."""

    wanted: set[str]
    done: asyncio.Event = field(default_factory=asyncio.Event)

    def came(self, names: list[str]) -> None:
        """Note that items have come."""
        self.wanted.difference_update(names)
        if not self.wanted:
            self.done.set()


@asynccontextmanager
async def _publisher(server: RunningServer) -> AsyncIterator[Callable[[NodeAddress, int], Any]]:
    """Give a function that has another process publish a burst, which is over when it returns."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.publisher"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    described = describe(server)
    process.stdin.write(Job([], Plan(), {server.name: described}).to_json().encode() + b"\n")
    await process.stdout.readline()

    async def publish(address: NodeAddress, count: int) -> None:
        process.stdin.write(f"{count} {address.service} {address.name}\n".encode())
        assert await process.stdout.readline() == b"done\n"

    try:
        yield publish
    finally:
        process.stdin.close()
        await process.wait()


@asynccontextmanager
async def _counting(
    server: RunningServer, address: NodeAddress, came: Callable[[list[str]], None]
) -> AsyncIterator[None]:
    """Have carol receive the notifications of a node meanwhile, which stores nothing."""

    def note(event: PubsubEvent) -> None:
        if event.node == address.name:
            came([change.item.id for change in event.changes])

    session = Session(server.login("carol"), on_event=note)
    task = asyncio.create_task(session.run())
    try:
        await wait_online(session, TIMEOUT)
        await session.subscribe(address)
        yield
    finally:
        await session.stop()
        await task


@asynccontextmanager
async def _stored(node_pk: int, came: Callable[[list[str]], None]) -> AsyncIterator[None]:
    """Have `came` called with the ids of a node's items once their rows are committed."""
    loop = asyncio.get_running_loop()

    def receive(sender: Any, node_pk: int, names: list[str], **_: Any) -> None:
        if node_pk == wanted:
            loop.call_soon_threadsafe(came, list(names))

    wanted = node_pk
    items_published.connect(receive)
    try:
        yield
    finally:
        items_published.disconnect(receive)


async def _receive(server: RunningServer, bob: Session, publish: Any, count: int, number: int) -> float:
    """Return the seconds until a burst is received."""
    address = await make_node(bob, server, f"{PREFIX}received-{time.time_ns()}-{number}")
    watch = Watch(set(burst_names(count)))
    async with _counting(server, address, watch.came):
        return await _timed(publish, address, count, watch)


async def _followed(site: Site, bob: Session) -> tuple[NodeAddress, int]:
    """Return a new node that the cache follows, and its row's key."""
    address = await make_node(bob, site.server, f"{PREFIX}stored-{time.time_ns()}")
    await bob.publish(address, entry("Here before"), "before")
    await site.cached(address)
    node = await site.node(address)
    assert node is not None
    return address, node.pk


async def _store(site: Site, bob: Session, publish: Any, count: int) -> tuple[float, bool]:
    """Return the seconds until a burst is stored, and whether the cache then came to equal the service."""
    address, pk = await _followed(site, bob)
    watch = Watch(set(burst_names(count)))
    async with _stored(pk, watch.came):
        seconds = await _timed(publish, address, count, watch)
    await site.converged(address)
    names = await site.names(address)
    return seconds, names == ["before", *dict.fromkeys(burst_names(count))]


async def _timed(publish: Any, address: NodeAddress, count: int, watch: Watch) -> float:
    began = time.perf_counter()
    publishing = asyncio.create_task(publish(address, count))
    async with asyncio.timeout(TIMEOUT):
        await watch.done.wait()
    seconds = time.perf_counter() - began
    await publishing
    return seconds


async def _singles(site: Site, server: RunningServer, bob: Session, count: int) -> tuple[float, float]:
    """Return the median milliseconds from publishing an item until it is received, and until it is stored."""
    address, pk = await _followed(site, bob)
    times: dict[str, list[float]] = {"received": [], "stored": []}
    watches: dict[str, Watch] = {}
    began = 0.0

    def came(kind: str) -> Callable[[list[str]], None]:
        def note(names: list[str]) -> None:
            if kind in watches and set(names) & watches[kind].wanted:
                times[kind].append((time.perf_counter() - began) * 1000)
                watches[kind].came(names)

        return note

    async with _counting(server, address, came("received")), _stored(pk, came("stored")):
        for number in range(count):
            watches |= {kind: Watch({f"single-{number}"}) for kind in times}
            began = time.perf_counter()
            await bob.publish(address, entry(f"Single {number}"), f"single-{number}")
            async with asyncio.timeout(TIMEOUT):
                await asyncio.gather(*(watch.done.wait() for watch in watches.values()))
    return statistics.median(times["received"]), statistics.median(times["stored"])
