"""Test workers that are stopped or paused, or that cannot write their log."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from pubsubcache.models import PubsubNode
from pubsubcache.store import in_thread, nodes, syncing
from tests.acceptance.site import Site, entry, make_node, publish_many
from tests.adversary import process
from tests.adversary.component import entry as entry_xml
from tests.adversary.conftest import MakeHostile, StartWorker
from tests.servers.redis import Redis

pytestmark = pytest.mark.one_server


@pytest.mark.both_databases
async def test_worker_paused_past_its_lease_writes_nothing(
    idle_site: Site, hostile: MakeHostile, worker: StartWorker
) -> None:
    site, service = idle_site, await hostile(idle_site.server)
    address = service.add_node(items={"x": entry_xml("v0")})
    first = await worker(site)
    await site.cached(address)
    session = service.session_of(site.jid)
    with process.paused(first):
        service.notify(address.name, {"x": entry_xml("v1"), "ghost": entry_xml("ghost")}, to=[session])
        service.nodes[address.name]["x"] = entry_xml("v2")
        second = await worker(site)
        await site.converged(address)
    await asyncio.wait({asyncio.create_task(service.ping(session))}, timeout=5)  # unless its session is lost
    await in_thread(first.stop)()
    items = await site.items(address)
    assert [item.name for item in items] == ["x"]
    assert "v2" in items[0].data
    assert f"-{second.pid}-" in (await site.account()).worker
    service.publish(address.name, "after", entry_xml("After"))
    await site.converged(address)


@pytest.mark.both_databases
async def test_worker_stopped_while_claiming_leaves_no_claim(
    idle_site: Site, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, claiming, claim = idle_site, asyncio.Event(), syncing.claim
    loop = asyncio.get_running_loop()

    def slow_claim(*args: Any, **kwargs: Any) -> Any:
        claimed = claim(*args, **kwargs)
        loop.call_soon_threadsafe(claiming.set)
        time.sleep(0.5)  # while the task that awaits it is cancelled
        return claimed

    monkeypatch.setattr(syncing, "claim", slow_claim)
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 2)
    async with site.working():
        await in_thread(nodes.get_or_create_node)(site.jid, address, by_hand=True)
        await asyncio.wait_for(claiming.wait(), 60)
    assert not await in_thread(PubsubNode.objects.exclude(sync_owner="").exists)()


async def test_worker_survives_a_full_disk_of_its_log(idle_site: Site, client: Any, worker: StartWorker) -> None:
    site, bob = idle_site, await client(idle_site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 3)
    started = await worker(site, log_file=Path("/dev/full"), LOG_LEVEL="DEBUG")
    await site.cached(address)
    await bob.publish(address, entry("New"), "new")
    await site.converged(address)
    assert started.running


async def test_secret_key_is_rotated_while_workers_run(
    idle_site: Site, client: Any, worker: StartWorker, redis_server: Redis, settings: Any
) -> None:
    site, bob = idle_site, await client(idle_site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 3)
    old, new = "the old key of tests " * 3, "the new key of tests " * 3
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = old, [new]
    settings.CHANNEL_LAYERS = redis_server.channel_layers
    await site.add_account()
    # First every process gets the new key as a fallback, then each starts to use it.
    first = await worker(site, SECRET_KEY=old, SECRET_KEY_FALLBACKS=new)
    await site.cached(address)
    second = await worker(SECRET_KEY=new, SECRET_KEY_FALLBACKS=old)
    await in_thread(first.stop)()

    async def taken_over() -> bool:
        return f"-{second.pid}-" in (await site.account()).worker and await site.is_online()

    await site.until(taken_over)
    await bob.publish(address, entry("New"), "new")

    async def notified() -> bool:
        return "new" in await site.names(address)

    await site.until(notified)


@pytest.mark.both_databases
async def test_workers_in_other_time_zones_share_accounts(idle_site: Site, client: Any, worker: StartWorker) -> None:
    site, bob = idle_site, await client(idle_site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 3)
    west = await worker(site, TZ="America/St_Johns", TIME_ZONE="America/St_Johns")
    east = await worker(TZ="Pacific/Chatham", TIME_ZONE="Pacific/Chatham")
    await site.cached(address)
    beats: set[Any] = set()

    async def held_for_long() -> bool:
        account = await site.account()
        assert f"-{west.pid}-" in account.worker
        beats.add(account.heartbeat)
        return len(beats) > 8

    await site.until(held_for_long)
    await in_thread(west.stop)()

    async def taken_over() -> bool:
        return f"-{east.pid}-" in (await site.account()).worker and await site.is_online()

    await site.until(taken_over)
    await bob.publish(address, entry("New"), "new")
    await site.converged(address)
    assert not (await site.read(address)).stale
