"""Test that reads from a service follow the same rules, however the service behaves."""

import asyncio
from typing import Any

import pytest

from pubsubcache.exceptions import Forbidden, ItemNotFound, ServiceError, ServiceUnreachable, TooLarge
from pubsubcache.services import fetching
from pubsubcache.types import ItemsPage, ItemsRequest, Rsm, ServicePage
from tests.fakes import ADDRESS, FakeService, make_item


async def read(service: FakeService, **options: Any) -> ItemsPage:
    return await fetching.read(service, ADDRESS, ItemsRequest(**options))


def ids(page: ItemsPage) -> list[str]:
    return [item.id for item in page.items]


def filled(size: int = 47, /, **manners: Any) -> FakeService:
    service = FakeService(**manners)
    service.fill(size)
    return service


ALL: dict[str, dict[str, Any]] = {
    "plain": {},
    "paging": {"paging": "opaque"},
    "cut, with a set": {"paging": "opaque", "plain_limit": 20, "unrequested_set": True},
    "cut, with a set that says nothing": {
        "paging": "opaque", "plain_limit": 20, "unrequested_set": True, "count": lambda real: None,
    },
    "cut, ids listed": {"plain_limit": 20},
    "cut, ids listed newest first": {"plain_limit": 20, "disco": "reversed"},
    "whole node refused": {"paging": "ids", "refuse_over": 20, "refusal": TooLarge("big")},
}  # fmt: skip


@pytest.mark.parametrize("manners", ALL)
async def test_request_without_options_returns_everything(manners: str) -> None:
    service = filled(**ALL[manners])
    page = await read(service)
    assert (ids(page), page.rsm, page.complete, page.origin) == (service.ids(), None, True, "service")
    assert {item.id: item.xml for item in page.items} == service.xml()


@pytest.mark.parametrize("manners", ["plain", "paging", "cut, ids listed", "cut, with a set"])
async def test_the_newest(manners: str) -> None:
    for number in (1, 5, 30, 46, 47, 48):
        service = filled(**ALL[manners])
        page = await read(service, max_items=number)
        assert ids(page) == service.ids()[-number:]
        assert page.complete == (number > 47)


async def test_ordinary_read_takes_one_request() -> None:
    service = filled()
    await read(service)
    await read(service, max_items=5)
    assert len(service.requests) == 2


async def test_reversed_last_page_is_corrected() -> None:
    service = filled(paging="opaque", turned_last_page=True, unrequested_set=True)
    assert ids(await read(service, max_items=5)) == service.ids()[-5:]
    page = await read(service, rsm={"max": 5, "before": ""})
    assert ids(page) == service.ids()[-5:]
    assert page.rsm is not None
    before = await read(service, rsm={"max": 5, "before": page.rsm.first})
    assert ids(before) == service.ids()[-10:-5]


def rsm_page(names: list[str], first: str | None, last: str | None) -> ServicePage:
    return ServicePage(items=[make_item(name) for name in names], rsm=Rsm(first=first, last=last))


@pytest.mark.parametrize(
    ("names", "first", "last", "turned"),
    [
        (["a", "b", "c"], "a", "c", False),
        (["c", "b", "a"], "a", "c", True),
        (["a", "b"], None, None, False),
        (["a"], "a", "a", False),
        (["a", "b"], "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z", True),
        (["a", "b"], "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", False),
        (["a", "b"], "2026-01-02", "2026-01-01T00:00:00Z", True),
        (["a", "b"], "20260102", "x", False),
        (["2026-01-02", "2026-01-01"], "2026-01-02", "2026-01-01", False),
        (["20260102", "20260101"], "20260102", "20260101", False),
        (["a", "b"], "", "", False),
        (["a", "b"], "9", "1", False),
    ],
)
def test_order_within_pages_is_corrected(names: list[str], first: str | None, last: str | None, turned: bool) -> None:
    page = fetching.upright(rsm_page(names, first, last))
    assert [item.id for item in page.items] == (names[::-1] if turned else names)
    if turned and first != names[-1]:
        assert page.rsm == Rsm(first=last, last=first)


