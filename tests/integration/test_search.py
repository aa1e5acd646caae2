"""Test `search()` and `pubsub_search`: filters, order, pages and output."""

import io
import json
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree.ElementTree import fromstring
from xml.sax.saxutils import escape

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.lookups.snippets import HIT_END, HIT_START
from pubsubcache.management.commands import pubsub_search
from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.search import Found, search

ALICE, BOB = "alice@example.org", "bob@example.org"
BLOG, NEWS = "urn:xmpp:microblog:0", "news & <more>"
START = datetime(2026, 1, 1, tzinfo=UTC)

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def add(node: PubsubNode, name: str, parsed: Any = None, text: str = "", **fields: Any) -> PubsubItem:
    number = PubsubItem.objects.count()
    defaults = {"created": START + timedelta(hours=number), "updated": START + timedelta(days=100 - number)}
    data = f'<item xmlns="http://jabber.org/protocol/pubsub" id="{escape(name)}"><p xmlns="x">é</p></item>'
    return PubsubItem.objects.create(node=node, name=name, data=data, parsed=parsed, text=text, **(defaults | fields))


@pytest.fixture(autouse=True)
def _items(db: None) -> Iterator[None]:
    alice, bob = (Account.objects.create(jid=jid) for jid in (ALICE, BOB))
    blog = PubsubNode.objects.create(account=alice, service=ALICE, name=BLOG, type="blog")
    comments = PubsubNode.objects.create(account=alice, service=ALICE, name="c", type="blog", subtype="comment")
    news = PubsubNode.objects.create(account=bob, service="pubsub.example.org", name=NEWS)
    add(blog, "lights", {"title": "Winter lights", "size": 3, "tags": ["a"]}, "Winter lights in the harbour")
    add(blog, "snow", {"title": "Snow", "size": 10}, "Snow in winter, winter in snow")
    add(comments, "reply", {"title": "Nice"}, "Nice lights")
    add(news, "a&b", None, "Winter is coming to alice@example.org")
    add(news, "odd", ["no", "object"], "C++")
    return


def ids(**options: Any) -> list[str]:
    return [found.id for found in search(**options)]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "lights snow reply a&b odd"),
        ({"accounts": [ALICE]}, "lights snow reply"),
        ({"accounts": [BOB.upper()]}, "a&b odd"),
        ({"accounts": [ALICE, BOB], "services": ["PubSub.example.org"]}, "a&b odd"),
        ({"services": [ALICE]}, "lights snow reply"),
        ({"nodes": [BLOG]}, "lights snow"),
        ({"nodes": [BLOG, NEWS], "accounts": [BOB]}, "a&b odd"),
        ({"types": ["blog"]}, "lights snow reply"),
        ({"types": [""]}, "a&b odd"),
        ({"types": ["blog"], "subtypes": [""]}, "lights snow"),
        ({"subtypes": ["", "comment"]}, "lights snow reply a&b odd"),
        ({"names": ["snow", "a&b", "nothing"]}, "snow a&b"),
        ({"nodes": ["nothing"]}, ""),
        ({"parsed": [("size", ">", 3)]}, "snow"),
        ({"parsed": [("size", ">=", 3), ("title", "like", "%lights")]}, "lights"),
        ({"parsed": [["size", "exists"]]}, "lights snow"),
        ({"parsed": [("size", "missing")], "types": ["blog"]}, "reply"),
        ({"parsed": [([1], "==", "object")]}, "odd"),
        ({"fts": ""}, "lights snow reply a&b odd"),
        ({"fts": " "}, "lights snow reply a&b odd"),
    ],
)
def test_filters(filters: dict[str, Any], expected: str) -> None:
    result = search(**filters)
    assert [found.id for found in result.items] == expected.split()
    assert result.total == len(expected.split())


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        (["creation"], "lights snow reply a&b odd"),
        ([("creation", "desc")], "odd a&b reply snow lights"),
        (["modification"], "odd a&b reply snow lights"),
        ([("modification", "desc")], "lights snow reply a&b odd"),
        (["item_id"], "a&b lights odd reply snow"),
        ([("item_id", "desc")], "snow reply odd lights a&b"),
        ([("field", "size")], "lights snow reply a&b odd"),
        ([("field", "size", "desc")], "snow lights reply a&b odd"),
        ([("field", ["title"], "asc"), "item_id"], "reply snow lights a&b odd"),
        ([("field", "nothing"), ("item_id", "desc")], "snow reply odd lights a&b"),
    ],
)
def test_order(orders: list[Any], expected: str) -> None:
    assert ids(order_by=orders) == expected.split()


