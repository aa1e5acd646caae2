"""Test that after a synchronisation the cache equals the service, whatever happens during it."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone

from pubsubcache.analysers import registry
from pubsubcache.exceptions import (
    Forbidden,
    ItemNotFound,
    ServiceError,
    ServiceUnreachable,
    SyncFailed,
    SyncInProgress,
    TooLarge,
)
from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.store import evict, in_thread, nodes, syncing
from pubsubcache.store.changes import PurgeAll, Retraction, apply_changes
from pubsubcache.syncing import order
from pubsubcache.syncing.full_sync import SyncResult, sync_node
from pubsubcache.syncing.preparing import prepare
from pubsubcache.syncing.revalidation import check_ids
from pubsubcache.types import Item
from tests.fakes import ADDRESS, FakeService, in_loop, note_analyser
from tests.integration.rows import make_node, row
from tests.selection import how_many

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture(autouse=True)
def _small_pages() -> Iterator[None]:
    with (
        registry.temporarily(note_analyser(), replace=True),
        override_settings(PUBSUBCACHE_PAGE_SIZE=10, PUBSUBCACHE_RETRY_DELAY=30.0),
    ):
        yield


@in_thread
def rows(pk: int) -> dict[str, dict[str, Any]]:
    items = PubsubItem.objects.filter(node_id=pk).in_order()
    return {item["name"]: item for item in items.values()}


async def cached(pk: int) -> dict[str, str]:
    return {name: item["data"] for name, item in (await rows(pk)).items()}


async def check_equal(pk: int, service: FakeService) -> None:
    """Assert that the cache has the service's items in the same order, parsed and counted."""
    expected = service.xml()
    found = await rows(pk)
    assert {name: item["data"] for name, item in found.items()} == expected
    assert list(found) == list(expected)
    node = await row(pk)
    assert (node.item_count, node.evicted_count) == (len(expected), 0)
    for item in found.values():
        assert item["parsed"] is not None or item["parse_error"]
        assert item["text"]


def filled(size: int = 35, /, **manners: Any) -> FakeService:
    service = FakeService(**manners)
    service.fill(size)
    return service


async def synced(**manners: Any) -> tuple[FakeService, int]:
    service = filled(**manners)
    pk = await make_node()
    await sync_node(service, pk)
    service.requests.clear()
    return service, pk


async def publish(pk: int, *items: Item) -> None:
    """Apply a notification of published items."""
    prepared = await prepare("note", ADDRESS, list(items))
    await in_thread(apply_changes)(pk, [prepared[item.id] for item in items])


async def retract(pk: int, *names: str) -> None:
    """Apply a notification of retracted items."""
    await in_thread(apply_changes)(pk, [Retraction(name) for name in names])


SERVICES: dict[str, dict[str, Any]] = {
    "no paging": {},
    "ids": {"paging": "ids"},
    "opaque": {"paging": "opaque"},
    "moves edited": {"moves_edited": True},
    "moves edited, opaque": {"moves_edited": True, "paging": "opaque"},
    "newest first": {"newest_first": True},
    "newest first, ids": {"newest_first": True, "paging": "ids"},
    "plain answers cut": {"plain_limit": 20},
    "ids reversed": {"plain_limit": 20, "disco": "reversed"},
    "duplicates": {"paging": "ids", "duplicates": True},
    "absurd count": {"paging": "ids", "count": lambda real: 999_999_999_999_999},
}
services = pytest.mark.parametrize("manners", SERVICES)


@in_loop
async def test_metadata_of_the_node_are_stored() -> None:
    service, pk = filled(), await make_node()
    gallery = "urn:xmpp:pubsub-social-feed:gallery:1"
    service.metadata = {"pubsub#type": (gallery, "more"), "pubsub#access_model": ("open",), "pubsub#title": ()}
    await sync_node(service, pk)
    node = await row(pk)
    assert (node.extra["payload_type"], node.access_model) == (gallery, "open")
    service.errors["get_node_metadata"] = Forbidden("forbidden", "")
    await sync_node(service, pk)
    assert ((await row(pk)).extra["payload_type"], (await row(pk)).access_model) == (gallery, "open")
    del service.errors["get_node_metadata"]
    service.metadata = {"pubsub#type": ("x" * 5000,), "pubsub#access_model": ("y" * 5000,)}
    await sync_node(service, pk)
    node = await row(pk)
    assert (node.extra["payload_type"], node.access_model) == ("x" * 255, "y" * 20)
    service.metadata = {}
    await sync_node(service, pk)
    node = await row(pk)
    assert (node.extra["payload_type"], node.access_model) == ("", "")


