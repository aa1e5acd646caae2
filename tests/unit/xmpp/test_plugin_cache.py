"""Test how the cache handles writes of a client, including concurrent changes."""

import asyncio
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError

from pubsubcache import bots, cache
from pubsubcache.analysers import registry
from pubsubcache.bots import CacheOfAccount
from pubsubcache.exceptions import InvalidRequest, ServiceUnreachable
from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.services.sessions import sessions
from pubsubcache.store import in_thread, nodes
from pubsubcache.store.changes import Retraction, apply_changes
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.syncing.preparing import prepare
from pubsubcache.types import ItemsRequest, NodeAddress
from tests.fakes import ADDRESS, FakeService, in_loop, note_analyser

pytestmark = pytest.mark.django_db
JID = "alice@example.org"


@pytest.fixture(autouse=True)
def _notes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(bots, "QUIET", 0.0)
    with registry.temporarily(note_analyser(), replace=True):
        yield


@in_thread
def _make_node() -> int:
    account, _ = Account.objects.get_or_create(jid=JID)
    judgement = {"registry_fingerprint": registry.fingerprint(), "to_sync": True}
    return PubsubNode.objects.create(
        account=account, service=ADDRESS.service, name=ADDRESS.name, analyser="note", **judgement
    ).pk


@in_thread
def row(pk: int) -> PubsubNode:
    return PubsubNode.objects.get(pk=pk)


@in_thread
def cached(pk: int) -> list[tuple[str, str]]:
    return list(PubsubItem.objects.filter(node_id=pk).in_order().values_list("name", "data"))


async def synced(count: int = 5, **manners: Any) -> tuple[FakeService, int, CacheOfAccount]:
    """Return a service, one of its nodes in sync, and the cache of a client."""
    service = FakeService(**manners)
    service.fill(count)
    pk = await _make_node()
    await sync_node(service, pk)
    service.requests.clear()
    return service, pk, CacheOfAccount(JID, service)


async def settled(client: CacheOfAccount) -> None:
    """Wait until all background tasks have finished."""
    await asyncio.gather(*client._checking_ids.values())


async def check_equal(service: FakeService, pk: int) -> None:
    assert await cached(pk) == list(service.xml().items())


@pytest.mark.parametrize("moves", [False, True])
@in_loop
async def test_writes_update_the_cache(moves: bool) -> None:
    service, pk, client = await synced(moves_edited=moves)
    service.publish("new")
    await client.written(ADDRESS, ["new"])
    assert await cached(pk) == list(service.xml().items())
    service.publish("item-002", "Edited")
    await client.written(ADDRESS, ["item-002"])
    assert dict(await cached(pk)) == service.xml()
    await settled(client)
    await check_equal(service, pk)
    service.retract("item-001")
    await client.written(ADDRESS, ["item-001"])
    await check_equal(service, pk)
    assert cache.freshness(await in_thread(nodes.load_node)(pk)) is cache.Freshness.FRESH


@in_loop
async def test_later_notification_changes_nothing() -> None:
    service, pk, client = await synced()
    item = service.publish("new", "New")
    await client.written(ADDRESS, ["new"])
    before = await cached(pk)
    prepared = await prepare("note", ADDRESS, [item])
    outcome = await in_thread(apply_changes)(pk, list(prepared.values()))
    assert (outcome.published, outcome.grown) == ([], False)
    assert await cached(pk) == before


@in_loop
async def test_newer_notifications_are_not_undone() -> None:
    """Another client retracts the item after the plug-in read it from the service but before it is stored."""
    service, pk, client = await synced()
    item = service.publish("new")
    answers = [[item], []]

    async def read_ids(*asked: Any) -> list[Any]:
        items = answers.pop(0)
        if items:
            service.retract("new")
            await in_thread(apply_changes)(pk, [Retraction("new")])
        return items

    with patch.object(bots.fetching, "read_ids", read_ids):
        await client.written(ADDRESS, ["new"])
    assert answers == []
    await check_equal(service, pk)


@in_loop
async def test_items_removed_by_the_service_are_detected() -> None:
    service, pk, client = await synced()
    service.publish("new")
    service.retract("item-000")  # without a notification
    await client.written(ADDRESS, ["new"])
    await settled(client)
    await check_equal(service, pk)


@in_loop
async def test_concurrent_writes_are_handled_together() -> None:
    service, pk, client = await synced()
    names = [f"new-{number}" for number in range(20)]
    for name in names:
        service.publish(name)
    await asyncio.gather(*(client.written(ADDRESS, [name]) for name in names))
    await settled(client)
    await check_equal(service, pk)
    assert len([request for request in service.asked() if request.item_ids]) <= 2


@in_loop
async def test_write_cancelled_while_another_one_is_read_invalidates_the_node() -> None:
    service, pk, client = await synced()
    reading, answered = asyncio.Event(), asyncio.Event()

    async def read_ids(*asked: Any) -> list[Any]:
        reading.set()
        await answered.wait()
        return []

    with patch.object(bots.fetching, "read_ids", read_ids):
        first = asyncio.create_task(client.written(ADDRESS, ["first"]))
        await reading.wait()
        service.publish("second")
        second = asyncio.create_task(client.written(ADDRESS, ["second"]))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert (await in_thread(PubsubNode.objects.get)(pk=pk)).checked_at is None
        answered.set()
        await first


@pytest.mark.parametrize("names", [None, ["new"]])
@in_loop
async def test_writes_of_unknown_items_request_revalidation(names: list[str] | None) -> None:
    service, pk, client = await synced()
    service.errors["get_items"] = ServiceUnreachable("offline")
    await client.written(ADDRESS, names)
    node = await row(pk)
    assert node.checked_at is None
    assert node.sync_requested is not None


@in_loop
async def test_writes_to_uncached_nodes_cause_no_request() -> None:
    service, pk, client = await synced()
    await in_thread(PubsubNode.objects.filter(pk=pk).update)(sync_state=PubsubNode.SyncState.NO_SYNC)
    await client.written(ADDRESS, ["item-001"])
    await client.written(NodeAddress("elsewhere.example.org", "node"), ["item-001"])
    assert service.requests == []


@in_loop
async def test_reads() -> None:
    service, _, client = await synced()
    page = await client.get_items(ADDRESS, ItemsRequest(max_items=2))
    assert ([item.id for item in page.items], page.origin) == (["item-003", "item-004"], "cache")
    assert sessions.get(JID) is None
    with pytest.raises(InvalidRequest):
        await client.get_items(NodeAddress(ADDRESS.service, ""), ItemsRequest())
    with patch.object(cache, "look_up", side_effect=OperationalError):
        page = await client.get_items(ADDRESS, ItemsRequest(max_items=2))
    assert ([item.id for item in page.items], page.origin) == (["item-003", "item-004"], "service")
    assert len(service.asked()) == 1


@in_loop
async def test_unknown_account_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    service, _, _ = await synced()
    client = CacheOfAccount("carol@example.org", service)
    for _ in range(2):
        assert len((await client.get_items(ADDRESS, ItemsRequest())).items) == 5
    assert [record.message for record in caplog.records if "no account" in record.message] == [
        "The cache has no account carol@example.org: add it with manage.py pubsub_account add."
    ]


async def test_offers_may_end_in_any_order() -> None:
    first, second = FakeService(), FakeService()
    one, two = sessions.offered(JID, first), sessions.offered(JID, second)
    one.__enter__()
    two.__enter__()
    assert sessions.get(JID) is second
    one.__exit__(None, None, None)
    assert sessions.get(JID) is second
    two.__exit__(None, None, None)
    assert sessions.get(JID) is None