def test_order_of_equal_items_is_stable_across_pages() -> None:
    PubsubItem.objects.update(created=START, updated=START, parsed={"title": "same"})
    keys = list(PubsubItem.objects.order_by("pk").values_list("name", flat=True))
    for order in ("creation", "modification", ("field", "title"), ("creation", "desc")):
        pages = [ids(order_by=[order], limit=2, index=index) for index in (0, 2, 4, 6)]
        assert [name for page in pages for name in page] == keys
        assert search(order_by=[order]).queryset.query.order_by[-1] == "pk"  # otherwise the order is not defined


def test_pages_and_the_total() -> None:
    result = search(types=["blog"], limit=2, index=1)
    assert (result.total, [found.id for found in result.items]) == (3, ["snow", "reply"])
    assert ids(limit=0) == ids() == ids(limit=None)
    assert ids(index=4) == ["odd"]
    assert ids(index=99) == []
    assert search(index=99).total == 5


def test_what_is_found() -> None:
    first, *_, unparsed, odd = search(with_payload=True)
    item = PubsubItem.objects.get(name="lights")
    assert first == Found(
        account=ALICE,
        service=ALICE,
        node=BLOG,
        id="lights",
        created=item.created,
        updated=item.updated,
        parsed={"title": "Winter lights", "size": 3, "tags": ["a"]},
        snippet=None,
        xml=item.data,
    )
    assert (unparsed.parsed, odd.parsed) == ({}, ["no", "object"])
    assert next(iter(search())).xml is None
    assert [found.parsed for found in search(keys=["size", "nothing", "title"])] == [
        {"size": 3, "title": "Winter lights"}, {"size": 10, "title": "Snow"}, {"title": "Nice"}, {}, {},
    ]  # fmt: skip


def test_only_requested_columns_are_loaded(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1) as queries:
        assert len(search(order_by=[("field", "size")]).items) == 5
    assert not any(
        f'"{column}"' in queries.captured_queries[0]["sql"].split(" FROM ")[0] for column in ("data", "text")
    )


@pytest.mark.parametrize(
    "options",
    [
        {"accounts": ["not an account"]},
        {"accounts": ["@"]},
        {"services": ["a@b@c"]},
        {"types": "blog"},
        {"nodes": [None]},
        {"names": ["\0"]},
        {"fts": None},
        {"fts": 5},
        {"limit": -1},
        {"limit": True},
        {"limit": "10"},
        {"index": -1},
        {"index": 2**40},
        {"keys": "title"},
        {"parsed": ["size"]},
        {"parsed": [("size",)]},
        {"parsed": [("size", ">", 1, 2)]},
        {"parsed": [("size", "~", 1)]},
        {"order_by": ["alphabet"]},
        {"order_by": ["rank"]},
        {"order_by": ["rank"], "fts": " "},
        {"order_by": ["field"]},
        {"order_by": [("field", "")], "limit": -5},
        {"order_by": [("field", [])]},
        {"order_by": [("field", "a", "up")]},
        {"order_by": [("creation", "asc", "desc")]},
        {"order_by": [("creation", "ASCENDING")]},
        {"order_by": [()]},
        {"order_by": [5]},
    ],
)
def test_invalid_options_are_refused_with_a_reason(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        search(**options)
    assert str(refused.value).endswith(".")


# Full text


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("winter", "snow lights a&b"),
        ("WINTER lights", "lights"),
        ("snow OR nice", "snow reply"),
        ("winter -snow", "lights a&b"),
        ('"in the harbour"', "lights"),
        ("harb*", "lights"),
        ("item", ""),
        ("xmlns", ""),
        ("alice@example.org", "a&b"),
        ("C++", "odd"),
        ("a-b", ""),
        ('"', ""),
        ("'", ""),
        ("xmlns:foo", ""),
        ("(", ""),
        ("*", ""),
        ("AND", ""),
        ("\N{ELEPHANT}", ""),
        ("x " * 200, ""),
        ("NEAR(winter snow)", ""),
        ("text:winter", ""),
    ],
)
def test_words(query: str, expected: str) -> None:
    result = search(fts=query, order_by=["rank"])
    assert sorted(found.id for found in result.items) == sorted(expected.split())
    assert result.total == len(expected.split())