@services
@in_loop
async def test_a_first_synchronisation(manners: str) -> None:
    service, pk = filled(**SERVICES[manners]), await make_node()
    seen: list[tuple[int, int | None]] = []
    result = await sync_node(service, pk, progress=lambda done, total: seen.append((done, total)))
    await check_equal(pk, service)
    assert (result.items, result.added, result.updated, result.removed) == (35, 35, 0, 0)
    assert seen[-1][0] == 35
    node = await row(pk)
    assert (node.sync_state, node.subscribed, node.sync_owner, node.sync_error) == ("COMPLETED", True, "", "")
    assert node.checked_at is not None
    assert node.access_model == "open"
    assert service.requests[0][0] == "subscribe"


@services
@in_loop
async def test_unchanged_items_are_not_written(manners: str) -> None:
    service, pk = await synced(**SERVICES[manners])
    before = await rows(pk)
    result = await sync_node(service, pk)
    assert await rows(pk) == before
    assert (result.items, result.added, result.updated, result.removed) == (35, 0, 0, 0)


@services
@in_loop
async def test_unnotified_changes_are_found(manners: str) -> None:
    service, pk = await synced(**SERVICES[manners])
    before = await rows(pk)
    service.publish("item-005", "edited")
    service.publish("new-1")
    service.retract("item-007")
    service.publish("item-020", "edited too")
    service.publish("new-2")
    service.retract("item-034")
    result = await sync_node(service, pk)
    await check_equal(pk, service)
    assert (result.added, result.updated, result.removed) == (2, 2, 2)
    after = await rows(pk)
    for name in set(after) & set(before):
        assert after[name]["id"] == before[name]["id"]
        assert after[name]["created"] == before[name]["created"]
        assert (after[name]["updated"] == before[name]["updated"]) == (name not in ("item-005", "item-020"))
    await sync_node(service, pk)
    assert await rows(pk) == after


@services
@in_loop
async def test_readers_see_the_right_order_during_a_sync(manners: str) -> None:
    service, pk = await synced(**SERVICES[manners])
    expected = list(await rows(pk))
    service.publish("new")
    wrong: list[list[str]] = []

    async def look(service: FakeService, method: str, argument: Any) -> None:
        names = [name for name in await rows(pk) if name != "new"]
        if names != expected:
            wrong.append(names)

    service.hook = look
    await sync_node(service, pk)
    assert wrong == []
    await check_equal(pk, service)


@in_loop
async def test_item_that_cannot_be_parsed_does_not_affect_others() -> None:
    service, pk = filled(5), await make_node()
    service.publish("bad", "unparsable")
    await sync_node(service, pk)
    await check_equal(pk, service)
    assert (await rows(pk))["bad"]["parse_error"] == "ValueError: no title"
    service.publish("bad", "good")
    await sync_node(service, pk)
    assert (await rows(pk))["bad"]["parse_error"] == ""


ERRORS = [
    ServiceUnreachable("away"), TooLarge("big"), ServiceError("internal-server-error"), ServiceError("bad-request"),
    SyncFailed("odd"), RuntimeError("a bug"),
]  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("at", [1, 2, 3, 4])
@in_loop
async def test_error_keeps_the_stored_items(at: int, error: Exception) -> None:
    service, pk = await synced(paging="ids", disco="refused")
    before = await cached(pk)
    service.publish("new")
    service.retract("item-003")
    service.breaks_on = dict.fromkeys(range(at, 50), error)
    with pytest.raises(type(error)):
        await sync_node(service, pk)
    node = await row(pk)
    after = await cached(pk)
    assert {name: after.get(name) for name in before} == before
    assert str(error).split("(")[0].rstrip(" .") in node.sync_error
    assert (node.sync_state, node.failures, node.checked_at, node.sync_owner) == ("COMPLETED", 1, None, "")
    assert node.next_attempt is not None
    service.breaks_on = {}
    await sync_node(service, pk)
    await check_equal(pk, service)
    node = await row(pk)
    assert (node.failures, node.next_attempt, node.sync_error) == (0, None, "")


