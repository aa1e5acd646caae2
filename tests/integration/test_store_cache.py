"""Test reads: whether cache or service answers, and that both give the same answer."""

import asyncio
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from pubsubcache.analysers import Analysis, registry
from pubsubcache.cache import Freshness, get_items, get_items_sync, look_up
from pubsubcache.exceptions import (
    Forbidden,
    InvalidRequest,
    ItemNotFound,
    NotInCache,
    ServiceError,
    ServiceUnreachable,
)
from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.services import fetching
from pubsubcache.services.sessions import sessions
from pubsubcache.store import choose_analyser, evict, forget_nodes, in_thread, nodes, set_policy
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.types import ItemsPage, ItemsRequest, NodeAddress
from tests.fakes import ADDRESS, NOTE, FakeService, in_loop, note_analyser

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

ALICE, BOB = "alice@example.org", "bob@example.org"
HERE = (ADDRESS.service, ADDRESS.name)


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    Account.objects.create(jid=ALICE)
    Account.objects.create(jid=BOB)
    with registry.temporarily(note_analyser(), replace=True):
        yield


async def read(service: FakeService, account: str = ALICE, **options: Any) -> ItemsPage:
    with sessions.offered(account, service):
        return await get_items(account, *HERE, **options)


async def unreachable(account: str = ALICE, **options: Any) -> ItemsPage:
    """Read while no service is reachable."""
    return await get_items(account, *HERE, **options)


@in_thread
def row(account: str = ALICE) -> PubsubNode | None:
    return PubsubNode.objects.filter(account__jid=account, service=HERE[0], name=HERE[1]).first()


@in_thread
def change(account: str = ALICE, **fields: Any) -> None:
    assert PubsubNode.objects.filter(account__jid=account, name=HERE[1]).update(**fields) == 1


@in_thread
def change_account(**fields: Any) -> None:
    Account.objects.filter(jid=ALICE).update(**fields)


def ids(page: ItemsPage) -> list[str]:
    return [item.id for item in page.items]


async def synced(size: int = 12, account: str = ALICE, **manners: Any) -> FakeService:
    service = FakeService(**manners)
    service.fill(size)
    await read(service, account)
    node = await row(account)
    assert node is not None
    await sync_node(service, node.pk)
    service.requests.clear()
    return service


# A first read


@in_loop
async def test_first_read_is_live_and_requests_a_synchronisation() -> None:
    service = FakeService()
    service.fill(5)
    page = await read(service)
    assert (ids(page), page.origin, page.stale, page.state) == (service.ids(), "service", False, None)
    assert [item.parsed for item in page.items] == [{"title": f"Title of {name}"} for name in service.ids()]
    assert len(service.requests) == 1
    node = await row()
    assert node is not None
    assert (node.analyser, node.type, node.sync_state) == ("note", "note", None)
    assert nodes.wants_sync(node)


@in_loop
async def test_readers_during_a_first_synchronisation_get_live_answers() -> None:
    service = FakeService()
    service.fill(5)
    await read(service)
    await change(sync_state="IN_PROGRESS", sync_owner="x")
    page = await read(service)
    assert (ids(page), page.origin, page.state) == (service.ids(), "service", "IN_PROGRESS")


@in_loop
async def test_service_always_answers_without_an_analyser() -> None:
    service = FakeService()
    service.fill(3)
    with registry.temporarily(replace=True):
        for _ in range(2):
            page = await read(service)
            assert (ids(page), page.origin, page.state) == (service.ids(), "service", "NO_SYNC")
            assert page.items[0].parsed is None
        node = await row()
    assert node is not None
    assert node.sync_error == nodes.NO_ANALYSER
    assert len(service.requests) == 2
    page = await read(service)  # now there is an analyser
    assert page.state is None
    assert page.items[0].parsed is not None


@in_loop
async def test_analyser_may_decide_against_synchronisation() -> None:
    service = FakeService()
    service.fill(3)
    with registry.temporarily(note_analyser(to_sync=False), replace=True):
        page = await read(service)
        assert (page.origin, page.state) == ("service", "NO_SYNC")
        assert page.items[0].parsed == {"title": "Title of item-000"}
        node = await row()
        assert node is not None
        assert "does not synchronise" in node.sync_error


