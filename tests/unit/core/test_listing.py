"""Test that a listing of a node is complete and in order, or fails, however the service behaves."""

from typing import Any

import pytest

from pubsubcache.exceptions import (
    Forbidden,
    ItemNotFound,
    NodeTooLarge,
    PubsubCacheError,
    ServiceError,
    ServiceUnreachable,
    SyncFailed,
    TooLarge,
)
from pubsubcache.services.pager import MAX_APART, Listing, fetch
from pubsubcache.types import Item, ItemsRequest, ServicePage
from tests.fakes import ADDRESS, FakeService, make_item

COUNT = 47
PAGE = 10


async def walk(service: FakeService, page_size: int = PAGE) -> tuple[Listing, dict[str, Item]]:
    """List a node; return the listing and its items, the last one of each id."""
    listing = Listing(service, ADDRESS, page_size=page_size)
    found: dict[str, Item] = {}
    async for page in listing.pages():
        for item in page.items:
            found[item.id] = item
    return listing, found


def filled(size: int = COUNT, /, **manners: Any) -> FakeService:
    service = FakeService(**manners)
    service.fill(size)
    return service


def check_complete(service: FakeService, listing: Listing, found: dict[str, Item]) -> None:
    ids = service.ids()
    assert list(listing.ids) in (ids, ids[::-1])
    assert {name: found[name].xml for name in listing.ids} == service.xml()


WELL_MANNERED: dict[str, dict[str, Any]] = {
    "no paging": {},
    "item ids as cursors": {"paging": "ids"},
    "opaque cursors": {"paging": "opaque"},
    "newest first": {"paging": "opaque", "newest_first": True},
    "newest first, no paging": {"newest_first": True},
    "disco refused": {"disco": "refused"},
    "disco reversed": {"disco": "reversed"},
    "paging, disco refused": {"paging": "opaque", "disco": "refused"},
    "pages cut": {"paging": "ids", "page_limit": 3},
    "no count": {"paging": "ids", "count": lambda real: None},
    "count too small": {"paging": "ids", "count": lambda real: 3},
    "count zero": {"paging": "ids", "count": lambda real: 0},
    "count too large, ids listed": {"paging": "ids", "count": lambda real: real + 5},
    "duplicates": {"paging": "ids", "duplicates": True},
    "last page turned": {"paging": "opaque", "turned_last_page": True},
    "index always 0": {"paging": "ids", "index": lambda real: 0},
    "large pages refused": {"paging": "ids", "refuse_over": 3},
    "large pages too large": {"paging": "ids", "refuse_over": 3, "refusal": TooLarge("big")},
    "large pages time out": {"paging": "ids", "refuse_over": 15, "refusal": ServiceUnreachable("late")},
    "whole node refused, no paging": {"refuse_over": 3, "refusal": TooLarge("big")},
    "plain answers cut": {"plain_limit": 20},
    "plain answers cut, disco reversed": {"plain_limit": 20, "disco": "reversed"},
    "plain and id answers cut": {"plain_limit": 20, "ids_limit": 10},
    "id answers cut": {"refuse_over": 30, "refusal": TooLarge("big"), "ids_limit": 10},
    "ids by age": {"plain_limit": 20, "ids_order": "age"},
    "ids listed in part": {"disco_limit": 20},
    "no cursors, ids listed": {"paging": "ids", "gives_cursors": False},
    "repeated pages, ids listed": {"paging": "ids", "repeats": "pages"},
    "repeated cursors, ids listed": {"paging": "ids", "repeats": "cursors"},
    "empty page in the middle, ids listed": {"paging": "ids", "empty_after": 20},
    "empty first page, ids listed": {"paging": "ids", "empty_after": 0},
    "empty first page and no count, ids listed": {"paging": "ids", "empty_after": 0, "count": lambda real: None},
    "empty first page and count zero, ids listed": {"paging": "ids", "empty_after": 0, "count": lambda real: 0},
    "empty plain answer, ids listed": {"plain_limit": 0},
    "set refused": {"refuse_rsm": ServiceError("feature-not-implemented")},
    "set is a bad request": {"refuse_rsm": ServiceError("bad-request")},
    "plain answers cut, ids refused": {"plain_limit": 20, "disco": "refused"},
    "not found past the end": {"paging": "ids", "past_the_end": "item-not-found"},
    "unknown ids are errors": {"plain_limit": 20, "unknown_id": "item-not-found"},
}