@pytest.mark.parametrize("unknown_id", ["absent", "item-not-found"])
@pytest.mark.parametrize("ids_order", ["asked", "age"])
@pytest.mark.parametrize("ids_limit", [None, 10])
async def test_items_come_in_the_requested_order(unknown_id: Any, ids_order: Any, ids_limit: int | None) -> None:
    service = filled(unknown_id=unknown_id, ids_order=ids_order, ids_limit=ids_limit)
    page = await read(service, item_ids=["item-007", "nothing", "item-002", "item-040", "nor this"])
    assert ids(page) == ["item-007", "item-002", "item-040"]
    everything = service.ids()[::-1]
    assert ids(await read(service, item_ids=everything)) == everything
    assert ids(await read(service, item_ids=["nothing"])) == []
    assert len(service.requests) < 40


async def test_many_ids_are_requested_in_batches() -> None:
    service = filled(250)
    everything = service.ids()
    assert ids(await read(service, item_ids=everything)) == everything
    assert [len(request.item_ids) for request in service.asked()] == [100, 100, 50]


async def test_ids_of_a_missing_node() -> None:
    with pytest.raises(ItemNotFound):
        await read(FakeService(), item_ids=["a", "b"])
    assert ids(await read(FakeService(), item_ids=[])) == []


@pytest.mark.parametrize("error", [Forbidden("forbidden"), ItemNotFound(), ServiceUnreachable("away")])
@pytest.mark.parametrize("options", [{}, {"max_items": 2}, {"item_ids": ["a"]}, {"rsm": {"max": 2}}])
async def test_errors_are_raised(options: dict[str, Any], error: Exception) -> None:
    with pytest.raises(type(error)):
        await read(filled(errors={"get_items": error}), **options)


PAGES: list[dict[str, Any]] = [
    {"max": 5}, {"max": 47}, {"max": 50}, {}, {"max": 0}, {"max": 0, "before": ""},
    {"before": ""}, {"max": 5, "before": ""}, {"max": 47, "before": ""},
    {"index": 0}, {"max": 5, "index": 40}, {"max": 7, "index": 40}, {"max": 5, "index": 47}, {"max": 5, "index": 99},
]  # fmt: skip


@pytest.mark.parametrize("rsm", PAGES)
@pytest.mark.parametrize("paging", ["ids", "opaque"])
async def test_service_without_paging_gives_the_same_pages(rsm: dict[str, Any], paging: Any) -> None:
    """Compare the page that we cut ourselves with the page of a service."""
    ours = await read(filled(), rsm=rsm)
    theirs = await read(filled(paging=paging), rsm=rsm)
    assert ids(ours) == ids(theirs)
    assert ours.rsm is not None
    assert theirs.rsm is not None
    assert ours.rsm.count == theirs.rsm.count == 47
    assert ours.complete or not theirs.complete
    if rsm.get("before") != "" or rsm.get("max") != 0:
        assert ours.complete == theirs.complete


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    "manners",
    [
        {},
        {"paging": "ids"},
        {"paging": "opaque"},
        {"paging": "opaque", "index": lambda real: 0},
        {"paging": "opaque", "index": lambda real: 42},
        {"paging": "ids", "index": lambda real: None, "count": lambda real: None},
        {"paging": "ids", "page_limit": 4},
    ],
)
async def test_following_pages_until_complete_returns_everything(manners: dict[str, Any], backwards: bool) -> None:
    service = filled(**manners)
    found: list[str] = []
    rsm = {"max": 5, "before": ""} if backwards else {"max": 5}
    for _ in range(30):
        page = await read(service, rsm=rsm)
        found = ids(page) + found if backwards else found + ids(page)
        if page.complete:
            break
        assert page.rsm is not None
        rsm = {"max": 5, "before": page.rsm.first} if backwards else {"max": 5, "after": page.rsm.last}
    assert found == service.ids()
    assert page.complete


@pytest.mark.parametrize("rsm", [{"after": "nothing"}, {"before": "nothing"}, {"max": 0, "after": "nothing"}])
async def test_unknown_cursor_raises_item_not_found(rsm: dict[str, Any]) -> None:
    for paging in ("none", "ids", "opaque"):
        with pytest.raises(ItemNotFound):
            await read(filled(paging=paging), rsm=rsm)