@in_loop
async def test_answer_is_used_as_sample() -> None:
    service = FakeService()
    service.fill(3)
    with registry.temporarily(note_analyser(node=None, namespace=NOTE), replace=True):
        await read(service)
        assert len(service.requests) == 1
        node = await row()
        assert node is not None
        assert node.analyser == "note"


@pytest.mark.parametrize("problem", [ZeroDivisionError("a\0b"), ServiceError("bad-request"), TimeoutError()])
@in_loop
async def test_failing_match_cb_does_not_affect_readers(problem: Exception) -> None:
    def fail(analysis: Analysis) -> None:
        raise problem

    service = FakeService()
    service.fill(3)
    with registry.temporarily(note_analyser(match_cb=fail), replace=True):
        for _ in range(2):
            page = await read(service)
            assert (ids(page), page.origin, page.state) == (service.ids(), "service", "NO_SYNC")
        node = await row()
    assert node is not None
    assert "analysis failed" in node.sync_error
    assert type(problem).__name__ in node.sync_error
    assert (await read(service)).state is None  # analysed again


@in_loop
async def test_match_cb_can_change_the_analysis() -> None:
    async def mark(analysis: Analysis) -> None:
        analysis.subtype = "special"

    service = FakeService()
    service.fill(1)
    with registry.temporarily(note_analyser(match_cb=mark), replace=True):
        await read(service)
        node = await row()
    assert node is not None
    assert node.subtype == "special"


@in_loop
async def test_failing_parser_does_not_affect_readers() -> None:
    service = FakeService()
    service.fill(3)
    service.publish("bad", "unparsable")
    page = await read(service)
    assert ids(page) == service.ids()
    assert [item.parsed is None for item in page.items] == [False, False, False, True]
    node = await row()
    assert node is not None
    await sync_node(service, node.pk)
    page = await read(service)
    assert page.origin == "cache"
    assert [item.parsed is None for item in page.items] == [False, False, False, True]


@in_loop
async def test_answer_that_cannot_be_cached_is_returned() -> None:
    """The database fails after the service has answered."""
    service = FakeService()
    service.fill(3)
    with sessions.offered(ALICE, service):

        async def forget(service: FakeService, method: str, argument: Any) -> None:
            await in_thread(Account.objects.all().delete)()

        service.hook = forget
        page = await get_items(ALICE, *HERE)
    assert ids(page) == service.ids()
    assert page.items[0].parsed is not None


# Freshness


def moments(**ago: float) -> dict[str, Any]:
    now = timezone.now()
    return {name: now - timedelta(seconds=seconds) for name, seconds in ago.items()}


HELD = {"worker": "w", "status": "online"}
LOST = {"worker": "w", "status": "connecting"}
# (account, sessions begun since the last check, subscribed, seconds since the last check) -> who answers with the
# service reachable and unreachable. A star marks a stale answer.
TRUST: list[tuple[str, dict[str, Any], int, bool, float | None, str, str]] = [
    ("followed", HELD, 0, True, 3600, "cache", "cache"),
    ("followed, just checked", HELD, 0, True, 1, "cache", "cache"),
    ("the session began after the check", HELD, 1, True, 20, "service", "cache*"),
    ("invalidated", HELD, 0, True, None, "service", "cache*"),
    ("not subscribed, fresh", HELD, 0, False, 200, "cache", "cache"),
    ("not subscribed, aged", HELD, 0, False, 400, "service", "cache*"),
    ("the session is lost", LOST, 0, True, 3600, "cache*", "cache*"),
    ("the session is lost, just checked", LOST, 0, True, 1, "cache*", "cache*"),
    ("the session is lost, not subscribed, fresh", LOST, 0, False, 200, "cache", "cache"),
    ("no worker, fresh", {}, 0, True, 200, "cache", "cache"),
    ("no worker, aged", {}, 0, True, 400, "service", "cache*"),
    ("no worker, invalidated", {}, 0, False, None, "service", "cache*"),
    ("checked in the future", HELD, 0, False, -3600, "service", "cache*"),
]


