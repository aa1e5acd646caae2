"""Test that a flood of notifications uses bounded memory and does not delay other services."""

import asyncio

import pytest

from tests.acceptance.site import Site
from tests.adversary import process
from tests.adversary.component import entry
from tests.adversary.conftest import MakeHostile, StartWorker
from tests.selection import how_many

ALLOWED = 100.0  # megabytes above the start
SOON = 10.0


@pytest.mark.parametrize(("size", "count"), [(60_000, 400), (100, how_many(4_000, 12_000))], ids=["large", "many"])
async def test_flood_uses_bounded_memory_and_does_not_delay_others(
    idle_site: Site, hostile: MakeHostile, worker: StartWorker, size: int, count: int
) -> None:
    site = idle_site
    evil, good = await hostile(site.server), await hostile(site.server, "good")
    flooded, address = evil.add_node(items=2), good.add_node(items=2)
    started = await worker(site)
    await site.cached(flooded)
    await site.cached(address)
    before = highest = process.memory(started)
    flood = asyncio.create_task(evil.flood([flooded.name], count, payload=entry("{number} " + "x " * (size // 2))))
    number = 0
    try:
        while not flood.done():
            number += 1
            name = f"good-{number}"
            good.publish(address.name, name, entry(name))
            async with asyncio.timeout(SOON):
                while name not in await site.names(address):
                    highest = max(highest, process.memory(started))
                    await asyncio.sleep(0.05)
        async with asyncio.timeout(120):
            await evil.ping(evil.session_of(site.jid))
    finally:
        flood.cancel()
        await asyncio.wait({flood})
    highest = max(highest, process.memory(started))
    assert highest - before < ALLOWED