@pytest.mark.parametrize("query", ["winter " * 1500, "x" * 10_000, "(" * 10_000 + "x"])
def test_oversized_query_is_answered_or_refused(query: str) -> None:
    try:
        assert search(fts=query).total <= 3
    except InvalidRequest as refused:
        assert str(refused).endswith(".")
        assert len(str(refused)) < 200


def test_rank_is_best_first() -> None:
    add(PubsubNode.objects.get(name="c"), "best", {"title": "Harbour"}, "Harbour, harbour, harbour")
    assert ids(fts="harbour", order_by=["rank"]) == ["best", "lights"]
    assert ids(fts="harbour", order_by=[("rank", "desc")]) == ["best", "lights"]
    assert ids(fts="harbour", order_by=[("rank", "asc")]) == ["lights", "best"]
    assert ids(fts="harbour") == ["lights", "best"]
    assert ids(fts="winter") == ["lights", "snow", "a&b"]


def test_words_combine_with_other_options() -> None:
    assert ids(fts="winter", accounts=[ALICE], order_by=["item_id"]) == ["lights", "snow"]
    assert ids(fts="winter", parsed=[("size", ">", 3)]) == ["snow"]
    assert ids(fts="winter", order_by=[("field", "size", "desc")], limit=1, index=1) == ["lights"]
    result = search(fts="winter", keys=["title"], with_payload=True, limit=1)
    (found,) = result.items
    assert (result.total, found.parsed) == (3, {"title": "Winter lights"})
    assert found.xml == PubsubItem.objects.get(name="lights").data


def test_snippets_mark_the_words_of_the_search() -> None:
    (found,) = search(fts="harbour").items
    assert found.snippet == f"Winter lights in the {HIT_START}harbour{HIT_END}"
    (item,) = call_json("-f", "harbour")["items"]
    assert item["snippet"] == "Winter lights in the **harbour**"
    assert "the **harbour**" in call("-f", "harbour")
    assert fromstring(call("-f", "harbour", "-O", "xml"))[0].get("snippet") == "Winter lights in the **harbour**"


# pubsub_search


def call(*arguments: str, **options: Any) -> str:
    out = io.StringIO()
    call_command("pubsub_search", *arguments, stdout=out, **options)
    return out.getvalue()


def call_json(*arguments: str) -> Any:
    return json.loads(call(*arguments, "-O", "json"))


def test_json_has_exactly_the_documented_keys() -> None:
    found = call_json("-a", ALICE, "-n", BLOG, "-l", "1")
    item = PubsubItem.objects.get(name="lights")
    assert found == {
        "total": 2,
        "items": [
            {
                "account": ALICE,
                "service": ALICE,
                "node": BLOG,
                "id": "lights",
                "created": item.created.isoformat().replace("+00:00", "Z"),
                "updated": item.updated.isoformat().replace("+00:00", "Z"),
                "parsed": item.parsed,
                "snippet": None,
            }
        ],
    }
    assert next(iter(found["items"][0])) == "account"
    assert call_json("--item", "lights", "-P")["items"][0]["xml"] == item.data
    assert call("-n", "nothing", "-O", "json") == '{"total": 0, "items": []}\n'
    assert len(call("-O", "json").splitlines()) == 7


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", "lights snow reply a&b odd"),
        ("-f ''", "lights snow reply a&b odd"),
        ("-t blog -S ''", "lights snow"),
        ("--type '' --account bob@example.org", "a&b odd"),
        ("-s PUBSUB.example.org", "a&b odd"),
        ("-n c -n 'news & <more>'", "reply a&b odd"),
        ("-F size > 3", "snow"),
        ("-F size gt 1 -F size lt 10 -o item_id", "lights"),
        ("-F size missing -F '[0]' == no", "odd"),
        ("""-F '["tags", 0]' == a --field size exists""", "lights"),
        ("-F size > -5 -o field size desc -l 1", "snow"),
        ("-o field title desc -o item_id", "lights snow reply a&b odd"),
        ("""-o field '["title"]' -t blog""", "reply snow lights"),
        ("-o modification -l 2 -i 1", "a&b reply"),
        ("-l 0 -i 3", "a&b odd"),
        ("--item snow --item reply --order-by item_id asc", "reply snow"),
    ],
)
def test_options(options: str, expected: str) -> None:
    assert [item["id"] for item in call_json(*shlex.split(options))["items"]] == expected.split()