@pytest.mark.parametrize("case", TRUST, ids=lambda case: case[0])
@in_loop
async def test_freshness_decides_who_answers(case: Any) -> None:
    _, account, begun, subscribed, checked, reachable, away = case
    service = await synced()
    if account:
        await change_account(**account, **moments(heartbeat=1), fencing_token=begun)
    await change(subscribed=subscribed, checked_at=None if checked is None else moments(at=checked)["at"])
    service.publish("seen only by the service")
    page = await read(service)
    assert page.origin + "*" * page.stale == reachable
    assert ids(page) == (service.ids() if reachable == "service" else service.ids()[:-1])
    assert page.state == "COMPLETED"
    page = await unreachable()
    assert page.origin + "*" * page.stale == away
    assert ids(page) == service.ids()[:-1]
    node = await row()
    assert node is not None
    assert (node.sync_requested is not None) == (reachable == "service")


@in_loop
async def test_node_of_a_dead_worker_is_not_followed() -> None:
    service = await synced()
    await change_account(**HELD, **moments(heartbeat=60))
    await change(**moments(checked_at=3600))
    assert (await read(service)).origin == "service"
    assert (await unreachable()).stale


@in_loop
async def test_heartbeat_in_the_future_is_not_trusted() -> None:
    service = await synced()
    await change_account(**HELD, **moments(heartbeat=-7200))
    await change(**moments(checked_at=3600))
    assert (await read(service)).origin == "service"


@in_loop
async def test_maximum_age_is_a_setting() -> None:
    service = await synced()
    await change(**moments(checked_at=50))
    with override_settings(PUBSUBCACHE_MAX_AGE=20.0):
        assert (await read(service)).origin == "service"
    with override_settings(PUBSUBCACHE_MAX_AGE=80.0):
        assert (await read(service)).origin == "cache"


@in_loop
async def test_read_without_the_cache() -> None:
    service = await synced()
    service.publish("new")
    page = await read(service, use_cache=False)
    assert (ids(page), page.origin, page.state) == (service.ids(), "service", "COMPLETED")
    with pytest.raises(ServiceUnreachable):
        await unreachable(use_cache=False)


@in_loop
async def test_read_from_the_cache_only() -> None:
    with pytest.raises(NotInCache):
        await unreachable(cache_only=True)
    service = await synced()
    await change(checked_at=None)
    page = await read(service, cache_only=True)
    assert (ids(page), page.origin, page.stale) == (service.ids(), "cache", True)
    assert service.requests == []
    with pytest.raises(NotInCache):
        await read(service, cache_only=True, rsm={"after": "not ours"})
    await in_thread(lambda: evict(PubsubNode.objects.all()))()
    with pytest.raises(NotInCache):
        await read(service, cache_only=True)


@in_loop
async def test_read_fails_without_a_reachable_worker() -> None:
    with pytest.raises(ServiceUnreachable):
        await unreachable()
    await change_account(**HELD, **moments(heartbeat=1))
    with pytest.raises(ServiceUnreachable, match="REDIS_URL"):
        await unreachable()
    with pytest.raises(InvalidRequest, match="nobody"):
        await get_items("nobody@example.org", *HERE)


# Refusals


@pytest.mark.parametrize("policy", ["auto", "always"])
@pytest.mark.parametrize("use_cache", [True, False])
@in_loop
async def test_forbidden_hides_the_node_at_once(use_cache: bool, policy: str) -> None:
    service = await synced()
    await change(checked_at=None, policy=policy)
    service.errors["get_items"] = Forbidden("forbidden")
    with pytest.raises(Forbidden):
        await read(service, use_cache=use_cache)
    assert not await in_thread(PubsubItem.objects.exists)()
    service.errors["get_items"] = ServiceUnreachable("away")
    with pytest.raises(ServiceUnreachable):
        await read(service)
    service.errors.clear()
    assert ids(await read(service)) == service.ids()
    node = await row()
    assert node is not None
    assert node.sync_requested is not None or node.sync_state is None  # to be synchronised again


@in_loop
async def test_forbidden_on_an_unknown_node() -> None:
    service = FakeService(errors={"get_items": Forbidden("forbidden")})
    with pytest.raises(Forbidden):
        await read(service)
    service.errors.clear()
    service.fill(2)
    page = await read(service)
    assert (ids(page), page.state) == (service.ids(), None)


