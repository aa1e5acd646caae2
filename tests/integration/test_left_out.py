"""Test that items that cannot be kept are left out with a reason while the rest of their node is cached."""

import asyncio
import io
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from django.core.management import call_command
from django.test import override_settings
from django.utils import timezone

from pubsubcache.analysers import registry
from pubsubcache.cache import get_items
from pubsubcache.models import Account, PubsubEvicted, PubsubItem, PubsubNode
from pubsubcache.services.sessions import sessions
from pubsubcache.store import evict, in_thread
from pubsubcache.store.reading import read_page
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.syncing.notifications import EventApplier
from pubsubcache.syncing.revalidation import check_ids
from pubsubcache.types import (
    Item,
    ItemsPage,
    ItemsRequest,
    NodeAddress,
    PubsubEvent,
    Rsm,
    ServicePage,
    is_short,
    known_id,
)
from tests.admin_data import superuser, url
from tests.fakes import (
    ADDRESS,
    FakeService,
    in_loop,
    make_item,
    node_event,
    note_analyser,
    publish_event,
    retract_event,
)

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

ALICE = "alice@example.org"
LARGE = "x" * 1000  # a title that makes an item exceed the bound
LONG_ID = "long " + "x" * 3000
MIDDLE = 5
SERVICES: dict[str, dict[str, Any]] = {
    "no paging": {},
    "ids": {"paging": "ids"},
    "opaque": {"paging": "opaque"},
    "newest first": {"paging": "ids", "newest_first": True},
    "moves edited": {"paging": "ids", "moves_edited": True},
    "by ids": {"plain_limit": 10},
}
FORMS: list[dict[str, Any]] = [
    {},
    {"max_items": 3},
    {"max_items": 7},
    {"item_ids": ["item-004", "item-005", LONG_ID, "item-006", "none"]},
    {"rsm": Rsm(max=4)},
    {"rsm": Rsm(max=0)},
    {"rsm": Rsm(max=3, before="")},
    {"rsm": Rsm(max=3, index=4)},
    {"rsm": Rsm(max=1, index=5)},
]


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    Account.objects.create(jid=ALICE, worker="w", status=Account.Status.ONLINE, heartbeat=timezone.now())
    with (
        registry.temporarily(note_analyser(), replace=True),
        override_settings(PUBSUBCACHE_MAX_ITEM_SIZE=600, PUBSUBCACHE_PAGE_SIZE=4),
    ):
        yield


@in_thread
def row() -> PubsubNode:
    return PubsubNode.objects.get(name=ADDRESS.name)


@in_thread
def left_out_rows() -> dict[str, str]:
    return dict(PubsubEvicted.objects.exclude(reason="").values_list("name", "reason"))


@in_thread
def stored() -> list[str]:
    return list(PubsubItem.objects.in_order().values_list("name", flat=True))


async def read(service: FakeService, **options: Any) -> ItemsPage:
    with sessions.offered(ALICE, service):
        return await get_items(ALICE, ADDRESS.service, ADDRESS.name, **options)


async def synced(*odd: str, size: int = 12, **manners: Any) -> tuple[FakeService, int]:
    """Return a service with a node in sync whose items `odd` are too large."""
    service = FakeService(**manners)
    service.fill(size)
    for name in odd:
        service.publish(name, LARGE)
    await read(service)
    node = await row()
    await sync_node(service, node.pk)
    service.requests.clear()
    return service, node.pk


async def apply(service: FakeService, *events: PubsubEvent, unchecked: list[int] | None = None) -> list[int]:
    """Apply notifications; return the nodes that they invalidated."""
    invalidated: list[int] = []
    note = (lambda pk: None) if unchecked is None else unchecked.append
    applier = EventApplier(ALICE, service, on_id_check=note, on_invalidated=invalidated.append)
    for event in events:
        applier.feed(event)
    task = asyncio.create_task(applier.run())
    await applier.join()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return invalidated


def answer(page: ItemsPage) -> tuple[Any, ...]:
    """Return the parts of an answer that are the same from the cache and from the service."""
    count = None if page.rsm is None else (page.rsm.count, page.rsm.index)
    return [(item.id, item.xml) for item in page.items], page.left_out, page.complete, count


