"""Test clocks that are wrong or jump."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone

from pubsubcache.models import Account
from pubsubcache.store import in_thread, nodes
from tests.acceptance.site import Site
from tests.adversary import process
from tests.adversary.clock import Clock
from tests.adversary.component import entry
from tests.adversary.conftest import MakeHostile, StartWorker

pytestmark = [pytest.mark.both_databases, pytest.mark.one_server]


async def test_future_heartbeat_of_a_dead_worker_does_not_block_takeover(
    idle_site: Site, hostile: MakeHostile, worker: StartWorker
) -> None:
    site, service = idle_site, await hostile(idle_site.server)
    address = service.add_node(items=2)
    dead = await worker(site)
    await site.cached(address)
    process.kill(dead)
    future = timezone.now() + timedelta(hours=2)
    await in_thread(Account.objects.filter(jid=site.jid).update)(heartbeat=future)
    await worker()

    async def taken_over() -> bool:
        account = await site.account()
        return account.is_online() and f"-{dead.pid}-" not in account.worker

    await site.until(taken_over)
    service.publish(address.name, "new", entry("New"))
    await site.converged(address)


async def test_dead_worker_with_a_fast_clock_does_not_block_takeover(
    idle_site: Site, worker: StartWorker, tmp_path: Path
) -> None:
    clock = Clock(tmp_path / "clock", 7200)
    dead = await worker(**clock.environment)

    async def held() -> bool:
        return f"-{dead.pid}-" in (await idle_site.account()).worker

    await idle_site.until(held)
    process.kill(dead)
    await worker()

    async def taken_over() -> bool:
        account = await idle_site.account()
        return account.is_online() and f"-{dead.pid}-" not in account.worker

    await idle_site.until(taken_over)


async def test_clock_that_steps_back_causes_no_storm_of_synchronisations(
    idle_site: Site, hostile: MakeHostile, worker: StartWorker, tmp_path: Path
) -> None:
    site, service, clock = idle_site, await hostile(idle_site.server), Clock(tmp_path / "clock")
    address = service.add_node(items=3)
    workers = [await worker(**clock.environment) for _ in range(2)]
    await site.until(site.is_online)
    await site.cached(address)
    node = await site.in_sync(address)
    clock.offset = -3600
    await in_thread(nodes.invalidate_node)(node.pk)  # synchronises it once, at a time before its session began
    beats: set[Any] = set()

    async def many_beats() -> bool:
        beats.add((await site.account()).heartbeat)
        return len(beats) > 15

    before = service.counts()
    await site.until(many_beats)
    asked = service.counts() - before
    assert sum(asked.values()) <= 20, asked
    service.publish(address.name, "new", entry("New"))

    async def notified() -> bool:
        return "new" in await site.names(address)

    await site.until(notified)
    for started in workers:  # their library makes them slow to stop
        process.kill(started)


READ = """
from pubsubcache import cache
for use_cache in (True, False):
    page = cache.get_items_sync({jid!r}, {service!r}, {node!r}, use_cache=use_cache)
    print(page.origin, page.stale, len(page.items))
"""


@pytest.mark.postgresql_only
@pytest.mark.parametrize("offset", [20, -20])
async def test_reader_with_another_clock_sees_the_worker(
    idle_site: Site,
    hostile: MakeHostile,
    worker: StartWorker,
    manage: Any,
    on_redis: dict[str, str],
    tmp_path: Path,
    offset: int,
) -> None:
    site, service = idle_site, await hostile(idle_site.server)
    address = service.add_node(items=3)
    await worker(site)
    await site.cached(address)
    env = {**process.QUICK, **on_redis, **Clock(tmp_path / "clock", offset).environment}
    script = READ.format(jid=site.jid, service=address.service, node=address.name)
    read = await in_thread(manage)("shell", "-c", script, env=env)
    assert read.returncode == 0, read.stderr
    assert read.stdout.split("\n")[-3:] == ["cache False 3", "service False 3", ""]
