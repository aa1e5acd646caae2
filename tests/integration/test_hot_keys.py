"""Test the indexed keys of `parsed` and tags: their contents, and that queries use their indexes."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.db.models import QuerySet
from django.db.models.query import QuerySet as AnyQuerySet

from pubsubcache.lookups.hotkeys import COLUMNS, KEYS
from pubsubcache.models import Account, PubsubItem, PubsubNode
from tests.integration.test_full_text import check_index

pytestmark = pytest.mark.both_databases

LARGE = 100_000


@pytest.fixture
def node(db: None) -> PubsubNode:
    account = Account.objects.create(jid="alice@example.org")
    return PubsubNode.objects.create(account=account, service="s", name="n", type="blog")


def create(node: PubsubNode, name: str, parsed: Any, **fields: Any) -> PubsubItem:
    return PubsubItem.objects.create(node=node, name=name, data="<item/>", parsed=parsed, **fields)


def names(items: QuerySet[PubsubItem]) -> list[str]:
    return sorted(items.values_list("name", flat=True))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Hello", "Hello"),
        ("", ""),
        ("quote \" ' \\ \n é 𝄞", "quote \" ' \\ \n é 𝄞"),
        ("x" * 500, "x" * 500),
        ("é" * 501, "é" * 500),
        ("𝄞" * 100_000, "𝄞" * 500),
        (None, None),
        (5, None),
        (1.5, None),
        (True, None),
        (["Hello"], None),
        ({"text": "Hello"}, None),
        ([[[[[[]]]]]], None),
        ("null", "null"),
    ],
)
@pytest.mark.parametrize("key", KEYS)
def test_the_column_has_the_beginning_of_the_text(node: PubsubNode, key: str, value: Any, expected: Any) -> None:
    create(node, "i", {key: value})
    assert PubsubItem.objects.values_list(f"parsed_{key}", flat=True).get() == expected
    if expected is not None:
        assert PubsubItem.objects.filter(**{f"parsed_{key}": expected}).exists()


@pytest.mark.parametrize("parsed", [None, {}, [], ["title"], "title", 5, {"Title": "x"}, {"parsed": {"title": "x"}}])
def test_other_documents_have_no_hot_keys(node: PubsubNode, parsed: Any) -> None:
    create(node, "i", parsed)
    assert set(PubsubItem.objects.values_list(*COLUMNS).get()) == {None}
    assert not PubsubItem.objects.tagged("title").exists()


def test_columns_follow_changes(node: PubsubNode) -> None:
    item = create(node, "i", {"title": "one", "tags": ["a"]})
    assert item.parsed_title == "one"
    item.parsed = {"title": "two", "tags": ["b"]}
    item.save()
    assert names(PubsubItem.objects.filter(parsed_title="two")) == ["i"]
    assert (names(PubsubItem.objects.tagged("a")), names(PubsubItem.objects.tagged("b"))) == ([], ["i"])
    PubsubItem.objects.bulk_create(
        [PubsubItem(node=node, name="i", data="<item/>", parsed={"title": "three", "tags": ["c"]})],
        update_conflicts=True,
        unique_fields=["node", "name"],
        update_fields=["parsed"],
    )
    assert names(PubsubItem.objects.filter(parsed_title="three").tagged("c")) == ["i"]
    assert PubsubItem.objects.get().pk == item.pk
    PubsubItem.objects.update(parsed={"tags": "c"})
    assert not PubsubItem.objects.tagged("c").exists()
    PubsubItem.objects.update(parsed={"tags": ["c", "c", "d"]})
    assert names(PubsubItem.objects.tagged("c")) == ["i"]
    PubsubItem.objects.update(parsed=None)
    assert not PubsubItem.objects.tagged("c").exists()
    PubsubItem.objects.update(parsed={"tags": ["e"]})
    PubsubItem.objects.all().delete()
    assert tags_left() == 0


def tags_left() -> int:
    if connection.vendor != "sqlite":
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pubsubcache_tag")
        count: int = cursor.fetchone()[0]
        return count


TAGGED: dict[str, Any] = {
    "both": {"tags": ["a", "b"]},
    "one": {"tags": ["a"]},
    "upper": {"tags": ["A"]},
    "text": {"tags": "a"},
    "deeper": {"tags": [["a"], {"a": "a"}]},
    "object": {"tags": {"a": "a"}},
    "odd": {"tags": ["é", "quote \" ' %s", "", 1, None, True, "1"]},
    "none": {"tags": []},
    "null": {"tags": None},
}


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["a"], "both one"),
        (["a", "b"], "both"),
        (["b", "a", "a"], "both"),
        (["A"], "upper"),
        (["é"], "odd"),
        (["quote \" ' %s"], "odd"),
        ([""], "odd"),
        (["1"], "odd"),
        (["true"], ""),
        (["x' OR 1=1 --"], ""),
        ([], " ".join(sorted(TAGGED))),
    ],
)
def test_tags(node: PubsubNode, tags: list[str], expected: str) -> None:
    for name, parsed in TAGGED.items():
        create(node, name, parsed)
    assert names(PubsubItem.objects.tagged(*tags)) == expected.split()
    assert names(node.items.tagged(*tags).filter(parsed_title=None)) == expected.split()


def test_hot_keys_are_loaded_only_on_request(node: PubsubNode, django_assert_num_queries: Any) -> None:
    create(node, "i", {"title": "Hello"})
    for items in (PubsubItem.objects.all(), node.items.all(), PubsubItem.objects.select_related("node__account")):
        assert "parsed_title" not in str(items.query)
    with django_assert_num_queries(1):
        assert PubsubItem.objects.defer(None).get().parsed_title == "Hello"
    with django_assert_num_queries(2):
        assert PubsubItem.objects.get().parsed_title == "Hello"
    item = PubsubItem.objects.get()
    with django_assert_num_queries(1):
        item.save()


def test_texts_sort_by_their_characters(node: PubsubNode) -> None:
    titles = ["b", "B", "a", "A", "é", "-", "2026-01-31T12:00:00Z", "2026-01-31", "𝄞", "z"]
    for place, title in enumerate(titles):
        create(node, str(place), {"title": title})
    found = PubsubItem.objects.order_by("parsed_title").values_list("parsed_title", flat=True)
    assert list(found) == sorted(titles)


# 100 000 items


@pytest.fixture
def many(node: PubsubNode) -> Iterator[PubsubNode]:
    """Many items like those of blogs, created by the database and with current statistics."""
    parsed = {
        "title": "Title {}",
        "author": "Author {m}",
        "author_jid": "author{m}@example.org",
        "published": "2026-{d}T12:00:00Z",
        "updated": "2026-{d}T13:00:00Z",
        "tags": ["tag{m}", "all"],
        "content": "some content",
    }
    text = "'Title ' || n || ' word' || (n % 1000) || ' some content'"
    document = _sql_of(json.dumps(parsed))
    series = {
        "sqlite": f"WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < {LARGE}) ",
        "postgresql": f"WITH g(n) AS (SELECT generate_series(1, {LARGE})) ",
    }[connection.vendor]
    cast = "::jsonb" if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        cursor.execute(
            f"""{series} INSERT INTO pubsubcache_pubsubitem (node_id, name, data, parsed, text, created, updated,
            publisher, position, parse_error, revision)
            SELECT {node.pk}, 'item-' || n, '<item/>', ({document}){cast}, {text}, CURRENT_TIMESTAMP,
            CURRENT_TIMESTAMP, '', n, '', 0 FROM g""".replace("%", "%%" if connection.vendor == "sqlite" else "%"),
            None if connection.vendor == "postgresql" else (),
        )
        if connection.vendor == "postgresql":
            for index in ("pubsubcache_item_search", "pubsubcache_item_parsed"):
                cursor.execute("SELECT gin_clean_pending_list(%s)", [index])
        cursor.execute("ANALYZE pubsubcache_pubsubitem" if connection.vendor == "postgresql" else "SELECT 1")
    yield node


def _sql_of(document: str) -> str:
    """Return a JSON document as an SQL expression; `{}` is the item's number, `{m}` that modulo 1000, `{d}` a day."""
    day = "substr('0' || (1 + n % 12), -2) || '-' || substr('0' || (1 + n % 28), -2)"
    if connection.vendor == "postgresql":
        day = "lpad((1 + n % 12)::text, 2, '0') || '-' || lpad((1 + n % 28)::text, 2, '0')"
    pieces = {"{}": "n", "{m}": "(n % 1000)", "{d}": f"({day})"}
    text = f"'{document}'"
    for mark, value in pieces.items():
        text = text.replace(mark, f"' || {value} || '")
    return text


