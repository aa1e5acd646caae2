"""The last 10 items of a node: by the cache, by the service, and by the bare database driver."""

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import psycopg
from django.db import connection, connections

from pubsubcache import cache
from pubsubcache.services.sessions import sessions
from pubsubcache.types import ItemsRequest, NodeAddress
from tests.acceptance.site import Site
from tests.benchmarks.plan import Figure, Plan, at_least, at_most, interleaved
from tests.benchmarks.servers import RunningServer
from tests.benchmarks.world import filled, in_database, site_of

LAST = 10
QUERIES = 2
HOPED_FOR = {1_000: 20, 10_000: 40}  # the service's time against a hit's, by the node's items
Statement = tuple[str, Any]
_counted: ContextVar[bool] = ContextVar("counted", default=False)


async def measure(servers: dict[str, RunningServer], plan: Plan) -> list[Figure]:
    """Measure on each server; the large node only on ejabberd."""
    figures = []
    for name, server in servers.items():
        site = site_of(server)
        await site.add_account()
        async with site.working():
            sizes = [(plan.small, plan.calls_small)]
            if name == "ejabberd":
                sizes.append((plan.large, plan.calls_large))
            addresses = []
            for count, calls in sizes:
                # Prosody answers from its own database within milliseconds: no such ratio is to be had there.
                bound = HOPED_FOR.get(count) if name == "ejabberd" else None
                address = await filled(server, count)
                addresses.append(address)
                await site.cached(address, max_items=LAST)
                await in_database(_analyse_tables)
                figures += _figures(f"{name}, {count} items", await _times(site, address, calls), bound)
                queries = await _queries(site, address)
                figures.append(at_most("hit", f"{name}, {count} items: queries", queries, QUERIES))
            if len(addresses) > 1:
                title = f"{name}: get_items of {plan.large} items against {plan.small}"
                figures.append(at_most("hit", title, await _growth(site, addresses, plan.calls_small), 1.25, "x"))
    return figures


def _figures(place: str, times: dict[str, float], bound: int | None) -> list[Figure]:
    figures = [Figure("hit", f"{place}: {name}", value, "ms") for name, value in times.items()]
    for name in ("get_items", "get_items_sync"):
        ratio = times["the service itself"] / times[name]
        title = f"{place}: the service's time against {name}"
        figures.append(at_least("hit", title, ratio, bound, "x") if bound else Figure("hit", title, ratio, "x"))
        figures.append(Figure("hit", f"{place}: {name} against the driver", times[name] / times["driver"], "x"))
    return figures


async def _times(site: Site, address: NodeAddress, calls: int) -> dict[str, float]:
    """Return the median time of each way to get the last items, in milliseconds."""
    session = sessions.get(site.jid)
    assert session is not None
    statements = await in_database(_statements, site, address)
    loop = asyncio.get_running_loop()

    def read_sync() -> float:
        began = time.perf_counter()
        page = cache.get_items_sync(site.jid, address.service, address.name, max_items=LAST)
        taken = time.perf_counter() - began
        assert (page.origin, len(page.items)) == ("cache", LAST)
        return taken

    async def read() -> None:
        page = await site.read(address, max_items=LAST)
        assert (page.origin, len(page.items)) == ("cache", LAST)

    async def ask() -> None:
        page = await session.get_items(address, ItemsRequest(max_items=LAST))
        assert len(page.items) == LAST

    async def read_live() -> None:
        await site.read(address, max_items=LAST, use_cache=False)

    with ThreadPoolExecutor(1) as thread, _driver() as execute:

        async def read_in_thread() -> float:
            # Timed within: code that is not asynchronous is in a thread of its own to begin with.
            return await loop.run_in_executor(thread, read_sync)

        async def drive() -> None:
            for statement in statements:
                execute(*statement)

        contestants = {
            "get_items": read,
            "get_items_sync": read_in_thread,
            "use_cache=False": read_live,
            "the service itself": ask,
            "driver": drive,
        }
        for contestant in contestants.values():
            await contestant()
        times = await interleaved(calls, contestants)
        thread.submit(connections.close_all).result()
    return times


async def _growth(site: Site, addresses: list[NodeAddress], calls: int) -> float:
    """Return how many times as long a hit takes on the last of the nodes as on the first."""

    def reading(address: NodeAddress) -> Callable[[], Awaitable[Any]]:
        return lambda: site.read(address, max_items=LAST)

    times = await interleaved(calls, {address.name: reading(address) for address in addresses})
    return times[addresses[-1].name] / times[addresses[0].name]


def _look_up(site: Site, address: NodeAddress) -> None:
    cache.look_up(site.jid, address, ItemsRequest(max_items=LAST))


def _statements(site: Site, address: NodeAddress) -> list[Statement]:
    """Return the statements of a hit, as the driver is given them."""
    found: list[Statement] = []

    def note(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        found.append((sql.replace("%s", "?") if connection.vendor == "sqlite" else sql, tuple(params)))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        _look_up(site, address)
    return found


def _analyse_tables() -> None:
    """Have PostgreSQL count its rows now, as it does by itself within a minute."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


async def _queries(site: Site, address: NodeAddress) -> int:
    """Return how many statements a call of `get_items` sends, of whatever kind; the worker's own don't count."""
    sent: list[str] = []

    def note(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if _counted.get():
            sent.append(sql)
        return execute(sql, *rest)

    await in_database(lambda: connection.execute_wrappers.append(note))
    token = _counted.set(True)
    await site.read(address, max_items=LAST)
    _counted.reset(token)
    await in_database(lambda: connection.execute_wrappers.remove(note))
    return len(sent)


@contextmanager
def _driver() -> Iterator[Callable[..., Any]]:
    """Give a function that executes a statement on a connection of its own, without Django."""
    parts = connection.settings_dict
    if connection.vendor == "sqlite":
        opened: Any = sqlite3.connect(parts["NAME"])
    else:
        opened = psycopg.connect(
            host=parts["HOST"], port=parts["PORT"], user=parts["USER"], dbname=parts["NAME"], autocommit=True
        )
    try:
        yield lambda sql, params: opened.execute(sql, params).fetchall()
    finally:
        opened.close()