@pytest.mark.parametrize("use_cache", [True, False])
@in_loop
async def test_a_missing_node_is_forgotten(use_cache: bool) -> None:
    service = await synced()
    await change(checked_at=None)
    service.nodes.clear()
    with pytest.raises(ItemNotFound):
        await read(service, use_cache=use_cache)
    assert await row() is None


@in_loop
async def test_a_missing_item_is_not_a_missing_node() -> None:
    service = await synced(paging="ids")
    await change(checked_at=None)
    for options in ({"rsm": {"after": "nothing"}}, {"rsm": {"before": "nothing", "max": 1}}):
        with pytest.raises(ItemNotFound):
            await read(service, **options)
    assert ids(await read(service, item_ids=["nothing"])) == []
    assert await row() is not None


@in_loop
async def test_other_errors_do_not_hide_the_node() -> None:
    service = await synced()
    await change(checked_at=None)
    service.errors["get_items"] = ServiceError("feature-not-implemented")
    with pytest.raises(ServiceError, match="feature-not-implemented"):
        await read(service)
    service.errors["get_items"] = ServiceError("remote-server-timeout")
    assert (await read(service)).stale


# Paging


@pytest.mark.parametrize("paging", ["none", "ids", "opaque"])
@in_loop
async def test_cursors_of_the_service_are_passed_on(paging: Any) -> None:
    service = FakeService(paging=paging)
    service.fill(12)
    first = await read(service, rsm={"max": 5})
    node = await row()
    assert node is not None
    await sync_node(service, node.pk)
    assert first.rsm is not None
    second = await read(service, rsm={"max": 5, "after": first.rsm.last})
    assert second.origin == ("service" if paging == "opaque" else "cache")
    assert ids(first) + ids(second) == service.ids()[:10]


@pytest.mark.parametrize("paging", ["none", "ids", "opaque"])
@in_loop
async def test_paging_begun_on_the_cache_continues_on_it(paging: Any) -> None:
    service = await synced(paging=paging)
    first = await read(service, rsm={"max": 5})
    assert first.origin == "cache"
    assert first.rsm is not None
    service.requests.clear()
    node = await row()
    assert node is not None
    await sync_node(service, node.pk)
    second = await read(service, rsm={"max": 5, "after": first.rsm.last})
    assert ids(first) + ids(second) == service.ids()[:10]
    assert second.origin == "cache"


@pytest.mark.parametrize("paging", ["none", "ids", "opaque"])
@pytest.mark.parametrize("order_by", [None, "creation"])
@in_loop
async def test_paging_begun_on_the_cache_survives_invalidation(paging: Any, order_by: Any) -> None:
    service = await synced(paging=paging)
    found: list[str] = []
    rsm: dict[str, Any] = {"max": 5}
    for turn in range(3):
        page = await read(service, rsm=rsm, order_by=order_by)
        found += ids(page)
        assert page.rsm is not None
        rsm = {"max": 5, "after": page.rsm.last}
        if turn == 0:
            await change(checked_at=None)
    assert found == service.ids()


@in_loop
async def test_cached_node_supports_paging_and_order() -> None:
    service = await synced()
    assert ids(await read(service, rsm={"max": 3, "index": 4})) == service.ids()[4:7]
    assert ids(await read(service, max_items=3, order_by="creation")) == service.ids()[-3:]
    page = await read(service, rsm={"max": 0})
    assert page.rsm is not None
    assert page.rsm.count == 12
    assert service.requests == []


FORMS: list[dict[str, Any]] = [
    {}, {"max_items": 3}, {"max_items": 99}, {"item_ids": ["item-003", "none", "item-001"]}, {"rsm": {"max": 5}},
    {"rsm": {"max": 5, "before": ""}}, {"rsm": {"max": 0}}, {"rsm": {"max": 5, "index": 9}}, {"rsm": {}},
]  # fmt: skip


@pytest.mark.parametrize("paging", ["none", "ids", "opaque"])
@in_loop
async def test_the_same_request_has_the_same_answer(paging: Any) -> None:
    service = await synced(paging=paging)
    for form in FORMS:
        cached, live = await read(service, **form), await read(service, use_cache=False, **form)
        assert (cached.origin, live.origin) == ("cache", "service")
        assert [(item.id, item.xml, item.parsed) for item in cached.items] == [
            (item.id, item.xml, item.parsed) for item in live.items
        ]
        assert cached.complete == live.complete, form
        assert (cached.rsm is None) == (live.rsm is None), form


