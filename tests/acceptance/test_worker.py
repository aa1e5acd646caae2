"""Test workers in their own processes: they serve web processes, stop on signals and replace one another."""

import asyncio
import os
import signal
from typing import Any

import pytest
from django.test import override_settings

from pubsubcache import cache
from pubsubcache.exceptions import ItemNotFound, ServiceUnreachable
from pubsubcache.models import Account
from pubsubcache.services import remote
from pubsubcache.store import in_thread, remove_accounts
from pubsubcache.types import NodeAddress
from tests.acceptance.site import Site, cached_node, entry, make_node, publish_many


@pytest.fixture
async def site(xmpp_server, live_database: None) -> Site:
    site = Site(xmpp_server)
    await site.add_account()
    return site


@pytest.mark.both_databases
async def test_a_web_process_is_served_by_the_worker(site: Site, client, start_manage, on_redis) -> None:
    await in_thread(start_manage)("pubsub_worker", env=on_redis, ready=lambda: True)
    await site.until(site.is_online)
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 400)
    first = await site.read(address)
    assert (first.origin, len(first.items)) == ("service", 400)
    await site.in_sync(address)
    assert (await site.read(address)).origin == "cache"
    live = await site.read(address, use_cache=False, rsm={"max": 3})
    assert live.origin == "service"
    assert [item.id for item in live.items] == ["item-0", "item-1", "item-2"]
    page = await in_thread(cache.get_items_sync)(site.jid, address.service, address.name, use_cache=False)
    assert len(page.items) == 400
    with pytest.raises(ItemNotFound):
        await site.read(NodeAddress(site.server.pubsub, "urn:example:nothing"))
    await bob.publish(address, entry("New"), "new")
    await site.converged(address)


async def test_signal_ends_a_worker_cleanly(site: Site, start_manage) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        worker = await in_thread(start_manage)("pubsub_worker", ready=lambda: True)
        await site.until(site.is_online)
        worker.stop_signal = number
        await asyncio.to_thread(worker.stop)
        assert worker.exit_code == 0
        account = await site.account()
        assert (account.status, account.worker, account.session_started) == ("offline", "", None)


@pytest.mark.both_databases
async def test_worker_takes_over_only_from_a_dead_one(site: Site, start_manage) -> None:
    env = {"PUBSUBCACHE_LEASE_TIMEOUT": "2"}
    with override_settings(PUBSUBCACHE_LEASE_TIMEOUT=2):
        first = await in_thread(start_manage)("pubsub_worker", env=env, ready=lambda: True)
        await site.until(site.is_online)
        holder = (await site.account()).worker
        await in_thread(start_manage)("pubsub_worker", env=env, ready=lambda: True)
        for _ in range(5):
            await asyncio.sleep(0.3)
            assert (await site.account()).worker == holder
        os.kill(first.pid, signal.SIGKILL)

        async def taken_over() -> bool:
            account = await site.account()
            return account.worker not in ("", holder) and account.is_online()

        await site.until(taken_over)


async def test_wrong_password_is_logged_once_and_a_new_one_is_used(site: Site, start_manage) -> None:
    right = (await site.account()).password
    await site.add_account(password="wrong")
    quick = dict.fromkeys(("RECONNECT_DELAY", "RECONNECT_MAX_DELAY", "POLL_INTERVAL"), "0.1")
    env = {f"PUBSUBCACHE_{name}": seconds for name, seconds in quick.items()}
    worker = await in_thread(start_manage)("pubsub_worker", env=env, ready=lambda: True)

    async def refused() -> Any:
        account = await site.account()
        return account if account.status == Account.Status.AUTH_FAILED else None

    account = await site.until(refused)
    assert "wrong" not in account.status_detail
    assert site.jid in account.status_detail
    await asyncio.sleep(1)  # ten times the delay between attempts, if there were more
    assert worker.log_tail().count("refused") <= 2
    await site.add_account(password=right)
    await site.until(site.is_online)


async def test_read_without_a_worker_raises_service_unreachable(site: Site) -> None:
    with pytest.raises(ServiceUnreachable):
        await site.read(NodeAddress(site.server.pubsub, "urn:example:any"))


async def test_a_service_that_is_down_leaves_stale_answers(site: Site, client) -> None:
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 3)
    async with site.working():
        before = await site.cached(address)
        await in_thread(site.server.stop)()
        try:

            async def stale() -> Any:
                page = await site.read(address)
                return page if page.stale else None

            page = await site.until(stale)
            assert page.origin == "cache"
            assert [item.xml for item in page.items] == [item.xml for item in before.items]
            with pytest.raises(ServiceUnreachable):
                await site.read(address, use_cache=False)
        finally:
            await in_thread(site.server.start)()
        await site.converged(address)
        assert not (await site.read(address)).stale


async def test_removed_account_leaves_no_subscription(site: Site, client) -> None:
    alice, bob = await client(site.server, "alice"), await client(site.server)
    async with site.working():
        address = await cached_node(site, bob, 3)
        assert await alice.get_subscriptions(address)
        # The worker may end the subscription between two batches.
        assert sum(await in_thread(remove_accounts)(Account.objects.filter(jid=site.jid))) == 1
        await remote.awake()
        await site.until(in_thread(lambda: not Account.objects.exists()))
    assert await alice.get_subscriptions(address) == []