@in_loop
async def test_delay_grows_with_each_failure() -> None:
    service, pk = filled(errors={"get_items": ServiceUnreachable("away")}), await make_node()
    waits = []
    for _ in range(12):
        with pytest.raises(ServiceUnreachable):
            await sync_node(service, pk)
        node = await row(pk)
        assert node.sync_state == "ERROR"
        assert node.next_attempt is not None
        waits.append((node.next_attempt - timezone.now()).total_seconds())
    assert waits[0] < 40 < waits[1] < 80
    assert 2800 < waits[-1] < 3600 * 1.2


@pytest.mark.parametrize("manners", [{"empty_after": 0}, {"empty_after": 20}, {"repeats": "pages"}])
@in_loop
async def test_odd_pages_delete_nothing(manners: dict[str, Any]) -> None:
    service, pk = await synced(paging="ids", disco="refused")
    before = await cached(pk)
    for name, value in manners.items():
        setattr(service, name, value)
    with pytest.raises(SyncFailed):
        await sync_node(service, pk)
    assert await cached(pk) == before


@in_loop
async def test_an_empty_plain_answer_deletes_nothing() -> None:
    service, pk = await synced(disco="refused")
    before = await cached(pk)
    service.nodes[ADDRESS].items.clear()
    with pytest.raises(SyncFailed):
        await sync_node(service, pk)
    assert await cached(pk) == before


@in_loop
async def test_node_emptied_without_notification_is_emptied() -> None:
    for manners in ({}, {"paging": "ids"}):
        await in_thread(lambda: Account.objects.all().delete())()
        service, pk = await synced(**manners)
        for name in service.ids():
            service.retract(name)
        assert (await sync_node(service, pk)).removed == 35
        await check_equal(pk, service)


@in_loop
async def test_forbidden_hides_the_node() -> None:
    service, pk = await synced()
    service.errors["get_items"] = Forbidden("forbidden", "no longer a member")
    with pytest.raises(Forbidden):
        await sync_node(service, pk)
    assert await cached(pk) == {}
    node = await row(pk)
    assert (node.sync_state, node.item_count, node.subscribed, node.checked_at) == ("ERROR", 0, False, None)
    assert "no longer a member" in node.sync_error


@in_loop
async def test_a_missing_node_is_removed() -> None:
    service, pk = await synced()
    service.nodes.clear()
    with pytest.raises(ItemNotFound):
        await sync_node(service, pk)
    assert not await in_thread(PubsubNode.objects.filter(pk=pk).exists)()
    with pytest.raises(ItemNotFound):
        await sync_node(service, pk)


@in_loop
async def test_missing_cursor_item_removes_nothing() -> None:
    service, pk = await synced(paging="ids", disco="refused")

    def hook(service: FakeService, method: str, argument: Any) -> None:
        if method == "get_items" and argument.rsm and argument.rsm.after:
            service.retract(argument.rsm.after)

    service.hook = hook
    with pytest.raises(SyncFailed):
        await sync_node(service, pk)
    assert (await row(pk)).sync_state == "COMPLETED"


@pytest.mark.parametrize(
    ("state", "error"), [("pending", None), ("none", None), ("subscribed", Forbidden("closed-node"))]
)
@in_loop
async def test_node_without_subscription_is_cached(state: str, error: Exception | None) -> None:
    service, pk = filled(subscription=state, errors={} if error is None else {"subscribe": error}), await make_node()
    await sync_node(service, pk)
    await check_equal(pk, service)
    assert not (await row(pk)).subscribed


@in_loop
async def test_the_metadata_may_be_refused() -> None:
    service, pk = filled(errors={"get_node_metadata": ServiceError("feature-not-implemented")}), await make_node()
    await sync_node(service, pk)
    await check_equal(pk, service)


# Claims