# Evicted items


@in_loop
async def test_evicted_items_are_fetched_from_the_service() -> None:
    service = await synced()
    long_ago = timezone.now() - timedelta(days=2)
    await in_thread(PubsubItem.objects.filter(name__in=["item-003", "item-007"]).update)(created=long_ago)
    await in_thread(lambda: evict(PubsubNode.objects.all(), created_before=long_ago + timedelta(days=1)))()
    page = await read(service)
    assert (ids(page), page.origin) == (service.ids(), "service")
    assert all(item.parsed is not None for item in page.items)
    assert [request.item_ids for request in service.asked()] == [("item-003", "item-007")]
    assert (await read(service, max_items=3)).origin == "cache"
    assert (await read(service, rsm={"max": 3})).origin == "cache"
    page = await read(service, rsm={"max": 2, "index": 2})
    assert (ids(page), page.origin) == (["item-002", "item-003"], "service")
    assert ids(await read(service, item_ids=["item-007", "item-001"])) == ["item-007", "item-001"]
    with pytest.raises(ServiceUnreachable):
        await unreachable()


@in_loop
async def _prepare() -> None:
    await synced()


CHANGES: dict[str, Any] = {
    "evicted": lambda: evict(PubsubNode.objects.all(), created_before=timezone.now() - timedelta(days=1)),
    "all evicted": lambda: evict(PubsubNode.objects.all()),
    "never": lambda: set_policy(PubsubNode.objects.all(), "never"),
    "switched off": lambda: choose_analyser("note", False),
    "hidden": lambda: nodes.hide_node(PubsubNode.objects.get().pk, "forbidden"),
    "forgotten": lambda: forget_nodes(PubsubNode.objects.all(), unsubscribe=False),
}


@pytest.mark.parametrize("what", CHANGES)
@pytest.mark.parametrize("evicted", [False, True])
@pytest.mark.parametrize(
    "form", [{}, {"max_items": 3}, {"rsm": {"max": 3}}, {"item_ids": ["item-000"]}, {"rsm": {"index": 1, "max": 2}}]
)
def test_items_removed_between_two_queries_are_not_missing(form: dict[str, Any], evicted: bool, what: str) -> None:
    """The row of the node is read first, then the items; another process changes them in between."""
    _prepare()
    old = PubsubItem.objects.filter(name__lt="item-004")
    old.update(created=timezone.now() - timedelta(days=2))
    if evicted:
        long_ago = timezone.now() - timedelta(days=1, hours=12)
        old.filter(name__lt="item-002").update(created=long_ago - timedelta(days=1))
        evict(PubsubNode.objects.all(), created_before=long_ago - timedelta(hours=1))
    done: list[bool] = []

    def change_in_between(execute: Any, sql: str, *arguments: Any) -> Any:
        if "pubsubcache_pubsubitem" in sql and not done:
            done.append(True)
            CHANGES[what]()
        return execute(sql, *arguments)

    with connection.execute_wrapper(change_in_between):
        found = look_up(ALICE, ADDRESS, ItemsRequest(**form))
    assert done
    if what in ("never", "switched off", "hidden", "forgotten"):
        assert (found.page, found.freshness) == (None, Freshness.MISS)
    else:
        service = FakeService()
        service.fill(12)
        expected = async_to_sync(fetching.read)(service, ADDRESS, ItemsRequest(**form))
        assert found.page is not None
        assert [entry.item_id for entry in found.page.entries] == [item.id for item in expected.items]


@in_loop
async def test_forbidden_while_completing_a_page_hides_the_node() -> None:
    service = await synced()
    await in_thread(lambda: evict(PubsubNode.objects.all()))()
    service.errors["get_items"] = Forbidden("forbidden")
    with pytest.raises(Forbidden):
        await read(service)
    node = await row()
    assert node is not None
    assert (node.sync_state, node.evicted_count) == ("ERROR", 0)


@in_loop
async def test_missing_evicted_item_invalidates_the_node() -> None:
    service = await synced()
    await in_thread(lambda: evict(PubsubNode.objects.all()))()
    service.retract("item-004")
    assert ids(await read(service)) == service.ids()
    node = await row()
    assert node is not None
    assert node.checked_at is None