def plan(items: AnyQuerySet[Any]) -> str:
    return items.explain()


def test_queries_of_many_items_use_indexes(many: PubsubNode) -> None:
    items = PubsubItem.objects
    tags, words = ("pubsubcache_item_parsed", "pubsubcache_item_search")
    if connection.vendor == "sqlite":
        tags, words = ("pubsubcache_tag", "pubsubcache_words VIRTUAL TABLE")
    recipes: list[tuple[AnyQuerySet[Any], int, str]] = [
        (items.filter(parsed_title="Title 77777"), 1, "pubsubcache_parsed_title"),
        (items.filter(parsed_title__in=["Title 7", "Title 8"]), 2, "pubsubcache_parsed_title"),
        (items.filter(parsed_author="Author 7"), 100, "pubsubcache_parsed_author"),
        (items.filter(parsed_author_jid="author7@example.org"), 100, "pubsubcache_parsed_author_jid"),
        (items.filter(parsed_published__gte="2026-02-02", parsed_published__lt="2026-02-03"), 1191, "_published"),
        (items.filter(parsed_updated__range=("2026-02-02", "2026-02-03")), 1191, "pubsubcache_parsed_updated"),
        (items.filter(parsed_start__gte="2026"), 0, "pubsubcache_parsed_start"),
        (items.filter(parsed_published__isnull=False).order_by("-parsed_published")[:10], 10, "_published"),
        (items.tagged("tag7"), 100, tags),
        (items.tagged("tag7", "all"), 100, tags),
        (items.containing({"tags": ["tag7"]}), 100, tags),
        (items.full_text("word7"), 100, words),
        (items.full_text('"77777 word777"'), 1, words),
        (items.full_text("word7 -77007").order_by("-rank")[:10], 10, words),
        (items.full_text("word7").filter(node=many, parsed_author="Author 7"), 100, "pubsubcache"),
        (many.items.full_text("word7").order_by("-created", "-position")[:10], 10, words),
    ]
    for found, number, index in recipes:
        shown = plan(found)
        assert index in shown, shown
        assert "Seq Scan on pubsubcache_pubsubitem" not in shown
        assert "SCAN pubsubcache_pubsubitem\n" not in f"{shown}\n".replace(" USING", "_USING")
        assert len(found.values_list("pk")) == number, shown
    if connection.vendor == "sqlite":
        title = items.containing({"title": "Title 7", "content": "some content"})
        assert "pubsubcache_parsed_title" in plan(title)
    check_index()
    without = plan(items.filter(parsed__title="Title 77777"))  # proves that this test can fail
    assert "pubsubcache_parsed_title" not in without
    assert "Seq Scan on pubsubcache_pubsubitem" in without or "SCAN pubsubcache_pubsubitem" in without