@in_loop
async def test_only_one_of_concurrent_syncs_runs() -> None:
    service, pk = filled(paging="ids"), await make_node()
    outcomes = await asyncio.gather(*(sync_node(service, pk) for _ in range(3)), return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {SyncResult, SyncInProgress}
    assert sum(isinstance(outcome, SyncResult) for outcome in outcomes) == 1
    await check_equal(pk, service)


@in_loop
async def test_expired_claim_is_taken_over_and_its_owner_cannot_write() -> None:
    service, pk = filled(paging="ids"), await make_node()
    dead = await in_thread(syncing.claim)(pk, "dead")
    assert dead is not None
    with pytest.raises(SyncInProgress):
        await sync_node(service, pk)
    silent = timezone.now() - timedelta(seconds=61)
    await in_thread(PubsubNode.objects.filter(pk=pk).update)(sync_heartbeat=silent)
    await sync_node(service, pk)
    await check_equal(pk, service)
    with pytest.raises(syncing.ClaimLost):
        await in_thread(syncing.store_page)(dead, [], {}, 0, None)
    with pytest.raises(syncing.ClaimLost):
        await in_thread(syncing.finish)(dead, subscribed=True, reverse=False)
    await in_thread(syncing.fail)(dead, "late")
    await in_thread(syncing.release)(pk, dead.owner)
    assert (await row(pk)).sync_error == ""
    await check_equal(pk, service)


@in_loop
async def test_a_claim_is_renewed_by_each_page() -> None:
    service, pk = filled(paging="ids"), await make_node()
    beats = []

    async def look(service: FakeService, method: str, argument: Any) -> None:
        beats.append((await row(pk)).sync_heartbeat)

    service.hook = look
    await sync_node(service, pk)
    assert len(set(beats)) >= 4
    assert sorted(beats) == beats


@in_loop
async def test_cancelled_sync_releases_its_claim() -> None:
    service, pk = filled(paging="ids"), await make_node()
    started = asyncio.Event()

    async def hang(service: FakeService, method: str, argument: Any) -> None:
        if len(service.asked()) == 2:
            started.set()
            await asyncio.Event().wait()

    service.hook = hang
    task = asyncio.create_task(sync_node(service, pk))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await row(pk)).sync_owner == ""
    service.hook = None
    await sync_node(service, pk)
    await check_equal(pk, service)


@in_loop
async def test_node_forgotten_during_a_sync_stays_forgotten() -> None:
    service, pk = filled(paging="ids"), await make_node()

    async def forget(service: FakeService, method: str, argument: Any) -> None:
        if len(service.asked()) == 3:
            await in_thread(PubsubNode.objects.filter(pk=pk).delete)()

    service.hook = forget
    with pytest.raises(syncing.ClaimLost):
        await sync_node(service, pk)
    assert not await in_thread(PubsubNode.objects.exists)()


# Notifications during a synchronisation


def at_page(number: int, what: Any) -> Any:
    """Return a hook that runs `what(service)` at the items request with this number."""

    async def hook(service: FakeService, method: str, argument: Any) -> None:
        if method == "get_items" and len(service.asked()) == number:
            service.hook = None
            await what(service)

    return hook


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("paging", ["none", "opaque"])
@in_loop
async def test_notifications_win_over_pages_asked_for_before(paging: Any, at: int) -> None:
    """The page was sent before the change, but its notification arrives first."""
    service, pk = filled(paging=paging), await make_node()
    real = service.get_items

    async def overtaken(address: Any, request: Any) -> Any:
        page = await real(address, request)
        if len(service.asked()) == at and not changed:
            changed.append(True)
            await publish(pk, service.publish("item-003", "edited"))
            await publish(pk, service.publish("new"))
            service.retract("item-033")
            service.retract("item-004")
            await retract(pk, "item-033", "item-004")
        return page

    changed: list[bool] = []
    service.get_items = overtaken  # type: ignore[method-assign]
    await sync_node(service, pk)
    if changed:
        assert await cached(pk) == service.xml()
    await sync_node(service, pk)
    await check_equal(pk, service)


@in_loop
async def test_item_retracted_and_published_again_during_a_sync_is_kept() -> None:
    service, pk = await synced(paging="opaque")

    async def change(service: FakeService) -> None:
        service.retract("item-030")
        await retract(pk, "item-030")
        await publish(pk, service.publish("item-030", "again"))

    service.hook = at_page(3, change)
    await sync_node(service, pk)
    assert await cached(pk) == service.xml()
    await check_ids(service, pk)
    await check_equal(pk, service)


@pytest.mark.parametrize("paging", ["none", "opaque"])
@in_loop
async def test_items_listed_after_a_notified_one_keep_their_place(paging: Any) -> None:
    service, pk = await synced(paging=paging)
    late: list[Item] = []

    async def change(service: FakeService) -> None:
        await publish(pk, service.publish("notified"))
        late.extend(service.publish(f"listed-{number}") for number in range(4))

    service.hook = at_page(1, change)
    await sync_node(service, pk)
    await publish(pk, service.publish("later"))
    await publish(pk, *late)
    await check_equal(pk, service)
    places = [item["position"] for item in (await rows(pk)).values()]
    assert len(set(places)) == len(places)