# Accounts


@in_loop
async def test_accounts_see_only_their_own_rows() -> None:
    private = await synced(account=ALICE)
    public = FakeService()
    public.fill(2)
    page = await read(public, BOB)
    assert (ids(page), page.origin) == (public.ids(), "service")
    with pytest.raises(ServiceUnreachable):
        await unreachable(BOB, item_ids=["item-005"])
    with pytest.raises(NotInCache):
        await unreachable(BOB, cache_only=True)
    assert ids(await unreachable(ALICE)) == private.ids()
    refused = FakeService(errors={"get_items": Forbidden("forbidden")})
    with pytest.raises(Forbidden):
        await read(refused, BOB)
    assert ids(await unreachable(ALICE)) == private.ids()


@in_loop
async def test_addresses_are_normalised() -> None:
    service = await synced()
    for account in (ALICE, "Alice@EXAMPLE.org", await in_thread(Account.objects.get)(jid=ALICE)):
        page = await get_items(account, ADDRESS.service.upper(), ADDRESS.name)
        assert (ids(page), page.origin) == (service.ids(), "cache")
    pep = FakeService()
    pep.fill(1, NodeAddress(ALICE, "n"))
    with sessions.offered(ALICE, pep):
        assert len((await get_items(ALICE, None, "n")).items) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("alice", *HERE),
        ("alice@example.org/home", *HERE),
        (ALICE, "no jid", "n"),
        (ALICE, ADDRESS.service, ""),
        (ALICE, ADDRESS.service, "a\0b"),
        (ALICE, ADDRESS.service, "a\ud800b"),
        (ALICE, ADDRESS.service, "é" * 1300),
    ],
)
@in_loop
async def test_invalid_addresses(arguments: Any) -> None:
    with pytest.raises(InvalidRequest):
        await get_items(*arguments)


@pytest.mark.parametrize(
    "options", [{"item_ids": "abc"}, {"item_ids": ["a\0"]}, {"max_items": 0}, {"rsm": {"max": -1}}, {"order_by": "x"}]
)
@in_loop
async def test_invalid_requests(options: dict[str, Any]) -> None:
    service = await synced()
    with pytest.raises(InvalidRequest):
        await read(service, **options)
    assert service.requests == []


# Synchronous code, and the cost of a hit


class Elsewhere:
    """A service in the event loop of another thread, as in the process of a web server."""

    def __init__(self, service: FakeService) -> None:
        self.service = service
        self.ready = threading.Event()

    async def _live(self) -> None:
        self.done = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        with sessions.offered(ALICE, self.service):
            self.ready.set()
            await self.done.wait()

    def __enter__(self) -> None:
        self.thread = threading.Thread(target=asyncio.run, args=(self._live(),))
        self.thread.start()
        self.ready.wait()

    def __exit__(self, *exc_info: object) -> None:
        self.loop.call_soon_threadsafe(self.done.set)
        self.thread.join()


def test_synchronous_reads_work_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("channels.db.close_old_connections", lambda: None)
    service = FakeService()
    service.fill(5)
    with Elsewhere(service):
        page = get_items_sync(ALICE, *HERE)
        assert (ids(page), page.origin) == (service.ids(), "service")
        node = PubsubNode.objects.get()
        async_to_sync(sync_node)(service, node.pk)
        assert get_items_sync(ALICE, *HERE).origin == "cache"
        assert get_items_sync(ALICE, *HERE, use_cache=False).origin == "service"
        with pytest.raises(ItemNotFound):
            get_items_sync(ALICE, *HERE, rsm={"after": "nothing"})
    with pytest.raises(NotInCache):
        get_items_sync(BOB, *HERE, cache_only=True)


@pytest.mark.parametrize("form", FORMS)
def test_a_hit_is_two_queries(form: dict[str, Any], django_assert_max_num_queries: Any) -> None:
    _prepare()
    with django_assert_max_num_queries(2):
        assert get_items_sync(ALICE, *HERE, **form).origin == "cache"


@in_loop
async def test_many_concurrent_readers() -> None:
    service = await synced()
    pages = await asyncio.gather(*(read(service, **form) for form in FORMS * 5))
    assert {page.origin for page in pages} == {"cache"}
    assert service.requests == []