@pytest.mark.parametrize("manners", WELL_MANNERED)
async def test_listing_is_complete_and_in_order(manners: str) -> None:
    service = filled(**WELL_MANNERED[manners])
    listing, found = await walk(service, 100 if "time out" in manners else PAGE)
    check_complete(service, listing, found)
    assert len(service.requests) < 4 * COUNT


HOPELESS: dict[str, dict[str, Any]] = {
    "empty page in the middle": {"empty_after": 20},
    "empty first page": {"empty_after": 0},
    "empty first page, no count": {"empty_after": 0, "count": lambda real: None},
    "no cursors": {"gives_cursors": False},
    "repeated pages": {"repeats": "pages"},
    "repeated cursors": {"repeats": "cursors"},
    "count too large": {"count": lambda real: real + 5},
}


@pytest.mark.parametrize("manners", HOPELESS)
async def test_listing_fails_rather_than_miss_items(manners: str) -> None:
    service = filled(paging="ids", disco="refused", **HOPELESS[manners])
    with pytest.raises(SyncFailed):
        await walk(service)
    assert len(service.requests) < COUNT


async def test_endless_pages_of_new_items_are_refused(settings: Any) -> None:
    settings.PUBSUBCACHE_MAX_NODE_ITEMS = 100
    service = filled(endless="new items")
    listing = Listing(service, ADDRESS, page_size=PAGE)
    with pytest.raises(NodeTooLarge, match="over 400 items"):
        async for _ in listing.pages():
            pass
    assert len(listing.ids) <= 400
    assert len(service.requests) < 50


async def test_endless_pages_without_new_items_end() -> None:
    service = filled(endless="same items", disco="refused")
    with pytest.raises(SyncFailed, match="repeats its pages"):
        await walk(service)
    assert len(service.requests) < 10


async def test_many_small_pages_end(settings: Any) -> None:
    settings.PUBSUBCACHE_MAX_NODE_ITEMS = 1000
    service = filled(endless="new items")
    listing = Listing(service, ADDRESS, page_size=1, _shrunk=True)
    with pytest.raises(ServiceError, match="no end"):
        async for _ in listing.pages():
            pass


async def test_refused_items_take_a_bounded_number_of_requests() -> None:
    service = filled(unknown_id="item-not-found")
    with pytest.raises(ServiceError, match="refused"):
        await fetch(service, ADDRESS, [f"unknown-{number}" for number in range(1000)])
    assert len(service.requests) == MAX_APART + 2
    names = [f"unknown-{number}" for number in range(8)] + service.ids()
    assert set(await fetch(service, ADDRESS, names)) == set(service.ids())


async def test_items_in_small_answers_take_a_bounded_number_of_requests() -> None:
    service = filled(200)
    names = service.ids()

    async def few(address: Any, request: ItemsRequest) -> ServicePage:
        service.requests.append(("get_items", request))
        wanted = (request.item_ids or ())[:1]
        return ServicePage(items=[make_item(name) for name in (*wanted, *map(str, range(50)))])

    service.get_items = few  # type: ignore[method-assign]
    assert list(await fetch(service, ADDRESS, names)) == names[:1]
    assert len(service.requests) == 1


async def test_ids_that_contradict_the_pages_fail_the_sync() -> None:
    service = filled(paging="ids", empty_after=20)

    async def later_ids(address: Any) -> list[str]:
        return service.ids()[10:]

    service.get_item_ids = later_ids  # type: ignore[method-assign]
    with pytest.raises(SyncFailed):
        await walk(service)


async def test_empty_node_is_complete() -> None:
    for manners in ({}, {"paging": "ids"}, {"paging": "opaque"}, {"paging": "ids", "disco": "refused"}):
        listing, found = await walk(filled(0, **manners))
        assert (dict(listing.ids), found) == ({}, {})


async def test_unconfirmed_empty_answer_is_an_error() -> None:
    with pytest.raises(SyncFailed):
        await walk(filled(0, disco="refused"))


async def test_round_number_of_items_may_be_complete() -> None:
    for size in (10, 20, 40):
        service = filled(size, disco="refused")
        listing, found = await walk(service)
        check_complete(service, listing, found)


@pytest.mark.parametrize("error", [Forbidden("forbidden"), ItemNotFound(), ServiceError("feature-not-implemented")])
async def test_refusal_of_the_service_is_raised(error: ServiceError) -> None:
    service = filled(errors={"get_items": error, "get_item_ids": error})
    with pytest.raises(type(error)) as raised:
        await walk(service)
    assert raised.value.condition == error.condition
    assert len(service.requests) < 5


