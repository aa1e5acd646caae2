"""Test that the cache equals its service after changes, failures and misbehaviour at the worst moment."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from pubsubcache import cache
from pubsubcache.analysers import registry
from pubsubcache.exceptions import PubsubCacheError, ServiceError, ServiceUnreachable
from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.store import in_thread, scheduling
from pubsubcache.store.changes import apply_changes
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.syncing.preparing import prepare
from pubsubcache.syncing.revalidation import check_ids
from tests.fakes import ADDRESS, FakeService, in_loop, note_analyser

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture(autouse=True)
def small_pages(settings: Any) -> Any:
    settings.PUBSUBCACHE_PAGE_SIZE = 10
    with registry.temporarily(note_analyser(), replace=True):
        yield


@in_thread
def make_node() -> int:
    account = Account.objects.create(jid="alice@example.org")
    learned = {"registry_fingerprint": registry.fingerprint(), "to_sync": True, "moves": True}
    node = PubsubNode.objects.create(
        account=account, service=ADDRESS.service, name=ADDRESS.name, analyser="note", **learned
    )
    return node.pk


@in_thread
def stored(pk: int) -> list[tuple[str, str]]:
    return list(PubsubItem.objects.filter(node_id=pk).in_order().values_list("name", "data"))


@in_thread
def is_miss(pk: int) -> bool:
    node = PubsubNode.objects.select_related("account").get(pk=pk)
    return cache.freshness(node) is cache.Freshness.MISS


async def notify(pk: int, service: FakeService, name: str) -> None:
    """Apply the notification of an item of the service."""
    item = service.nodes[ADDRESS].items[name][1]
    prepared = await prepare("note", ADDRESS, [item])
    await in_thread(apply_changes)(pk, [prepared[name]])


@pytest.mark.parametrize("error", [ServiceUnreachable("lost"), ServiceError("internal-server-error")])
@in_loop
async def test_error_on_any_page_keeps_the_cached_items(error: PubsubCacheError) -> None:
    pk = await make_node()
    service = FakeService(paging="opaque")
    service.fill(60)
    await sync_node(service, pk)
    for number in range(1, 8):
        service.requests.clear()
        service.publish(f"late-{number}")
        service.retract(f"item-{number:03}")
        service.breaks_on = {number: error}
        before = await stored(pk)
        try:
            await sync_node(service, pk)
        except PubsubCacheError:
            kept = {name for name, _ in await stored(pk)}
            assert {name for name, _ in before} <= kept
        service.breaks_on = {}
        await sync_node(service, pk)
        assert await stored(pk) == list(service.xml().items())


@pytest.mark.parametrize("disco", ["ok", "reversed"])
@in_loop
async def test_item_published_during_an_id_check_keeps_the_order(disco: Any) -> None:
    pk = await make_node()
    service = FakeService(disco=disco)
    service.fill(6)
    await sync_node(service, pk)
    late = iter(["late"])

    def publish_late(service: FakeService, method: str, argument: Any) -> None:
        if method == "get_items" and service.asked("get_item_ids") and (name := next(late, None)):
            service.publish(name)

    service.requests.clear()
    service.hook = publish_late
    await check_ids(service, pk)
    await notify(pk, service, "late")
    assert await stored(pk) == list(service.xml().items())


@in_loop
async def test_edit_that_moves_the_oldest_item_during_a_sync_keeps_the_order() -> None:
    pk = await make_node()
    service = FakeService(moves_edited=True)
    service.fill(6)

    def edit(service: FakeService, method: str, argument: Any) -> None:
        if argument is not None and argument.max_items == 1 and service.ids()[-1] != "item-000":
            service.publish("item-000", "Edited")

    service.hook = edit
    await sync_node(service, pk)
    assert [name for name, _ in await stored(pk)] == service.ids() or await is_miss(pk)
    await notify(pk, service, "item-000")
    assert await stored(pk) == list(service.xml().items())


class Alphabetical(FakeService):
    """Lists ids in an order that does not depend on the age of items, as ejabberd does."""

    async def get_item_ids(self, address: Any) -> list[str]:
        return sorted(await super().get_item_ids(address))


@pytest.mark.parametrize("late", [0, 3, 12])
@in_loop
async def test_order_comes_from_pages_and_not_from_unordered_ids(late: int) -> None:
    pk = await make_node()
    service = Alphabetical(paging="opaque")
    for name in "zebra", "ant", "owl", "bee":
        service.publish(name)
    names = [f"late-{99 - number}" for number in range(late)]
    waiting = iter(names)

    async def publish_late(service: FakeService, method: str, argument: Any) -> None:
        if method == "get_node_metadata":  # between the walk and its end
            for name in waiting:
                service.publish(name)
                await notify(pk, service, name)

    service.hook = publish_late
    await sync_node(service, pk)
    await check_ids(service, pk)
    assert await stored(pk) == list(service.xml().items())
    assert not await in_thread(PubsubNode.objects.filter(probe__isnull=False).exists)()


def test_nodes_checked_together_are_due_again_at_different_times(settings: Any) -> None:
    settings.PUBSUBCACHE_RECONCILE_INTERVAL = 1000.0
    account = Account.objects.create(jid="alice@example.org")
    now = timezone.now()
    for number in range(48):
        PubsubNode.objects.create(
            account=account, service="x", name=f"{number}", sync_state="COMPLETED", checked_at=now
        )

    def number_due(seconds: float) -> int:
        PubsubNode.objects.update(checked_at=timezone.now() - timedelta(seconds=seconds))
        return len(scheduling.due(account.pk, 100, token=0))

    numbers = [number_due(seconds) for seconds in (740, 800, 870, 940, 1001)]
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1]) == (0, 48)
