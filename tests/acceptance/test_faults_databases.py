"""Test that nothing is lost while the database is unavailable."""

import asyncio
import sqlite3
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, InterfaceError, connection, connections
from django.db.backends.signals import connection_created

from pubsubcache.store import in_thread
from pubsubcache.types import NodeAddress
from tests.acceptance.site import Site, entry, make_node, publish_many

pytestmark = pytest.mark.both_databases

LOCKED = 2.0  # seconds; longer than the timeout of a connection in this test


@pytest.fixture
def impatient(live_database: None) -> Any:
    """Make new SQLite connections wait only half a second for another writer."""
    if connection.vendor != "sqlite":
        yield
        connections.close_all()  # the server has closed them already
        return
    options = connection.settings_dict["OPTIONS"]
    before, options["timeout"] = options["timeout"], 0.5
    connections.close_all()
    yield
    options["timeout"] = before
    connections.close_all()


async def _away(request: pytest.FixtureRequest) -> Any:
    """Make the database unavailable; return the function that restores it."""
    if connection.vendor == "sqlite":
        other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, check_same_thread=False)
        await asyncio.to_thread(other.execute, "BEGIN IMMEDIATE")

        async def unlock() -> None:
            await asyncio.sleep(LOCKED)
            other.execute("ROLLBACK")
            other.close()

        return unlock
    server = request.getfixturevalue("postgresql")
    await asyncio.to_thread(server.stop)

    async def start() -> None:
        await asyncio.to_thread(server.start)

    return start


async def test_notifications_are_kept_while_the_database_is_unavailable(
    request: pytest.FixtureRequest, xmpp_server, impatient: None, client
) -> None:
    site = Site(xmpp_server)
    await in_thread(connections.close_all)()
    await site.add_account()
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 10)
    async with site.working():
        await site.cached(address)
        back = await _away(request)
        try:
            await publish_many(bob, address, 40, first=10)
            await bob.publish(address, entry("Edited"), "item-3")
            await bob.retract(address, "item-5", notify=True)
        finally:
            await back()

        async def complete() -> bool:
            return "item-49" in await site.names(address)

        await site.until(_false_on_database_errors(complete))
        await site.until(site.is_online)
        await site.converged(address)
    assert len(await site.names(address)) == 49


def _false_on_database_errors(condition: Any) -> Any:
    """Treat an error of the database as false."""

    async def hold() -> bool:
        try:
            return bool(await condition())
        except (DatabaseError, InterfaceError, psycopg.Error):
            return False

    return hold


@pytest.fixture
def disk(live_database: None) -> Any:
    """`disk("full")` makes the database refuse to grow, `disk("free")` lets it grow again."""
    opened: list[Any] = []  # by any thread

    def limit(sender: Any, connection: Any, **rest: Any) -> None:
        opened.append(connection)
        set_limit(connection)

    def set_limit(connection: Any) -> None:
        if (raw := connection.connection) is not None:
            (pages,) = raw.execute("PRAGMA page_count").fetchone()
            raw.execute(f"PRAGMA max_page_count = {pages if full else 1 << 30}")

    def sqlite(state: str) -> None:
        nonlocal full
        full = state == "full"
        with connection.cursor() as cursor:
            cursor.execute("VACUUM")  # so that no page is free
        connections.close_all()
        for each in opened:
            set_limit(each)

    def postgresql(state: str) -> None:
        refuse = "BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END"
        with connection.cursor() as cursor:
            if state == "free":
                cursor.execute("DROP FUNCTION IF EXISTS refuse CASCADE")
                return
            cursor.execute(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {refuse} $$")
            cursor.execute("CREATE TRIGGER refuse BEFORE INSERT ON pubsubcache_pubsubitem EXECUTE FUNCTION refuse()")
        connections.close_all()

    full = False
    change = sqlite if connection.vendor == "sqlite" else postgresql
    if connection.vendor == "sqlite":
        connection_created.connect(limit)
    yield change
    change("free")
    connection_created.disconnect(limit)
    connections.close_all()


async def test_a_full_disk(xmpp_server, disk: Any, client, settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    settings.PUBSUBCACHE_RETRY_DELAY = 0.5
    site = Site(xmpp_server)
    await site.add_account()
    bob = await client(site.server)
    address, other = await make_node(bob, site.server), await make_node(bob, site.server)
    await publish_many(bob, address, 10)
    await publish_many(bob, other, 10)
    async with site.working():
        await site.cached(address)
        await in_thread(disk)("full")
        for number in range(30):
            await bob.publish(address, entry("Large", content=f"{number} " * 5_000), f"large-{number}")
        await site.until(lambda: _noted(site, address))
        page = await site.read(address)
        assert [item.id for item in page.items][-1] == "large-29"
        assert len(page.items) == 40
        assert len((await site.read(other)).items) == 10
        assert await site.is_online()
        await in_thread(disk)("free")
        await site.converged(address)
        await site.cached(other)
        await site.converged(other)
    assert [record for record in caplog.records if record.exc_info] == []


async def _noted(site: Site, address: NodeAddress) -> bool:
    """Return whether the node's row gives the reason why it is not in sync."""
    node = await site.node(address)
    return node is not None and ("full" in node.sync_error or "space" in node.sync_error)
