"""A database that is away for a while: nothing that came meanwhile is lost."""

import asyncio
import sqlite3
from typing import Any

import pytest
from django.db import connection, connections

from pubsubcache.store import in_thread
from tests.acceptance.site import Site, entry, make_node, publish_many

LOCKED = 4.0  # seconds; longer than the timeout of a connection in this test


@pytest.fixture
def impatient(live_database: None) -> Any:
    """Have new connections of SQLite wait only a second for another writer."""
    if connection.vendor != "sqlite":
        yield
        connections.close_all()  # which the server has closed already
        return
    options = connection.settings_dict["OPTIONS"]
    before, options["timeout"] = options["timeout"], 1
    connections.close_all()
    yield
    options["timeout"] = before
    connections.close_all()


async def _away(request: pytest.FixtureRequest) -> Any:
    """Take the database away; return how to bring it back."""
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


async def test_notifications_that_come_while_the_database_is_away(
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

        await site.until(_whatever_the_database_says(complete))
        await site.until(site.is_online)
        await site.converged(address)
    assert len(await site.names(address)) == 49


def _whatever_the_database_says(condition: Any) -> Any:
    """Take an error of the database for no."""

    async def hold() -> bool:
        try:
            return bool(await condition())
        except Exception as error:
            if type(error).__module__ not in ("django.db.utils", "psycopg", "psycopg_pool"):
                raise
            return False

    return hold
