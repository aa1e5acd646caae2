"""Test common ORM queries of parsed items on both databases."""

from typing import Any

import pytest
from django.db import NotSupportedError, connection
from django.db.models import F, Q
from django.db.models.fields.json import KT

from pubsubcache.models import Account, PubsubItem, PubsubNode
from tests.fakes import make_item

pytestmark = pytest.mark.both_databases

ITEMS: dict[str, Any] = {
    "plain": {"title": "Hello", "author": "alice", "tags": ["a", "b"], "published": 100, "draft": False},
    "other": {"title": "World", "author": "alina", "tags": [], "published": 200.5, "draft": True},
    "upper": {"title": "HELLO", "author": "Bob", "tags": ["b"], "published": "300", "comments": [{"node": "x"}]},
    "nested": {"title": None, "author": {"name": "carol", "jid": "carol@example.org"}, "tags": ["A", 1, None]},
    "odd": {"title": 'quote " and % and _ and \\ and é', "tags": "a", "published": 0},
    "empty": {},
    "unparsed": None,
}


@pytest.fixture(autouse=True)
def _items(db: None) -> None:
    account = Account.objects.create(jid="alice@example.org")
    node = PubsubNode.objects.create(account=account, service="s", name="n", type="blog")
    PubsubItem.objects.bulk_create(
        PubsubItem(node=node, name=name, data=make_item(name).xml, parsed=parsed, position=place)
        for place, (name, parsed) in enumerate(ITEMS.items())
    )


def find(*conditions: Q, **lookups: Any) -> list[str]:
    return list(PubsubItem.objects.filter(*conditions, **lookups).in_order().values_list("name", flat=True))


@pytest.mark.parametrize(
    ("lookups", "expected"),
    [
        ({"parsed__title": "Hello"}, "plain"),
        ({"parsed__title": ITEMS["odd"]["title"]}, "odd"),
        ({"parsed__title__in": ["Hello", "World", "nothing"]}, "plain other"),
        ({"parsed__title__iexact": "hello"}, "plain upper"),
        ({"parsed__title__istartswith": "he"}, "plain upper"),
        ({"parsed__title__icontains": "%"}, "odd"),
        ({"parsed__title__icontains": "_"}, "odd"),
        ({"parsed__title__endswith": "é"}, "odd"),
        ({"parsed__title__icontains": "\\"}, "odd"),
        ({"parsed__title__regex": "^[HW]"}, "plain other upper"),
        ({"parsed__author__startswith": "ali"}, "plain other"),
        ({"parsed__author__name": "carol"}, "nested"),
        ({"parsed__author__jid__endswith": "example.org"}, "nested"),
        ({"parsed__tags__0": "a"}, "plain"),
        ({"parsed__tags__1": 1}, "nested"),
        ({"parsed__tags": []}, "other"),
        ({"parsed__tags": ["a", "b"]}, "plain"),
        ({"parsed__comments__0__node": "x"}, "upper"),
        ({"parsed__published": 100}, "plain"),
        ({"parsed__published": 200.5}, "other"),
        ({"parsed__published": "300"}, "upper"),
        ({"parsed__published__gt": 50, "parsed__published__lt": 150}, "plain"),
        ({"parsed__published__gte": 0, "parsed__published__lte": 0}, "odd"),
        ({"parsed__draft": True}, "other"),
        ({"parsed__draft": False}, "plain"),
        ({"parsed__title": None}, "nested"),
        ({"parsed__title__isnull": True}, "empty unparsed"),
        ({"parsed__title__isnull": False}, "plain other upper nested odd"),
        ({"parsed__has_key": "title"}, "plain other upper nested odd"),
        ({"parsed__has_key": "draft"}, "plain other"),
        ({"parsed__has_keys": ["draft", "tags"]}, "plain other"),
        ({"parsed__has_any_keys": ["draft", "comments"]}, "plain other upper"),
        ({"parsed__author__has_key": "name"}, "nested"),
        ({"parsed__isnull": True}, "unparsed"),
        ({"parsed": {}}, "empty"),
        ({"parsed__title": "x' OR 1=1 --"}, ""),
        ({"parsed__no_such_key__deeper": 1}, ""),
        ({"node__type": "blog", "parsed__title": "Hello"}, "plain"),
    ],
)
def test_lookups(lookups: dict[str, Any], expected: str) -> None:
    assert find(**lookups) == expected.split()


def test_lookups_combine() -> None:
    assert find(Q(parsed__title="Hello") | Q(parsed__title="World")) == ["plain", "other"]
    assert find(~Q(parsed__title="Hello"), parsed__has_key="title") == ["other", "upper", "nested", "odd"]
    assert list(PubsubItem.objects.exclude(parsed__has_key="title").in_order().values_list("name", flat=True)) == [
        "empty", "unparsed",
    ]  # fmt: skip


def test_sqlite_ignores_case() -> None:
    """This applies to all of Django's LIKE lookups."""
    expected = ["plain", "upper"] if connection.vendor == "sqlite" else ["plain"]
    assert find(parsed__title__startswith="He") == expected


@pytest.mark.parametrize(
    ("lookups", "expected"),
    [
        ({"parsed__tags__contains": ["b"]}, "plain upper"),
        ({"parsed__tags__contains": "a"}, "plain odd"),
        ({"parsed__contains": {"author": {"name": "carol"}}}, "nested"),
        ({"parsed__contains": {"title": "Hello", "draft": False}}, "plain"),
    ],
)
def test_containment_follows_postgresql(lookups: dict[str, Any], expected: str) -> None:
    if connection.vendor == "sqlite":
        with pytest.raises(NotSupportedError):
            find(**lookups)
    else:
        assert find(**lookups) == expected.split()


def test_ordering_and_values() -> None:
    titles = PubsubItem.objects.filter(parsed__author__startswith="ali").order_by("-parsed__title")
    assert [item.name for item in titles] == ["other", "plain"]
    found = PubsubItem.objects.annotate(title=KT("parsed__title")).filter(title__isnull=False).in_order()
    assert list(found.values_list("title", flat=True))[:3] == ["Hello", "World", "HELLO"]
    assert PubsubItem.objects.filter(parsed__title=F("parsed__title")).count() >= 4


def test_stored_values_are_returned_unchanged() -> None:
    for name, parsed in ITEMS.items():
        assert PubsubItem.objects.get(name=name).parsed == parsed