@pytest.mark.parametrize(("index", "found"), [(46, 1), (47, 0), (60, 0)])
async def test_index_past_the_end_is_an_empty_page_even_if_the_service_refuses_it(index: int, found: int) -> None:
    service = filled(paging="opaque", breaks_on={} if found else {1: ServiceError("internal-server-error")})
    page = await read(service, rsm={"max": 5, "index": index})
    assert (len(page.items), page.rsm and page.rsm.count, page.complete) == (found, 47, True)
    service = filled(paging="opaque", breaks_on={1: ServiceError("internal-server-error")})
    with pytest.raises(ServiceError, match="internal-server-error"):
        await read(service, rsm={"max": 5, "index": 46})


def test_local_pages() -> None:
    items = [make_item(name) for name in "abcde"]

    def page(**rsm: Any) -> tuple[str, bool]:
        found = fetching.local_page(items, Rsm(**rsm))
        assert found.rsm is not None
        assert found.rsm.count == 5
        return "".join(ids(found)), found.complete

    assert page(after="b", max=2) == ("cd", False)
    assert page(after="b", max=3) == ("cde", True)
    assert page(after="e") == ("", True)
    assert page(after="") == ("abcde", True)
    assert page(before="a") == ("", True)
    assert page(before="b") == ("a", True)
    assert page(before="d", max=2) == ("bc", False)
    assert page(before="", max=2) == ("de", False)
    assert page(index=3, max=5) == ("de", True)
    assert page(index=9) == ("", True)
    assert page(max=0) == ("", False)
    assert page(max=0, before="") == ("", False)
    assert fetching.local_page([], Rsm(max=0)).complete


async def test_page_larger_than_requested_is_refused() -> None:
    with pytest.raises(ServiceError):
        await read(filled(paging="ids", duplicates=True), rsm={"max": 5})


def test_unreachable() -> None:
    assert fetching.is_unreachable(ServiceUnreachable("x"))
    assert fetching.is_unreachable(ServiceError("remote-server-timeout"))
    for error in (ServiceError("feature-not-implemented"), Forbidden("forbidden"), ItemNotFound(), TooLarge("x")):
        assert not fetching.is_unreachable(error)


# Endless services


async def test_endless_node_is_too_large_for_a_reader(settings: Any) -> None:
    settings.PUBSUBCACHE_MAX_NODE_ITEMS = 50
    settings.PUBSUBCACHE_PAGE_SIZE = 10
    service = filled(endless="new items", refuse_over=20, refusal=TooLarge("big"))
    with pytest.raises(TooLarge, match="over 50 items"):
        await read(service)
    assert len(service.requests) < 20


async def test_size_of_a_read_is_bounded(settings: Any) -> None:
    settings.PUBSUBCACHE_MAX_STANZA_SIZE = 2000
    settings.PUBSUBCACHE_PAGE_SIZE = 10
    with pytest.raises(TooLarge, match="over 2000 bytes"):
        await read(filled(plain_limit=20))
    with pytest.raises(TooLarge, match="over 2000 bytes"):
        await read(filled(), item_ids=tuple(f"item-{number:03}" for number in range(47)))


@pytest.mark.parametrize(
    "options",
    [{}, {"max_items": 5}, {"rsm": Rsm(max=5)}, {"item_ids": ("item-001",)}],
    ids=lambda options: str(options),
)
async def test_read_ends_at_its_deadline(settings: Any, options: dict[str, Any]) -> None:
    settings.PUBSUBCACHE_READ_TIMEOUT = 0.05

    async def never(*_: Any) -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(ServiceUnreachable, match=r"within 0\.05 seconds"):
        await read(filled(hook=never), **options)


async def test_deadline_counts_all_requests_of_a_read(settings: Any) -> None:
    settings.PUBSUBCACHE_READ_TIMEOUT = 0.2

    async def slow(*_: Any) -> None:
        await asyncio.sleep(0.01)

    service = filled(endless="new items", hook=slow, refuse_over=100)
    settings.PUBSUBCACHE_PAGE_SIZE = 1
    with pytest.raises(ServiceUnreachable, match="within"):
        await fetching.read_ids(service, ADDRESS, [f"item-{number}" for number in range(1000)])
    assert len(service.requests) < 100