async def check_equal(service: FakeService) -> None:
    """Assert that the cache answers every form of request like the service, and without a request to it."""
    page = await read(service)
    assert page.origin == "cache"
    reasons = dict(page.left_out)
    assert [(item.id, item.xml) for item in page.items] == [
        (name, xml) for name, xml in service.xml().items() if name not in reasons
    ]
    # The positions of items include those left out.
    assert [await name_at(service, place) for place in range(len(service.ids()))] == service.ids()
    if service.newest_first or service.plain_limit:
        return  # the service's own answers have another order, or are cut
    for form in FORMS:
        live = await read(service, use_cache=False, **form)
        service.requests.clear()
        page = await read(service, **form)
        assert page.origin == "cache", form
        assert service.requests == [], form
        if live.rsm is None and page.rsm is not None:
            continue
        assert answer(page) == answer(live), form


async def name_at(service: FakeService, index: int) -> str:
    page = await read(service, rsm=Rsm(max=1, index=index))
    return page.items[0].id if page.items else page.left_out[0][0]


async def walk(service: FakeService, **options: Any) -> list[str]:
    """Return the ids of all items, including those left out, by paging forwards."""
    found: list[str] = []
    cursor = None
    while True:
        page = await read(service, rsm=Rsm(max=2, after=cursor), **options)
        found += [item.id for item in page.items] + [name for name, _ in page.left_out]
        if page.complete:
            return found
        assert page.rsm is not None
        cursor = page.rsm.last


def test_only_ids_that_cannot_be_stored_have_a_short_form() -> None:
    for name in ("", "a", "x" * 2048, "é" * 1024, "left-out"):
        assert known_id(name) == name
    odd = ["x" * 2049, "é" * 1025, "a\0b", "\ud800", known_id("x" * 2049)]
    forms = [known_id(name) for name in odd]
    assert len(set(forms)) == len(odd)
    assert all(is_short(form) and len(form) < 100 for form in forms)
    assert all(Item.from_element(make_element(name)).left_out for name in odd)


def make_element(name: str) -> Any:
    element = make_item("a").element
    element.set("id", name)
    return element


@pytest.mark.parametrize("manners", SERVICES.values(), ids=SERVICES)
@in_loop
async def test_node_with_odd_items_is_completed_and_read_like_the_service(manners: dict[str, Any]) -> None:
    service, _ = await synced("item-005", LONG_ID, "item-000", "last", **manners)
    node = await row()
    assert (node.sync_state, node.item_count, node.evicted_count) == ("COMPLETED", 10, 4)
    assert not node.partial
    await check_equal(service)
    assert sorted(await walk(service)) == sorted(service.ids())
    assert (await left_out_rows())["item-005"] == "The item is longer than 600 bytes."


@pytest.mark.parametrize("manners", SERVICES.values(), ids=SERVICES)
@in_loop
async def test_second_sync_changes_and_writes_nothing(manners: dict[str, Any]) -> None:
    service, pk = await synced("item-005", LONG_ID, **manners)
    before = await left_out_values()
    result = await sync_node(service, pk, fetch_evicted=True)
    assert result.counts == (0, 0, 0)
    assert await left_out_values() == before
    assert not (await row()).partial
    assert await check_ids(service, pk)
    await check_equal(service)


@in_thread
def left_out_values() -> list[dict[str, Any]]:
    return list(PubsubEvicted.objects.order_by("pk").values())


@pytest.mark.parametrize("by_notification", [True, False])
@pytest.mark.parametrize("manners", SERVICES.values(), ids=SERVICES)
@in_loop
async def test_item_edited_to_odd_and_back(manners: dict[str, Any], by_notification: bool) -> None:
    service, pk = await synced(**manners)
    created = await created_of("item-005")
    for title in (LARGE, "good again", LARGE, LARGE + "y"):
        item = service.publish("item-005", title)
        if by_notification:
            assert await apply(service, publish_event(item)) == []
            assert await check_ids(service, pk)
        else:
            await sync_node(service, pk)
        assert ("item-005" in await left_out_rows()) == bool(item.left_out)
        assert ("item-005" in await stored()) == (not item.left_out)
        assert await created_of("item-005") == created
        if not by_notification and (await row()).is_order_unknown:
            assert await check_ids(service, pk)
        await check_equal(service)


@in_thread
def created_of(name: str) -> Any:
    found = PubsubItem.objects.filter(name=name).first() or PubsubEvicted.objects.get(name=name)
    return found.created


@pytest.mark.parametrize("name", ["new", LONG_ID])
@in_loop
async def test_odd_item_is_published_and_retracted_by_notification(name: str) -> None:
    service, pk = await synced(paging="ids")
    item = service.publish(name, LARGE)
    assert await apply(service, publish_event(make_item("other")), publish_event(item)) == []
    service.publish("other")
    service.nodes[ADDRESS].items[item.id] = service.nodes[ADDRESS].items.pop(item.id)
    await check_equal(service)
    assert await check_ids(service, pk)
    service.retract(name)
    assert await apply(service, retract_event(name)) == []
    await check_equal(service)
    assert await left_out_rows() == {}
    assert (await row()).evicted_count == 0


