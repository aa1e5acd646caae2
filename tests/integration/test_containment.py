"""Test that containment works on both databases as documented for PostgreSQL's `@>`."""

import json
from typing import Any

import pytest
from django.db import connection
from django.db.models import Q
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.lookups.conditions.containment import MAX_DEPTH
from pubsubcache.models import Account, PubsubItem, PubsubNode
from tests.selection import how_many

pytestmark = pytest.mark.both_databases

ROWS = 24


def same(one: Any, other: Any) -> bool:
    """Return whether two scalars are equal in JSON, where true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def contains(whole: Any, part: Any) -> bool:
    """Return whether `whole` contains `part` by the rules of PostgreSQL's manual (8.14.3)."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(key in whole and contains(whole[key], part[key]) for key in part)
    if isinstance(part, list):
        return isinstance(whole, list) and all(any(contains(one, wanted) for one in whole) for wanted in part)
    return not isinstance(whole, dict | list) and same(whole, part)


def document_contains(whole: Any, part: Any) -> bool:
    """Return the same for a document, with the exception for its top level."""
    if whole is None:  # SQL NULL, not JSON null
        return False
    if isinstance(whole, list) and not isinstance(part, dict | list):
        return any(contains(one, part) for one in whole)
    return contains(whole, part)


KEYS = ["a", "b", "title", "tags", "a.b", 'q"', "q'", "$", "[0]", "é", "", "\\", "%s", "0", "𝄞", "\n", "::jsonb", "$.a"]
NUMBERS = [0, 1, -1, 1.0, 1.5, 10, 1e2, 2**53 + 1, -(2**63), 2**63, 1e300, 0.1]
scalars = (
    st.none() | st.booleans() | st.sampled_from(NUMBERS) | st.sampled_from(["", "a", "A", "é", "1", "null", "a'b", '"'])
)
keys = st.sampled_from(KEYS)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3)


documents = st.recursive(scalars, containers, max_leaves=10)


@st.composite
def parts(draw: st.DrawFn, whole: Any) -> Any:
    """Draw a part of a document, sometimes with a change."""
    if draw(st.integers(0, 9)) == 0:
        return draw(documents)
    if isinstance(whole, dict):
        chosen = draw(st.lists(st.sampled_from(sorted(whole)), unique=True)) if whole else []
        return {key: draw(parts(whole[key])) for key in chosen}
    if isinstance(whole, list):
        chosen = draw(st.lists(st.sampled_from(range(len(whole))), max_size=3)) if whole else []
        return [draw(parts(whole[place])) for place in chosen]
    return whole


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Any], Any]:
    rows = draw(st.lists(documents, min_size=1, max_size=6))
    return rows, draw(parts(draw(st.sampled_from(rows))))


@pytest.fixture
def node(db: None) -> PubsubNode:
    account = Account.objects.create(jid="alice@example.org")
    return PubsubNode.objects.create(account=account, service="s", name="n")


def store(node: PubsubNode, rows: list[Any]) -> None:
    node.items.all().delete()
    PubsubItem.objects.bulk_create(
        PubsubItem(node=node, name=str(place), data="<item/>", parsed=row) for place, row in enumerate(rows)
    )


def found(part: Any) -> list[str]:
    return list(PubsubItem.objects.containing(part).order_by("pk").values_list("name", flat=True))


@settings(max_examples=how_many(100, 1000))
@given(case=cases())
@example(case=([["a", "b"], "a", ["a", ["b"]], {"a": 1}], "a"))
@example(case=([[1, 2, [1, 3]], [[1, 3]], [1, 3]], [1, 3]))
@example(case=([[1, 2, [1, 3]], [1, 3]], [[1, 3]]))
@example(case=([{"a": {}}, {"a": []}, {"a": None}, {"a": 0}, {}], {"a": {}}))
@example(case=([{"a": {}}, {"a": []}, {"a": None}, {"a": 0}, {}], {"a": []}))
@example(case=([{"a": {}}, {"a": []}, {"a": None}, {"a": False}, {}], {"a": None}))
@example(case=([{"a": True}, {"a": 1}, {"a": 1.0}, {"a": "1"}, {"a": [1]}], {"a": 1}))
@example(case=([{"tags": ["a", "b"]}, {"tags": "a"}, {"tags": [["a"]]}, {"tags": {"a": 1}}], {"tags": ["a"]}))
@example(case=([{"title": "a"}, {"title": ["a"]}, {"title": 1}], {"title": "a"}))
@example(case=([{"a.b": 1, 'q"': 2}, {"a": {"b": 1}}], {"a.b": 1, 'q"': 2}))
@example(case=([{"a": {"b": 1}}, {"a.b": 1}, {'a"."b': 1}], {'a"."b': 1}))
def test_containment_matches_the_documented_rules(node: PubsubNode, case: tuple[list[Any], Any]) -> None:
    rows, part = case
    store(node, rows)
    kept = [json.loads(json.dumps(row)) for row in rows]
    assert found(part) == [str(place) for place, row in enumerate(kept) if document_contains(row, part)]


