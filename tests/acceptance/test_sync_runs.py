"""Test that a worker records its synchronisations with their reasons and counts, and counts what happens."""

from typing import Any

import pytest

from pubsubcache import store
from pubsubcache.models import Activity, PubsubNode, SyncRun
from pubsubcache.store import in_thread
from pubsubcache.types import NodeAddress
from tests.acceptance.site import Site, entry, make_node, publish_many

Recorded = tuple[str, str, str, int, int, int]


@in_thread
def _runs(address: NodeAddress) -> list[Recorded]:
    runs = SyncRun.objects.filter(node__service=address.service, node__name=address.name).order_by("pk")
    return list(runs.values_list("kind", "reason", "outcome", "added", "updated", "removed"))


@in_thread
def _request_purged_items(address: NodeAddress) -> None:
    nodes = PubsubNode.objects.filter(service=address.service, name=address.name)
    store.evict(nodes)
    store.request_sync(nodes)


@in_thread
def _activity() -> dict[str, int]:
    return Activity.objects.per_hour(2)[-1]


@pytest.mark.both_databases
async def test_first_read_staff_reconnect_and_schedule_are_recorded(
    prosody: Any, live_database: None, client: Any, settings: Any
) -> None:
    prosody.start()
    site = Site(prosody)
    await site.add_account()
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 5)

    async def recorded(*expected: Recorded) -> None:
        async def all_recorded() -> bool:
            return (await _runs(address))[-len(expected) :] == list(expected)

        await site.until(all_recorded)

    first = ("full", "first", "done", 5, 0, 0)
    staff = ("full", "staff", "done", 5, 0, 0)
    async with site.working() as worker:
        await site.cached(address)
        await recorded(first)
        await _request_purged_items(address)
        worker._wake()
        await recorded(first, staff)
    assert (await _activity())["stored"] >= 10  # written when the worker stopped

    await bob.publish(address, entry("New"), "new")
    await bob.publish(address, entry("Edited"), "item-1")
    await bob.retract(address, "item-3")
    async with site.working():
        reconnect = ("full", "reconnect", "done", 1, 1, 1)
        await recorded(first, staff, reconnect)
        settings.PUBSUBCACHE_RECONCILE_INTERVAL = settings.PUBSUBCACHE_COMPARE_INTERVAL = 0.1
        contents = ("full", "contents", "done", 0, 0, 0)
        await recorded(first, staff, reconnect, contents)