@in_loop
async def test_purge_of_the_node_removes_odd_items() -> None:
    service, _ = await synced("item-005")
    service.nodes[ADDRESS].items.clear()
    await apply(service, node_event("purge"))
    assert await left_out_rows() == {}
    assert (await row()).evicted_count == 0


@pytest.mark.parametrize("name", ["item-005", LONG_ID])
@in_loop
async def test_odd_item_retracted_without_notification_is_removed_by_a_sync(name: str) -> None:
    service, pk = await synced(name, paging="ids")
    service.retract(name)
    assert (await sync_node(service, pk)).removed == 0
    assert await left_out_rows() == {}
    await check_equal(service)


def before_page_arrives(service: FakeService, after: str, act: Callable[[], Awaitable[Any]]) -> None:
    """Run `act` after the service has answered with the page after the item `after` and before it arrives."""
    original = service.get_items

    async def get_items(address: NodeAddress, request: ItemsRequest) -> ServicePage:
        page = await original(address, request)
        if request.rsm is not None and request.rsm.after == after:
            del service.get_items  # type: ignore[attr-defined]
            await act()
        return page

    service.get_items = get_items  # type: ignore[method-assign]


@in_loop
async def test_odd_item_retracted_during_a_sync_is_not_restored() -> None:
    service, pk = await synced("item-010", paging="ids")

    async def retract() -> None:
        service.retract("item-010")
        await apply(service, retract_event("item-010"))

    before_page_arrives(service, "item-007", retract)
    await sync_node(service, pk)
    assert await left_out_rows() == {}
    assert "item-010" not in await stored()


@pytest.mark.parametrize("titles", [(LARGE, "good"), ("good", LARGE), (LARGE, LARGE + "y")])
@in_loop
async def test_notification_during_a_sync_is_newer_than_the_page(titles: tuple[str, str]) -> None:
    """The version of the item in the page is older than the notified one."""
    older, newer = titles
    service, pk = await synced(paging="ids")
    service.publish("item-005", older)

    async def edit() -> None:
        await apply(service, publish_event(service.publish("item-005", newer)))

    before_page_arrives(service, "item-003", edit)
    await sync_node(service, pk)
    await check_ids(service, pk)
    assert ("item-005" in await left_out_rows()) == (newer != "good")
    await check_equal(service)


@in_loop
async def test_odd_item_published_after_the_last_page_is_kept() -> None:
    service, pk = await synced(paging="ids")

    async def publish() -> None:
        await apply(service, publish_event(service.publish("new", LARGE)))

    before_page_arrives(service, "item-011", publish)
    await sync_node(service, pk)
    assert list(await left_out_rows()) == ["new"]
    await check_ids(service, pk)
    await check_equal(service)


@in_loop
async def test_order_is_checked_if_only_an_odd_item_follows_an_edited_one() -> None:
    service, pk = await synced("item-011", paging="ids", moves_edited=True)
    unchecked: list[int] = []
    await apply(service, publish_event(service.publish("item-010", "edited")), unchecked=unchecked)
    assert unchecked == [pk]
    assert await check_ids(service, pk)
    assert (await row()).moves is True
    await check_equal(service)


@in_loop
async def test_node_that_lacks_only_odd_items_is_not_partial() -> None:
    service, pk = await synced("item-005", paging="ids")
    with override_settings(PUBSUBCACHE_MAX_NODE_ITEMS=5):
        await sync_node(service, pk)
        service.publish("item-012")
        await sync_node(service, pk)
    assert (await row()).partial
    await sync_node(service, pk, fetch_evicted=True)
    assert not (await row()).partial
    await check_equal(service)


@pytest.mark.parametrize("name", ["new", LONG_ID])
@in_loop
async def test_odd_item_notified_late_is_left_out(name: str) -> None:
    service, _ = await synced()
    await apply(service, publish_event(service.publish(name, LARGE), delayed=True))
    assert list(await left_out_rows()) == [known_id(name)]
    await check_equal(service)


@in_loop
async def test_evicted_items_are_fetched_and_odd_ones_are_not() -> None:
    service, pk = await synced("item-005")
    await in_thread(lambda: evict(PubsubNode.objects.filter(pk=pk)))()
    page = await read(service)
    assert (len(page.items), [name for name, _ in page.left_out]) == (11, ["item-005"])
    asked = [name for request in service.asked() for name in request.item_ids or ()]
    assert len(asked) == 11
    assert "item-005" not in asked
    await sync_node(service, pk, fetch_evicted=True)
    await check_equal(service)