def test_long_titles_and_tags(node: PubsubNode) -> None:
    """The indexed columns hold only the beginning of these."""
    long = "x" * 3000
    store(node, [{"title": long, "tags": [long]}, {"title": long + "y", "tags": [long + "y"]}])
    assert found({"title": long}) == ["0"]
    assert found({"tags": [long + "y"]}) == ["1"]
    assert found({"title": long[:500]}) == []


def test_containment_combines_with_other_filters(node: PubsubNode) -> None:
    store(node, [{"a": [{"b": 1}]}, {"a": [{"b": 2}]}, {"a": []}])
    items = PubsubItem.objects.containing({"a": [{"b": 1}]})
    assert items.filter(node=node).count() == 1
    assert PubsubItem.objects.exclude(pk__in=items).count() == 2
    assert (items | PubsubItem.objects.containing({"a": [{"b": 2}]})).count() == 2
    assert PubsubNode.objects.filter(items__in=items).get() == node
    assert PubsubItem.objects.containing({"a": []}).containing({"a": [{}]}).count() == 2


def test_maximum_depth(node: PubsubNode) -> None:
    part: Any = 1
    for level in range(MAX_DEPTH - 1):
        part = {"a": part} if level % 2 else [part, 2]
    wide: Any = {"x": part}["x"]
    store(node, [wide, {}])
    items = PubsubItem.objects.containing(wide)
    assert items.count() == 1
    nested = PubsubNode.objects.filter(Q(items__in=items) | Q(name="?")).filter(Q(pk__gt=0) & ~Q(items__in=items[:0]))
    assert nested.count() == 1
    assert PubsubItem.objects.filter(Q(pk__in=items[:5]) | Q(name="?")).distinct()[:3].count() == 1


@pytest.mark.parametrize(
    "value",
    [{1, 2}, float("nan"), {"a": float("inf")}, object(), b"x", {("a",): 1}, [0] * 300],
)
def test_values_that_are_not_json_are_refused(db: None, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"^The contained value must .*\.$"):
        PubsubItem.objects.containing(value)


def test_too_deep_is_refused() -> None:
    deep: Any = 1
    for _ in range(MAX_DEPTH):
        deep = [deep]
    with pytest.raises(InvalidRequest, match="levels"):
        PubsubItem.objects.containing(deep)


@pytest.mark.parametrize("value", ["\0", {"a\0": 1}, ["\0"], {"a": "\\\0"}, "\ud800", {"\udfff": [1]}])
def test_values_that_cannot_be_stored_match_nothing(node: PubsubNode, value: Any) -> None:
    store(node, ["", {"a": "\\"}, ["u0000"], {"a": 1}])
    assert found(value) == []


def test_escaped_nul_is_found(node: PubsubNode) -> None:
    store(node, [{"a": "\\u0000"}, {"a": "\\"}])
    assert found({"a": "\\u0000"}) == ["0"]


def test_index_is_used(node: PubsubNode) -> None:
    if connection.vendor == "postgresql":
        store(node, [{"a": number, "tags": [str(number)]} for number in range(3000)])
        with connection.cursor() as cursor:
            # The planner counts the pages of new entries, which autovacuum may or may not have sorted in.
            cursor.execute("SELECT gin_clean_pending_list('pubsubcache_item_parsed')")
            cursor.execute("ANALYZE pubsubcache_pubsubitem")
        assert "pubsubcache_item_parsed" in PubsubItem.objects.containing({"a": 7}).explain()
