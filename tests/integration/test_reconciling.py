"""Test scheduled revalidation: few requests if nothing changed, and unnotified changes are found."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone

from pubsubcache.analysers import registry
from pubsubcache.exceptions import ServiceError, ServiceUnreachable
from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.signals import items_retracted
from pubsubcache.store import evict, in_thread, nodes, scheduling
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.syncing.revalidation import revalidate
from tests.fakes import ADDRESS, FakeService, in_loop, note_analyser
from tests.integration.rows import row

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

ALICE = "alice@example.org"
MANNERS: list[dict[str, Any]] = [
    {"paging": "opaque"},
    {"paging": "ids", "newest_first": True},
    {},
    {"disco": "reversed"},
]


@pytest.fixture(autouse=True)
def _analyser() -> Iterator[None]:
    with registry.temporarily(note_analyser(), replace=True):
        yield


async def followed(size: int = 300, **manners: Any) -> tuple[FakeService, int]:
    """Return a service, and the primary key of its node, which is in sync and followed."""
    service = FakeService(**manners)
    service.fill(size)

    def make() -> int:
        account = Account.objects.create(jid=ALICE, status="online", worker="w", heartbeat=timezone.now())
        node = nodes.get_or_create_node(account.jid, ADDRESS, by_hand=True)
        return node.pk

    pk: int = await in_thread(make)()
    await sync_node(service, pk)
    service.requests.clear()
    return service, pk


@in_thread
def cached(pk: int) -> dict[str, str]:
    return dict(PubsubItem.objects.filter(node=pk).in_order().values_list("name", "data"))


async def equal(service: FakeService, pk: int) -> bool:
    items, node = await cached(pk), await row(pk)
    return list(items.items()) == list(service.xml().items()) and node.item_count == len(items)


def payloads(service: FakeService) -> int:
    """Return the maximum number of items that were requested."""
    return sum(
        len(asked.item_ids or ()) or asked.max_items or (asked.rsm.max if asked.rsm else 10_000)
        for asked in service.asked()
    )


@pytest.mark.parametrize("manners", MANNERS)
@in_loop
async def test_unchanged_node_only_takes_requests_for_ids(manners: dict[str, Any]) -> None:
    service, pk = await followed(**manners)
    before = (await row(pk)).checked_at
    await revalidate(service, pk)
    after = await row(pk)
    assert before is not None
    assert after.checked_at is not None
    assert after.checked_at > before
    assert payloads(service) < 5
    assert len(service.requests) < 7
    assert len(service.asked("subscribe")) == 1
    assert await equal(service, pk)


@pytest.mark.parametrize("manners", MANNERS)
@in_loop
async def test_revalidation_removes_items_retracted_without_a_notification(manners: dict[str, Any]) -> None:
    service, pk = await followed(**manners)
    retracted: list[str] = []
    items_retracted.connect(hear := lambda names, **rest: retracted.extend(names))
    for name in ("item-299", "item-004", "item-005"):
        service.retract(name)
    await revalidate(service, pk)
    items_retracted.disconnect(hear)
    assert await equal(service, pk)
    assert sorted(retracted) == ["item-004", "item-005", "item-299"]
    assert payloads(service) < 10


@pytest.mark.parametrize("manners", MANNERS)
@in_loop
async def test_revalidation_forgets_evicted_items_that_were_retracted(manners: dict[str, Any]) -> None:
    service, pk = await followed(20, **manners)
    await in_thread(evict)(PubsubNode.objects.filter(pk=pk), created_before=timezone.now())
    service.retract("item-003")
    await revalidate(service, pk)
    assert ((await row(pk)).evicted_count, await cached(pk)) == (19, {})


@pytest.mark.parametrize("manners", MANNERS)
@in_loop
async def test_revalidation_fetches_items_published_without_a_notification(manners: dict[str, Any]) -> None:
    service, pk = await followed(**manners)
    service.retract("item-007")
    service.publish("new")
    await revalidate(service, pk)
    assert await equal(service, pk)


@pytest.mark.parametrize("manners", MANNERS)
@in_loop
async def test_full_sync_finds_an_edit_without_a_notification(manners: dict[str, Any]) -> None:
    service, pk = await followed(**manners)
    service.publish("item-007", "edited")
    await revalidate(service, pk)
    assert not await equal(service, pk)
    assert await in_thread(PubsubNode.objects.filter(pk=pk).update)(compared_at=timezone.now() - timedelta(days=2))
    await revalidate(service, pk)
    assert await equal(service, pk)
    assert timezone.now() - (await row(pk)).compared_at < timedelta(minutes=1)  # type: ignore[operator]


@pytest.mark.parametrize(
    "manners",
    [{"disco_limit": 250, "paging": "none"}, {"disco_limit": 250}, {"disco": "refused"}, {"disco_limit": 0}],
)
@in_loop
async def test_truncated_list_of_ids_deletes_nothing(manners: dict[str, Any]) -> None:
    service, pk = await followed(**{"paging": "opaque"} | manners)
    await revalidate(service, pk)
    assert await equal(service, pk)


@pytest.mark.parametrize("size", [0, 1])
@in_loop
async def test_small_nodes(size: int) -> None:
    service, pk = await followed(size, paging="opaque")
    await revalidate(service, pk)
    assert await equal(service, pk)
    assert payloads(service) <= 2
    service.fill(1)
    service.retract("item-000")
    await revalidate(service, pk)
    assert await equal(service, pk)


@pytest.mark.parametrize("error", [ServiceError("resource-constraint"), ServiceUnreachable("silent")])
@pytest.mark.parametrize("method", ["get_item_ids", "subscribe", "get_items"])
@in_loop
async def test_failed_revalidation_leaves_the_node_stale(method: str, error: Exception) -> None:
    service, pk = await followed(30, paging="opaque")
    service.retract("item-007")
    before = (await row(pk)).checked_at
    service.errors[method] = error
    try:
        await revalidate(service, pk)
    except (ServiceError, ServiceUnreachable):
        assert (await row(pk)).checked_at is None
    else:
        assert await equal(service, pk)
        assert (await row(pk)).checked_at > before  # type: ignore[operator]


@in_loop
async def test_node_that_changes_during_revalidation_is_revalidated_again() -> None:
    service, pk = await followed(30, paging="opaque")
    service.retract("item-007")
    times = iter(range(3))

    async def bump(*args: Any) -> None:
        if args[1] == "get_item_ids" and next(times, None) is not None:
            node = await row(pk)
            await in_thread(PubsubNode.objects.filter(pk=pk).update)(revision=node.revision + 1)

    service.hook = bump
    await revalidate(service, pk)
    assert await equal(service, pk)
    assert len(service.asked("get_item_ids")) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"sync_requested": timezone.now()},
        {"subscribed": False},
        {"checked_at": None},
        {"compared_at": None},
        {"registry_fingerprint": "another"},
        {"sync_state": "IN_PROGRESS"},
    ],
)
@in_loop
async def test_invalid_node_gets_a_full_sync(change: dict[str, Any]) -> None:
    service, pk = await followed(30, paging="opaque")
    service.publish("item-007", "edited")
    await in_thread(PubsubNode.objects.filter(pk=pk).update)(**change)
    await revalidate(service, pk)
    assert await equal(service, pk)


@in_loop
async def test_invalidation_during_revalidation_is_kept() -> None:
    service, pk = await followed(30, paging="opaque")

    async def invalidate(*args: Any) -> None:
        await in_thread(nodes.invalidate_node)(pk)

    service.hook = invalidate
    await revalidate(service, pk)
    assert (await row(pk)).checked_at is None


@in_loop
async def test_node_may_have_its_own_interval() -> None:
    _, pk = await followed(3)
    account_pk = (await row(pk)).account_id

    @in_thread
    def due(**changes: Any) -> bool:
        PubsubNode.objects.filter(pk=pk).update(**changes)
        return scheduling.due(account_pk, 5, token=0) == [pk]

    past = timezone.now() - timedelta(minutes=10)
    assert not await due(checked_at=past)
    assert await due(reconcile_interval=timedelta(minutes=9))
    assert not await due(reconcile_interval=timedelta(minutes=11))
    assert not await due(checked_at=past - timedelta(hours=5), reconcile_interval=timedelta(days=3))
    with override_settings(PUBSUBCACHE_RECONCILE_INTERVAL=60.0):
        assert not await due(checked_at=past)
        assert await due(reconcile_interval=None)