@in_loop
async def test_evicted_item_that_turns_out_odd_is_fetched_once() -> None:
    service, pk = await synced()
    await in_thread(lambda: evict(PubsubNode.objects.filter(pk=pk)))()
    service.publish("item-005", LARGE)
    page = await read(service, item_ids=["item-005", "item-006"])
    assert ([item.id for item in page.items], [name for name, _ in page.left_out]) == (["item-006"], ["item-005"])
    service.requests.clear()
    page = await read(service, item_ids=["item-005"])
    assert (page.origin, len(page.left_out), service.requests) == ("cache", 1, [])


@in_loop
async def test_sample_for_analysers_is_a_regular_item() -> None:
    service = FakeService()
    service.fill(2)
    service.publish("odd", LARGE)
    await read(service, item_ids=["odd"])
    assert (await row()).analyser == "note"


@in_loop
async def test_limit_of_the_service_counts_odd_items() -> None:
    service, pk = await synced("item-000", paging="ids")
    for number in (12, 13):  # the service drops the oldest item without a notification
        await apply(service, publish_event(service.publish(f"item-{number:03}")))
        service.retract(next(iter(service.nodes[ADDRESS].items)))
        await sync_node(service, pk)
    assert (await row()).traits.limit == 12
    assert await left_out_rows() == {}
    await check_equal(service)


@in_loop
async def test_page_of_only_odd_items_has_a_next_page() -> None:
    _service, _pk = await synced("item-004", "item-005", "item-006")
    node = await row()
    page = await in_thread(read_page)(node, ItemsRequest(rsm=Rsm(max=3, index=4)))
    assert page is not None
    assert (len(page.left_out), page.complete) == (3, False)
    assert page.rsm is not None
    assert (page.rsm.count, page.rsm.last) == (12, "item-006")


# Commands, exports and the admin


@in_loop
async def prepared() -> None:
    await synced("item-005", LONG_ID)


def call(*arguments: str) -> str:
    out = io.StringIO()
    with patch("channels.db.close_old_connections"):  # must not end the test's transaction
        call_command(*arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_commands_report_left_out_items() -> None:
    prepared()
    (node,) = json.loads(call("pubsub_nodes", "-O", "json"))
    assert (node["items"], node["left_out"]) == (11, 2)
    target = ("-a", ALICE, "-s", ADDRESS.service, "-n", ADDRESS.name, "--cache-only")
    page = json.loads(call("pubsub_get", *target, "-O", "json"))
    assert {entry["id"] for entry in page["left_out"]} == {"item-005", known_id(LONG_ID)}
    assert "longer than 600 bytes" in page["left_out"][0]["reason"]
    assert "2 items left out" in call("pubsub_get", *target)


@pytest.mark.parametrize("form", ["jsonl", "xml"])
def test_export_and_import_keep_left_out_items(tmp_path: Path, form: str) -> None:
    prepared()
    PubsubEvicted.objects.create(
        node=PubsubNode.objects.get(), name="purged", position=1, created=timezone.now(), updated=timezone.now()
    )
    PubsubNode.objects.update(evicted_count=3)
    before = list(PubsubEvicted.objects.order_by("position").values("name", "position", "created", "updated", "reason"))
    path = tmp_path / "nodes"
    call("pubsub_export", "-O", form, "-o", str(path))
    call("pubsub_import", str(path), "--replace")
    after = list(PubsubEvicted.objects.order_by("position").values("name", "position", "created", "updated", "reason"))
    assert after == before
    assert PubsubNode.objects.get().pinned


def test_export_of_an_older_version_has_no_reasons(tmp_path: Path) -> None:
    prepared()
    path = tmp_path / "nodes"
    call("pubsub_export", "-O", "jsonl", "-o", str(path))
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        record.pop("reason", None)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    call("pubsub_import", str(path), "--replace")
    assert set(PubsubEvicted.objects.values_list("reason", flat=True)) == {""}


def test_node_page_of_the_admin_lists_left_out_items() -> None:
    prepared()
    node = PubsubNode.objects.get()
    now = timezone.now()
    rows = [
        PubsubEvicted(node=node, name=f"<b>{n}", position=n, created=now, updated=now, reason="<i>" * 200)
        for n in range(30)
    ]
    PubsubEvicted.objects.bulk_create(rows)
    page = superuser().get(url("pubsubnode", "change", node.pk)).content.decode()
    assert "32 items left out" in page
    assert "&lt;b&gt;19" in page
    assert "&lt;b&gt;20" not in page
    assert "<i>" not in page
    assert page.count("&lt;i&gt;") <= 20 * 100