@in_loop
async def test_purge_during_a_sync_is_kept() -> None:
    for at in (1, 2, 4):
        await in_thread(lambda: Account.objects.all().delete())()
        service, pk = filled(paging="opaque"), await make_node()
        real = service.get_items

        async def purged(
            address: Any, request: Any, *, at: int = at, pk: int = pk, service: Any = service, real: Any = real
        ) -> Any:
            page = await real(address, request)
            if len(service.asked()) == at:
                for name in service.ids():
                    service.retract(name)
                await in_thread(apply_changes)(pk, [PurgeAll()])
                await publish(pk, service.publish("after the purge"))
            return page

        service.get_items = purged  # type: ignore[method-assign]
        await sync_node(service, pk)
        await check_equal(pk, service)


@in_loop
async def test_tombstones_are_removed() -> None:
    service, pk = await synced(paging="ids")

    async def change(service: FakeService) -> None:
        service.retract("item-030")
        await retract(pk, "item-030", "never there")
        assert await in_thread((await row(pk)).tombstones.count)() == 2

    service.hook = at_page(2, change)
    await sync_node(service, pk)
    assert await in_thread((await row(pk)).tombstones.count)() == 0
    service.retract("item-029")
    await retract(pk, "item-029")
    assert await in_thread((await row(pk)).tombstones.count)() == 0  # no synchronisation is running
    await check_equal(pk, service)


@in_loop
async def test_invalidation_during_a_sync_is_kept() -> None:
    service, pk = await synced(paging="ids")

    async def invalidate(service: FakeService) -> None:
        await in_thread(nodes.invalidate_node)(pk)

    service.hook = at_page(2, invalidate)
    await sync_node(service, pk)
    assert (await row(pk)).checked_at is None
    await sync_node(service, pk)
    assert (await row(pk)).checked_at is not None


@in_loop
async def test_invalidation_of_all_nodes_during_a_sync_is_kept() -> None:
    service, pk = await synced(paging="ids")

    async def invalidate(service: FakeService) -> None:
        await in_thread(nodes.invalidate_all)("alice@example.org")

    service.hook = at_page(2, invalidate)
    await sync_node(service, pk)
    assert (await row(pk)).checked_at is None


@in_loop
async def test_subscription_lost_during_a_sync_is_noticed() -> None:
    service, pk = await synced(paging="ids")

    async def lose(service: FakeService) -> None:
        await in_thread(nodes.set_subscribed)(pk, False)
        await in_thread(nodes.invalidate_node)(pk)

    service.hook = at_page(2, lose)
    await sync_node(service, pk)
    node = await row(pk)
    assert not node.subscribed or node.checked_at is None


@in_loop
async def test_reads_during_a_sync_cause_no_endless_syncs() -> None:
    service, pk = await synced(paging="ids")

    async def ask(service: FakeService) -> None:
        await in_thread(nodes.request_revalidation)(pk)

    service.hook = at_page(2, ask)
    await sync_node(service, pk)
    assert (await row(pk)).checked_at is not None


# Evicted items, and items over the limit


@in_loop
async def test_evicted_items_are_not_fetched_again() -> None:
    service, pk = await synced(paging="opaque")
    first = PubsubNode.objects.filter(pk=pk)
    before = await rows(pk)
    middle = before["item-020"]["created"]
    assert await in_thread(evict)(first, created_before=middle) > 0
    kept = set(await rows(pk))
    service.publish("item-002", "edited")  # an evicted item
    service.retract("item-005")
    service.publish("new")
    await sync_node(service, pk)
    assert set(await rows(pk)) == kept | {"new"}
    node = await row(pk)
    assert node.item_count + node.evicted_count == len(service.ids())
    places = await in_thread(lambda: _places(pk))()
    assert [name for _, name in places] == service.ids()
    result = await sync_node(service, pk, fetch_evicted=True)
    await check_equal(pk, service)
    assert result.added == node.evicted_count
    after = await rows(pk)
    for name in set(after) & set(before):
        assert after[name]["created"] == before[name]["created"]
        assert after[name]["updated"] == before[name]["updated"]


def _places(pk: int) -> list[tuple[int, str]]:
    node = PubsubNode.objects.get(pk=pk)
    return sorted([*node.items.values_list("position", "name"), *node.evicted.values_list("position", "name")])