def test_keys() -> None:
    items = call_json("-t", "blog", "-k", "title", "--key", "nothing")["items"]
    assert [item["parsed"] for item in items] == [{"title": "Winter lights"}, {"title": "Snow"}, {"title": "Nice"}]


def test_xml_is_one_document() -> None:
    root = fromstring(call("-O", "xml"))
    assert root.tag == f"{{{pubsub_search.RESULTS}}}results"
    assert root.get("total") == "5"
    assert [result.get("node") for result in root] == [BLOG, BLOG, "c", NEWS, NEWS]
    assert [item.get("id") for item in root.iter("{http://jabber.org/protocol/pubsub}item")] == [
        "lights", "snow", "reply", "a&b", "odd",
    ]  # fmt: skip
    assert set(root[0].attrib) == {"account", "service", "node", "id", "created", "updated"}
    assert fromstring(call("-n", "nothing", "-O", "xml")).get("total") == "0"


def test_table_has_titles_or_keys_and_the_number_of_items() -> None:
    add(PubsubNode.objects.get(name="c"), "long", {"title": "w" * 300, "x": "\x1b[31m", "d": {"é": [1]}})
    out = call()
    assert "Winter lights" in out
    assert "w" * 80 not in out
    assert out.endswith("\n6 items.\n")
    out = call("-k", "x", "-k", "d", "-l", "1", "--item", "long", "-o", "creation", "desc")
    assert '{"é": [1]}' in out
    assert "\x1b" not in out
    assert call("-l", "2", "-i", "1").endswith("\n2 of 6 items, from 1.\n")
    assert call("-n", "nothing") == "0 items.\n"


@pytest.mark.parametrize(
    "options",
    [
        ("-a", "carol@example.org"),
        ("-a", "no account"),
        ("-s", "a@b@c"),
        ("-F", "size"),
        ("-F", "size", "~", "1"),
        ("-F", "size", ">", "1", "2"),
        ("-F", "size", ">", "null"),
        ("-F", "size", "between", "1"),
        ("-F", "[]", "exists"),
        ("-F", "published", ">", "TP(soon)"),
        ("-F", "published", ">", "TP(999999999 years ago)"),
        ("-F", "title", "==", '"\\u0000"'),
        ("-F", "title", "==", "1e400"),
        ("-o", "alphabet"),
        ("-o", "field"),
        ("-o", "field", "title", "upwards"),
        ("-o", "creation", "desc", "asc"),
        ("-o", "rank"),
        ("-o", "rank", "-f", ""),
        ("-l", "-1"),
        ("-l", "many"),
        ("-i", "-1"),
        ("-O", "yaml"),
        ("-F",),
        ("-o",),
        ("--ft", "x"),
        ("stray",),
    ],
)
def test_invalid_options_are_a_usage_error_of_one_sentence(options: tuple[str, ...]) -> None:
    with pytest.raises(CommandError) as failed:
        call(*options)
    assert failed.value.returncode == 1
    assert str(failed.value)
    assert "\n" not in str(failed.value)


def test_many_items_are_printed_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    node = PubsubNode.objects.get(name="c")
    PubsubItem.objects.bulk_create(PubsubItem(node=node, name=f"i{number}", data="<item/>") for number in range(1200))
    written: list[str] = []
    monkeypatch.setattr(pubsub_search.Command, "print_data", lambda self, data, **options: written.append(data))
    call("-O", "json")
    assert len(json.loads("".join(written))["items"]) == 1205
    assert max(map(len, written)) < 1000


def test_times_are_in_the_active_time_zone() -> None:
    add(PubsubNode.objects.get(name="c"), "dated", {"published": "2026-01-31T12:00:00Z"})
    for zone, expected in (("UTC", []), ("Europe/Paris", ["dated"])):
        with timezone.override(zone):
            found = call_json("-F", "published", ">=", "TP(31/01/2026 12:30)")
        assert [item["id"] for item in found["items"]] == expected
