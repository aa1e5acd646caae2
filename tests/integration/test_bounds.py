"""Test that synchronisations and reads of endless services end, and that stored data stays bounded."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone

from pubsubcache.analysers import registry
from pubsubcache.cache import get_items, get_items_sync
from pubsubcache.exceptions import NodeTooLarge, ServiceUnreachable, SyncFailed, TooLarge
from pubsubcache.models import Account, PubsubEvicted, PubsubItem, PubsubNode
from pubsubcache.services.sessions import sessions
from pubsubcache.store import in_thread, scheduling
from pubsubcache.store.changes import apply_changes
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.syncing.preparing import prepare
from pubsubcache.syncing.revalidation import check_ids
from pubsubcache.utils.bounds import max_listed
from tests.fakes import ADDRESS, FakeService, in_loop, make_item, note_analyser
from tests.integration.rows import make_node, row

pytestmark = pytest.mark.django_db

ALICE = "alice@example.org"


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with (
        registry.temporarily(note_analyser(), replace=True),
        override_settings(PUBSUBCACHE_PAGE_SIZE=10, PUBSUBCACHE_MAX_NODE_ITEMS=20),
    ):
        yield


@in_thread
def counts() -> tuple[int, int]:
    """Return the numbers of items and of evicted items."""
    return PubsubItem.objects.count(), PubsubEvicted.objects.count()


def filled(size: int = 15, /, **manners: Any) -> FakeService:
    service = FakeService(**manners)
    service.fill(size)
    return service


async def synced(**manners: Any) -> tuple[FakeService, int]:
    service, pk = filled(**manners), await make_node()
    await sync_node(service, pk)
    service.requests.clear()
    return service, pk


async def never(*_: Any) -> None:
    """Wait forever, as a request without answer does."""
    await asyncio.get_running_loop().create_future()


# Synchronisations


@pytest.mark.parametrize("state", ["new", "in sync"])
@in_loop
async def test_endless_node_leaves_no_items_and_is_rarely_retried(state: str) -> None:
    service, pk = await synced() if state == "in sync" else (filled(), await make_node())
    service.endless = "new items"
    for _ in range(3):
        with pytest.raises(NodeTooLarge):
            await sync_node(service, pk)
        assert len(service.requests) < 40
        service.requests.clear()
        node = await row(pk)
        assert (node.sync_state, node.item_count, node.evicted_count, node.sync_owner) == ("ERROR", 0, 0, "")
        assert f"over {max_listed()} items" in node.sync_error
        assert node.next_attempt is not None
        assert node.next_attempt - timezone.now() > timedelta(minutes=59)
        assert await counts() == (0, 0)
    assert await in_thread(scheduling.due)(node.account_id, 5, token=0) == []
    service.endless = ""
    await sync_node(service, pk)
    assert (await row(pk)).item_count == 15


@in_loop
async def test_synchronisation_ends_at_its_deadline_whatever_progress_it_makes() -> None:
    async def slow(service: FakeService, method: str, argument: Any) -> None:
        if method == "get_items":
            await asyncio.sleep(0.02)

    service, pk = filled(endless="new items", hook=slow), await make_node()
    with (
        override_settings(PUBSUBCACHE_SYNC_TIMEOUT=0.2, PUBSUBCACHE_MAX_NODE_ITEMS=10_000),
        pytest.raises(SyncFailed, match=r"within 0\.2 seconds"),
    ):
        await sync_node(service, pk)
    node = await row(pk)
    assert (node.sync_state, node.failures, node.sync_owner) == ("ERROR", 1, "")
    assert "within 0.2 seconds" in node.sync_error
    assert node.next_attempt is not None


@in_loop
async def test_rows_stay_bounded_when_synchronisations_never_end() -> None:
    """Each one adds new items, and ends before it can tell which items were removed."""
    service, pk = filled(endless="new items"), await make_node()
    most = 0
    for _ in range(12):
        asked = len(service.asked())
        service.breaks_on = dict.fromkeys(range(asked + 8, asked + 100), ServiceUnreachable("gone"))
        service.errors = {"get_item_ids": ServiceUnreachable("gone")}
        with pytest.raises((ServiceUnreachable, TooLarge)):
            await sync_node(service, pk)
        most = max(most, sum(await counts()))
    assert most <= 20 + max_listed() + 10


@in_loop
async def test_id_check_ends_at_its_deadline() -> None:
    service, pk = await synced()
    service.hook = never
    with override_settings(PUBSUBCACHE_SYNC_TIMEOUT=0.1):
        assert await check_ids(service, pk)
    assert (await row(pk)).checked_at is None  # so it is due


@in_loop
async def test_notified_items_over_the_limit_are_evicted() -> None:
    _, pk = await synced()
    for start in range(0, 40, 10):
        items = [make_item(f"new-{number}") for number in range(start, start + 10)]
        prepared = await prepare("note", ADDRESS, items)
        await in_thread(apply_changes)(pk, list(prepared.values()))
    node = await row(pk)
    assert (node.item_count, node.evicted_count, node.partial) == (20, 35, True)
    assert await counts() == (20, 35)
    with pytest.raises(NodeTooLarge):
        for start in range(100, 200, 10):
            prepared = await prepare("note", ADDRESS, [make_item(f"new-{n}") for n in range(start, start + 10)])
            await in_thread(apply_changes)(pk, list(prepared.values()))
    assert sum(await counts()) <= 20 + max_listed()


# Reads


async def read(service: FakeService, **options: Any) -> Any:
    with sessions.offered(ALICE, service), override_settings(PUBSUBCACHE_READ_TIMEOUT=0.1):
        return await get_items(ALICE, ADDRESS.service, ADDRESS.name, **options)


@in_loop
async def test_read_of_a_silent_service_ends_with_the_stale_copy() -> None:
    service, pk = await synced()
    service.hook = never
    await in_thread(PubsubNode.objects.filter(pk=pk).update)(checked_at=None)
    page = await read(service)
    assert (len(page.items), page.origin, page.stale) == (15, "cache", True)
    with pytest.raises(ServiceUnreachable, match=r"within 0\.1 seconds"):
        await read(service, use_cache=False)


@in_loop
async def test_read_of_a_silent_service_ends_without_a_copy() -> None:
    await in_thread(Account.objects.create)(jid=ALICE)
    with pytest.raises(ServiceUnreachable, match=r"within 0\.1 seconds"):
        await read(filled(hook=never))


@in_loop
async def test_read_of_evicted_items_ends() -> None:
    service, pk = await synced()
    with override_settings(PUBSUBCACHE_MAX_NODE_ITEMS=10):
        service.publish("new")
        await sync_node(service, pk)
    assert (await row(pk)).evicted_count == 6
    service.hook = never
    with pytest.raises(ServiceUnreachable, match=r"within 0\.1 seconds"):
        await read(service)


def test_synchronous_read_of_a_silent_service_ends() -> None:
    Account.objects.create(jid=ALICE)
    service = filled(hook=never)

    @in_loop
    async def within_a_session() -> None:
        with (
            sessions.offered(ALICE, service),
            override_settings(PUBSUBCACHE_READ_TIMEOUT=0.1),
            pytest.raises(ServiceUnreachable, match=r"within 0\.1 seconds"),
        ):
            await in_thread(get_items_sync)(ALICE, ADDRESS.service, ADDRESS.name, use_cache=False)

    within_a_session()


@in_loop
async def test_endless_node_is_too_large_to_read_at_once() -> None:
    await in_thread(Account.objects.create)(jid=ALICE)
    service = filled(endless="new items")
    service.refuse_over = 12
    service.refusal = TooLarge("big")
    with override_settings(PUBSUBCACHE_READ_TIMEOUT=60), sessions.offered(ALICE, service):
        with pytest.raises(TooLarge, match="over 20 items: request fewer"):
            await get_items(ALICE, ADDRESS.service, ADDRESS.name)
        page = await get_items(ALICE, ADDRESS.service, ADDRESS.name, max_items=5)
    assert len(page.items) == 5