@pytest.mark.parametrize("error", [ServiceUnreachable("gone"), TooLarge("big"), ServiceError("internal-server-error")])
@pytest.mark.parametrize("paging", ["none", "ids"])
async def test_error_in_the_middle_is_raised_or_overcome(paging: Any, error: Exception) -> None:
    for number in range(1, 6):
        service = filled(paging=paging, plain_limit=10, breaks_on={number: error})
        try:
            listing, found = await walk(service)
        except PubsubCacheError:
            continue
        check_complete(service, listing, found)
        assert len(service.requests) < 3 * COUNT


async def test_unreachable_service_gets_few_requests() -> None:
    service = filled(paging="ids", errors=dict.fromkeys(["get_items", "get_item_ids"], ServiceUnreachable("away")))
    with pytest.raises(ServiceUnreachable):
        await walk(service, page_size=100)
    assert len(service.requests) < 10


def retracting(name: str, at: int) -> Any:
    def hook(service: FakeService, method: str, argument: Any) -> None:
        if len(service.asked()) == at:
            service.retract(name)

    return hook


async def test_listing_restarts_if_its_cursor_is_retracted() -> None:
    service = filled(paging="ids", hook=retracting("item-009", at=2))
    listing, found = await walk(service)
    assert listing.restarts == 1
    check_complete(service, listing, found)


async def test_node_whose_cursors_are_retracted_is_not_taken_for_missing() -> None:
    def hook(service: FakeService, method: str, argument: Any) -> None:
        if method == "get_items" and argument.rsm and argument.rsm.after:
            service.retract(argument.rsm.after)

    for disco in ("ok", "refused"):
        service = filled(paging="ids", hook=hook, disco=disco)
        try:
            listing, found = await walk(service)
        except SyncFailed:
            continue
        check_complete(service, listing, found)


async def test_item_retracted_before_its_page_is_not_listed() -> None:
    service = filled(paging="opaque", hook=retracting("item-035", at=3))
    listing, found = await walk(service)
    check_complete(service, listing, found)


async def test_a_node_deleted_in_the_middle_is_missing() -> None:
    def hook(service: FakeService, method: str, argument: Any) -> None:
        if len(service.asked()) == 3:
            service.nodes.clear()

    with pytest.raises(ItemNotFound):
        await walk(filled(paging="ids", hook=hook))


async def test_items_retracted_before_they_are_fetched_are_not_listed() -> None:
    for unknown_id in ("absent", "item-not-found"):
        service = filled(plain_limit=20, unknown_id=unknown_id, hook=retracting("item-005", at=2))
        listing, found = await walk(service)
        check_complete(service, listing, found)


async def test_edited_item_is_listed_at_its_new_position() -> None:
    def hook(service: FakeService, method: str, argument: Any) -> None:
        if len(service.asked()) == at:
            service.publish("item-002", "edited")

    for at in range(2, 7):
        service = filled(40, paging="opaque", moves_edited=True, hook=hook)
        listing, found = await walk(service)
        if at < 6:
            assert list(listing.ids) == service.ids()
        check_complete(service, listing, found)


async def test_pages_hold_each_item_once() -> None:
    service = filled(paging="ids", duplicates=True)
    listing = Listing(service, ADDRESS, page_size=PAGE)
    async for page in listing.pages():
        names = [item.id for item in page.items]
        assert len(names) == len(set(names))


async def test_listing_sends_no_superfluous_requests() -> None:
    service = filled(paging="opaque")
    await walk(service)
    assert len(service.requests) == 6  # five pages, and an empty one at the end
    service = filled()
    await walk(service)
    assert [method for method, _ in service.requests] == ["get_items", "get_item_ids"]


async def test_kind_of_cursors_is_detected() -> None:
    assert (await walk(filled(paging="ids")))[0].ids_are_cursors
    assert not (await walk(filled(paging="opaque")))[0].ids_are_cursors


async def test_revision_of_a_page_is_that_of_its_request() -> None:
    service = filled(paging="ids")
    listing = Listing(service, ADDRESS, mark=lambda: len(service.asked()), page_size=PAGE)
    revisions = [page.revision async for page in listing.pages()]
    assert revisions == [0, 1, 2, 3, 4]


async def test_abandoned_walk_leaves_no_request() -> None:
    service = filled(paging="ids", breaks_on={2: ServiceUnreachable("gone")})
    pages = Listing(service, ADDRESS, page_size=PAGE).pages()
    await anext(pages)
    await pages.aclose()
