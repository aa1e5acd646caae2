"""Test every kind of request against a model that sorts a list."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pubsubcache.models import Account, PubsubEvicted, PubsubItem, PubsubNode
from pubsubcache.services.fetching import local_page
from pubsubcache.store.cursors import PREFIX
from pubsubcache.store.reading import CachedPage, read_page
from pubsubcache.types import Item, ItemsRequest, Rsm
from tests.fakes import make_item

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

COUNT = 23
START = datetime(2026, 1, 1, tzinfo=UTC)
ORDERS = (None, "creation", "modification")


class World:
    """A node in the database, and the same items as a list."""

    def __init__(self, seed: int, evicted: float = 0.0, cursors: str = "opaque", count: int = COUNT) -> None:
        dice = random.Random(seed)
        account = Account.objects.create(jid="alice@example.org")
        self.node = PubsubNode.objects.create(
            account=account, service="s.example", name="n", sync_state="COMPLETED", extra={"cursors": cursors}
        )
        other = PubsubNode.objects.create(account=account, service="s.example", name="other")
        positions = dice.sample(range(1, 10 * count + 1), count)
        self.items: list[Item] = []
        self.positions: dict[str, int] = {}
        self.evicted: set[str] = set()
        for number, position in enumerate(positions):
            name = f"item-{number:02}"
            created = START + timedelta(seconds=dice.randrange(8), microseconds=dice.randrange(2))  # with ties
            times = {"created": created, "updated": created + timedelta(seconds=dice.randrange(8))}
            item = make_item(name)
            item.created, item.updated = times["created"], times["updated"]
            self.items.append(item)
            self.positions[name] = position
            if dice.random() < evicted:
                self.evicted.add(name)
                PubsubEvicted.objects.create(node=self.node, name=name, position=position, **times)
            else:
                PubsubItem.objects.create(node=self.node, name=name, data=item.xml, position=position, **times)
            PubsubItem.objects.create(node=other, name=name, data=item.xml, position=position, **times)
        self.node.evicted_count = len(self.evicted)
        self.node.item_count = count - len(self.evicted)
        self.node.save()

    def sorted(self, order: str | None) -> list[Item]:
        def key(item: Item) -> Any:
            at = {"creation": item.created, "modification": item.updated}.get(order or "")
            return (at, self.positions[item.id]) if at else self.positions[item.id]

        return sorted(self.items, key=key)

    def read(self, **options: Any) -> CachedPage:
        page = read_page(self.node, ItemsRequest(**options))
        assert page is not None
        return page

    def check(self, page: CachedPage, expected: list[Item]) -> None:
        assert [entry.item_id for entry in page.entries] == [item.id for item in expected]
        assert [entry.item_id for entry in page.entries if entry.item is None] == page.evicted
        assert set(page.evicted) == {item.id for item in expected} & self.evicted
        for entry, item in zip(page.entries, expected, strict=True):
            if entry.item is not None:
                found = entry.item
                assert (found.xml, found.created, found.updated) == (item.xml, item.created, item.updated)

    def remove(self, name: str) -> None:
        item = next(item for item in self.items if item.id == name)
        self.items.remove(item)
        if name in self.evicted:
            PubsubEvicted.objects.get(node=self.node, name=name).delete()
            self.node.evicted_count -= 1
        else:
            PubsubItem.objects.get(node=self.node, name=name).delete()
            self.node.item_count -= 1
        self.node.save()


@pytest.fixture(params=[0.0, 0.3, 1.0], ids=["complete", "some evicted", "all evicted"])
def world(request: pytest.FixtureRequest) -> World:
    return World(seed=7, evicted=request.param)


@pytest.mark.parametrize("order", ORDERS)
def test_all_and_the_newest(world: World, order: Any) -> None:
    expected = world.sorted(order)
    page = world.read(order_by=order)
    world.check(page, expected)
    assert (page.rsm, page.complete) == (None, True)
    for number in (1, 2, 10, COUNT - 1, COUNT, COUNT + 1, 2**31 - 1):
        page = world.read(max_items=number, order_by=order)
        world.check(page, expected[-number:])
        assert page.complete == (number > COUNT)  # the answer of a service says no more either


def test_items_in_the_requested_order(world: World) -> None:
    names = [item.id for item in world.items]
    random.Random(3).shuffle(names)
    by_name = {item.id: item for item in world.items}
    world.check(world.read(item_ids=["nothing", *names, "nor this"]), [by_name[name] for name in names])
    world.check(world.read(item_ids=names[:3]), [by_name[name] for name in names[:3]])
    assert world.read(item_ids=["nothing"]).entries == []
    assert world.read(item_ids=[]).entries == []


STARTS: list[dict[str, Any]] = [
    {}, {"before": ""}, {"index": 0}, {"index": 1}, {"index": 10}, {"index": COUNT - 1}, {"index": COUNT},
    {"index": COUNT + 5}, {"index": 2**31 - 1},
]  # fmt: skip
SIZES = (None, 0, 1, 5, COUNT, COUNT + 1, 2**31 - 1)


def check_page(world: World, order: Any, asked: dict[str, Any], as_names: dict[str, Any]) -> None:
    """Compare a page with the one from the list of all items."""
    page = world.read(rsm=asked, order_by=order)
    expected = local_page(world.sorted(order), Rsm(**as_names))
    world.check(page, expected.items)
    assert page.rsm is not None
    assert expected.rsm is not None
    assert (page.rsm.index, page.rsm.count) == (expected.rsm.index, expected.rsm.count), asked
    assert page.complete == expected.complete, asked
    assert (page.rsm.first is None) == (expected.rsm.first is None)


@pytest.mark.parametrize("order", ORDERS)
def test_pages_from_either_end_and_by_index(world: World, order: Any) -> None:
    for start in STARTS:
        for size in SIZES:
            asked = start | ({} if size is None else {"max": size})
            check_page(world, order, asked, asked)


@pytest.mark.parametrize("cursors", ["ids", "opaque"])
@pytest.mark.parametrize("order", ORDERS)
def test_pages_around_every_item(order: Any, cursors: str) -> None:
    world = World(seed=11, evicted=0.3, cursors=cursors)
    for number, item in enumerate(world.sorted(order)):
        rsm = world.read(rsm={"index": number, "max": 1}, order_by=order).rsm
        assert rsm is not None
        assert rsm.first is not None
        assert rsm.first == rsm.last
        assert rsm.first.startswith(PREFIX) == (cursors == "opaque" or order is not None)
        for direction in ("after", "before"):
            for size in (None, 0, 1, 5, COUNT):
                limit = {} if size is None else {"max": size}
                check_page(world, order, {direction: rsm.first} | limit, {direction: item.id} | limit)


def follow(world: World, order: Any, size: int, backwards: bool, between: Callable[[CachedPage], None]) -> list[str]:
    found: list[str] = []
    rsm: dict[str, Any] = {"max": size} | ({"before": ""} if backwards else {})
    for _ in range(2 * COUNT):
        page = world.read(rsm=rsm, order_by=order)
        names = [entry.item_id for entry in page.entries]
        found = names + found if backwards else found + names
        if page.complete:
            return found
        assert page.rsm is not None
        rsm = {"max": size, "before": page.rsm.first} if backwards else {"max": size, "after": page.rsm.last}
        between(page)
    raise AssertionError("the pages do not end")


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("order", ORDERS)
def test_pages_cover_all_items(world: World, order: Any, backwards: bool) -> None:
    for size in (1, 2, 5, COUNT):
        expected = [item.id for item in world.sorted(order)]
        assert follow(world, order, size, backwards, lambda page: None) == expected


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("order", ORDERS)
def test_a_cursor_outlives_its_item(world: World, order: Any, backwards: bool) -> None:
    expected = [item.id for item in world.sorted(order)]

    def retract_the_ends(page: CachedPage) -> None:
        for name in {page.entries[0].item_id, page.entries[-1].item_id}:
            world.remove(name)

    assert follow(world, order, 4, backwards, retract_the_ends) == expected


def test_foreign_cursors_are_passed_to_the_service() -> None:
    for cursors in ("opaque", "ids"):
        PubsubNode.objects.all().delete()
        Account.objects.all().delete()
        world = World(seed=1, cursors=cursors)
        for cursor in ("nothing", "", "2026-01-01T00:00:00Z", "psc.x", "psc." + "A" * 5000, "x" * 100_000):
            for direction in ("after", "before"):
                if (direction, cursor) != ("before", ""):
                    assert read_page(world.node, ItemsRequest(rsm=Rsm(max=2, **{direction: cursor}))) is None
        rsm = world.read(rsm={"max": 3}, order_by="creation").rsm
        assert rsm is not None
        for order in (None, "modification"):
            request = ItemsRequest(rsm=Rsm(max=2, after=rsm.last), order_by=order)  # type: ignore[arg-type]
            assert read_page(world.node, request) is None


def test_request_that_services_answer_differently_goes_to_the_service(world: World) -> None:
    assert read_page(world.node, ItemsRequest(max_items=5, rsm=Rsm(max=2))) is None


def test_an_empty_node() -> None:
    world = World(seed=1, count=0)
    for order in ORDERS:
        assert world.read(order_by=order).entries == []
        assert world.read(max_items=3, order_by=order).complete
        for rsm in ({}, {"max": 0}, {"max": 3}, {"before": ""}, {"index": 0}, {"index": 4}):
            page = world.read(rsm=rsm, order_by=order)
            assert (page.entries, page.rsm, page.complete) == ([], Rsm(count=0), True), rsm


@pytest.mark.parametrize(
    "options", [{}, {"max_items": 3}, {"item_ids": ["item-01"]}, {"rsm": {"max": 3}}, {"rsm": {"max": 3, "before": ""}},
                {"rsm": {"max": 3, "index": 4}}, {"rsm": {"max": 0}}]
)  # fmt: skip
def test_page_takes_one_query(options: dict[str, Any], django_assert_max_num_queries: Any) -> None:
    world = World(seed=1)
    with django_assert_max_num_queries(1):
        world.read(**options)


def test_page_around_a_cursor_takes_few_queries(django_assert_max_num_queries: Any) -> None:
    for cursors, number in (("opaque", 2), ("ids", 3)):
        Account.objects.all().delete()
        world = World(seed=1, cursors=cursors)
        rsm = world.read(rsm={"max": 3}).rsm
        assert rsm is not None
        with django_assert_max_num_queries(number):
            world.read(rsm={"max": 3, "after": rsm.last})