@services
@in_loop
async def test_newest_items_of_a_large_node_are_kept(manners: str) -> None:
    service, pk = filled(**SERVICES[manners]), await make_node()
    with override_settings(PUBSUBCACHE_MAX_NODE_ITEMS=12):
        for _ in range(2):
            await sync_node(service, pk)
            node = await row(pk)
            assert (node.item_count, node.evicted_count, node.partial) == (12, 23, True)
            assert list(await rows(pk)) == service.ids()[-12:]
            assert [name for _, name in await in_thread(_places)(pk)] == service.ids()
    await sync_node(service, pk, fetch_evicted=True)
    await check_equal(pk, service)
    assert not (await row(pk)).partial


# Odd items


@in_loop
async def test_item_with_an_id_too_long_for_indexes_is_left_out() -> None:
    """The id exceeds the size of PostgreSQL's index rows, and cannot be compressed."""
    dice = random.Random(1)
    name = "".join(chr(dice.randrange(0x4E00, 0x9FFF)) for _ in range(1500))
    service, pk = await synced()
    before = await cached(pk)
    service.publish(name)
    await sync_node(service, pk)
    assert await cached(pk) == before
    node = await row(pk)
    assert (node.sync_state, node.evicted_count) == ("COMPLETED", 1)
    assert node.checked_at is not None
    service.retract(name)
    await sync_node(service, pk)
    await check_equal(pk, service)


@in_loop
async def test_invalid_publisher_is_ignored() -> None:
    service, pk = filled(3), await make_node()
    service.publish("long", publisher="x" * 5000)
    await sync_node(service, pk)
    await check_equal(pk, service)


# Random histories


@pytest.mark.parametrize("seed", range(how_many(12, 100)))
@in_loop
async def test_cache_equals_the_service_after_any_history(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random changes between all requests, whose notifications come, come late or are lost."""
    monkeypatch.setattr(order, "ATTEMPTS", 2)
    dice = random.Random(seed)
    service = filled(
        dice.randrange(40),
        paging=dice.choice(["none", "ids", "opaque"]),
        moves_edited=dice.random() < 0.5,
        disco=dice.choice(["ok", "reversed"]),
        plain_limit=dice.choice([None, 20]),
        newest_first=dice.random() < 0.2,
        duplicates=dice.random() < 0.1,
    )
    pk = await make_node()
    late: list[Any] = []
    lost = 0.0
    numbers = iter(range(1000))

    async def deliver() -> None:
        while late:
            await late.pop(0)

    async def change(service: FakeService, method: str = "", argument: Any = None) -> None:
        for _ in range(dice.randrange(3)):
            known = service.ids()
            kind = dice.choice(["new", "edit", "retract"]) if known else "new"
            if kind == "retract":
                name = dice.choice(known)
                service.retract(name)
                notice = retract(pk, name)
            else:
                name = dice.choice(known) if kind == "edit" else f"new-{next(numbers)}"
                notice = publish(pk, service.publish(name, f"title {next(numbers)}"))
            if dice.random() < lost:
                notice.close()
            else:
                late.append(notice)
        if dice.random() < 0.7:
            await deliver()

    for lost in (0.0, 0.3):  # noqa: B007  (read by `change`)
        for _ in range(3):
            service.hook = change
            with suppress(SyncFailed):  # the service changed too often
                await sync_node(service, pk)
            service.hook = None
            await change(service)
        await deliver()
        service.hook = None
        await sync_node(service, pk)
        await check_equal(pk, service)


@pytest.mark.parametrize("seed", range(15))
@in_loop
async def test_notifications_and_ids_suffice(seed: int) -> None:
    """If all notifications arrive, id checks make the cache equal to the service without a full sync."""
    dice = random.Random(seed)
    service, pk = await synced(paging=dice.choice(["none", "opaque"]), moves_edited=dice.random() < 0.5)
    for number in range(20):
        known = service.ids()
        kind = dice.choice(["new", "edit", "edit", "retract"])
        name = f"new-{number}" if kind == "new" else dice.choice(known)
        if kind == "retract":
            service.retract(name)
            await retract(pk, name)
        else:
            await publish(pk, service.publish(name, f"title {number}"))
        if dice.random() < 0.3:
            while not await check_ids(service, pk):
                pass
            await check_equal(pk, service)
    while not await check_ids(service, pk):
        pass
    await check_equal(pk, service)
    assert "subscribe" not in [method for method, _ in service.requests]
