"""Test full text search: both databases give the same answers, and keep their index up to date themselves."""

from typing import Any

import pytest
from django.db import connection
from django.db.models import Count, Max, Value

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.lookups import snippets
from pubsubcache.lookups.fulltext import sqlite
from pubsubcache.lookups.fulltext.query import parse
from pubsubcache.models import Account, PubsubItem, PubsubNode

pytestmark = pytest.mark.both_databases

FILLING = 12  # other items, so that no word occurs in most items

# name: (parsed, text)
ITEMS: dict[str, tuple[Any, str]] = {
    "title": ({"title": "Winter lights"}, "Winter lights in the north"),
    "body": ({"title": "Other"}, "Other. We saw winter lights; a résumé of the ÉCOLE, café au lait"),
    "apart": ({"title": "The end of winter"}, "lights begin the text"),
    "mail": ({"title": 5}, "mail user@host.example about C++ and a-b in xmlns:foo, 3.14 and snake_case"),
    "greek": ({"title": ["winter"]}, "Ελλάδα ΟΔΟΣ Straße ёлка"),
    "cjk": (None, "日本語のテキスト です"),
    "numbers": ([1], "m4a 123abc 1e5 0x1f v2 -7 2026-01-31T12:00:00Z"),
    "parts": ({"title": None}, "elements named item-ish, entryway, xmlnses"),
    "empty": ({}, ""),
}


@pytest.fixture
def node(db: None) -> PubsubNode:
    account = Account.objects.create(jid="alice@example.org")
    return PubsubNode.objects.create(account=account, service="s", name="n", type="blog")


@pytest.fixture(autouse=True)
def _items(node: PubsubNode) -> None:
    rows = {**ITEMS, **{f"filling{number}": (None, "nothing to see") for number in range(FILLING)}}
    PubsubItem.objects.bulk_create(
        PubsubItem(
            node=node,
            name=name,
            data=f'<item xmlns="http://jabber.org/protocol/pubsub" id="{name}"><entry/></item>',
            parsed=parsed,
            text=text,
            position=place,
        )
        for place, (name, (parsed, text)) in enumerate(rows.items())
    )


def find(query: str) -> list[str]:
    return list(PubsubItem.objects.full_text(query).in_order().values_list("name", flat=True))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("winter", "title body apart"),
        ("WINTER", "title body apart"),
        ("winter lights", "title body apart"),
        ("winter AND lights", "title body apart"),
        ('"winter lights"', "title body"),
        ('"lights winter"', ""),
        ("“winter lights”", "title body"),
        ('"winter lights', "title body"),
        ('"winter li"*', "title body"),
        ('"winter li*"', ""),
        ("win*", "title body apart"),
        ("win", ""),
        ("winter -north", "body apart"),
        ("winter NOT north", "body apart"),
        ("winter AND NOT north", "body apart"),
        ('lights -"winter lights"', "apart"),
        ("winter -(north OR résumé)", "apart"),
        ("mail OR north", "title mail"),
        ("mail OR winter north", "title mail"),
        ("(mail OR winter) north", "title"),
        ("north or mail", ""),
        ("resume", "body"),
        ("Résumé", "body"),
        ("re\u0301sume\u0301", "body"),
        ("école", "body"),
        ("cafe", "body"),
        ("ελλάδα", "greek"),
        ("οδος", "greek"),
        ("οδοσ", "greek"),
        ("STRASSE", ""),
        ("straße", "greek"),
        ("ЁЛКА", "greek"),
        ("日本", "cjk"),
        ("日本*", "cjk"),
        ("本", ""),
        ("日本語のテキスト", "cjk"),
        ("user@host", "mail"),
        ("user@host.example", "mail"),
        ("host", "mail"),
        ("user@example", ""),
        ("C++", "mail"),
        ("a-b", "mail"),
        ("b-a", ""),
        ("xmlns:foo", "mail"),
        ("snake", "mail"),
        ("3.14", "mail"),
        ("123abc", "numbers"),
        ("123", ""),
        ("123*", "numbers"),
        ("1e5", "numbers"),
        ("0x1f", "numbers"),
        ("2026-01", "numbers"),
        ("v2", "numbers"),
        ("7", "numbers"),
        ("item", "parts"),
        ("entry", ""),
        ("xmlns", "mail"),
        ("NOT", ""),
        ("about AND", "mail"),
        ("OR about", "mail"),
        ("NOT NOT about", "mail"),
        ("about ++", "mail"),
        ("about NOT ++", "mail"),
        ("()", ""),
        ("((about))", "mail"),
        (")about(", "mail"),
        ("a\0b", "mail"),
        ("'; DROP TABLE x; --", ""),
        ("parsed_title:winter", ""),
        ("{text}: winter", "apart"),
        ("text : winter", "apart"),
        ("^winter", "title body apart"),
        ("NEAR(winter lights)", ""),
        ("winter & lights | !x", ""),
        ("winter:*", "title body apart"),
        ("winter:A", ""),
        ("%s", ""),
        ("\\", ""),
        ('"', ""),
        ("🎉", ""),
        ("*", ""),
        ("-", ""),
        ("--", ""),
        ("-*", ""),
        ('"" ""', ""),
        ("\ud800 mail", "mail"),
        ("8" * 40, ""),
    ],
)
def test_queries(query: str, expected: str) -> None:
    assert find(query) == expected.split()


@pytest.mark.parametrize("query", ["-winter", "NOT winter", "NOT (winter AND NOT winter OR winter)"])
def test_query_of_only_a_negation(query: str) -> None:
    """SQLite's query language does not support this."""
    found = set(find(query))
    assert found == {item.name for item in PubsubItem.objects.all()} - {"title", "body", "apart"}


def test_negation_among_alternatives() -> None:
    assert set(find("north OR NOT winter")) == {item.name for item in PubsubItem.objects.all()} - {"body", "apart"}
    assert find("lights (north OR NOT winter)") == ["title"]


@pytest.mark.parametrize("query", ["", " ", "\n\t "])
def test_empty_query_finds_everything(query: str) -> None:
    items = PubsubItem.objects.full_text(query)
    assert items.count() == len(ITEMS) + FILLING
    assert {item.rank for item in items} == {0.0}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "query",
    [
        'x "' * 400,
        "(" * 10_000,
        '"' * 10_000,
        "🎉" * 10_000,
        "- " * 5_000,
        "NOT " * 2_500,
        "a " * 400,
        "(a OR " * 10 + "b",
        "x" * 500,
    ],
)
def test_long_queries_are_answered(query: str) -> None:
    assert PubsubItem.objects.full_text(query).count() >= 0


@pytest.mark.parametrize("query", ["x" * 10_000, "a b " * 2_500, "(a (b OR " * 30 + "c"])
def test_too_long_queries_are_refused_with_a_reason(query: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^The query has .* more than \d+ .*\.$|^The query has more than .*\.$"):
        PubsubItem.objects.full_text(query)


def test_query_with_the_maximum_number_of_words() -> None:
    alternatives = " OR ".join(f"word{number}" for number in range(498))
    assert find(f"mail ({alternatives} OR about)") == ["mail"]
    assert find(" ".join(f"-word{number}" for number in range(499)) + " mail") == ["mail"]


def test_titles_count_more() -> None:
    ranks = dict(PubsubItem.objects.full_text("winter").values_list("name", "rank"))
    assert ranks["title"] > ranks["body"] > 0
    assert ranks["apart"] > ranks["body"]
    assert all(isinstance(rank, float) for rank in ranks.values())
    best = PubsubItem.objects.full_text("winter").order_by("-rank")
    assert [item.name for item in best][-1] == "body"


def test_phrases_do_not_span_title_and_text() -> None:
    assert find('"winter lights"') == ["title", "body"]


def test_full_text_combines_with_other_queries(node: PubsubNode) -> None:
    found = PubsubItem.objects.full_text("winter")
    assert found.count() == 3
    assert found.exists()
    assert [item.name for item in found.in_order()[1:2]] == ["body"]
    assert [item.name for item in found.filter(parsed__title="Other", node__type="blog")] == ["body"]
    assert [item.name for item in PubsubItem.objects.filter(parsed_title="Other").full_text("winter")] == ["body"]
    assert [item.name for item in found.exclude(name="body").in_order()] == ["title", "apart"]
    assert [item.name for item in node.items.full_text("mail").select_related("node__account")] == ["mail"]
    assert found.select_related("node__account").order_by("-rank")[0].node.account.jid == "alice@example.org"
    assert PubsubNode.objects.filter(items__in=found).distinct().count() == 1
    assert PubsubItem.objects.exclude(pk__in=found).count() == len(ITEMS) + FILLING - 3
    assert (found | PubsubItem.objects.filter(name="cjk")).count() == 4
    assert (PubsubItem.objects.filter(name="cjk") | found.order_by()).count() == 4
    assert (found & PubsubItem.objects.full_text("north")).get().name == "title"
    assert found.full_text("north").get().name == "title"
    assert found.aggregate(number=Count("pk"), best=Max("rank"))["number"] == 3
    assert list(found.order_by().values("node").annotate(number=Count("pk")).values_list("number")) == [(3,)]
    assert found.union(PubsubItem.objects.full_text("mail")).count() == 4
    assert found.filter(rank__gt=0).distinct().count() == 3
    assert found.annotate(one=Value(1)).values("one").count() == 3
    assert found.only("name").order_by("rank").last() is not None


@pytest.mark.parametrize("query", ["winter", "winter -north", "-winter"])
def test_a_search_within_a_node_ranks_like_one_of_all_nodes(query: str, node: PubsubNode) -> None:
    other = PubsubNode.objects.create(account=node.account, service="s", name="other")
    PubsubItem.objects.create(node=other, name="other", data="<item/>", text="winter")
    ranks = dict(PubsubItem.objects.full_text(query).exclude(name="other").values_list("name", "rank"))
    assert ranks
    before = PubsubItem.objects.filter(node=node).full_text(query)
    after = PubsubItem.objects.full_text(query).filter(node__id__exact=node.pk)
    for found in (before, after, node.items.full_text(query)):
        assert dict(found.values_list("name", "rank")) == ranks
    assert (before | PubsubItem.objects.filter(node=other)).count() == len(ranks) + 1


@pytest.mark.sqlite_only
@pytest.mark.parametrize(("count", "is_ranked_alone"), [(5, True), (sqlite.SMALL + 1, False)])
def test_sqlite_ranks_only_the_items_of_a_small_node(count: int, is_ranked_alone: bool, node: PubsubNode) -> None:
    PubsubNode.objects.update(item_count=count)
    other = PubsubNode.objects.create(account=node.account, service="s", name="other")
    PubsubItem.objects.create(node=other, name="other", data="<item/>", text="winter")
    tree = parse("winter")
    assert tree is not None
    sql, parameters = sqlite.selected(tree, node.pk)
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        found = {pk for pk, _ in cursor.fetchall()}
    names = {"title", "body", "apart"} if is_ranked_alone else {"title", "body", "apart", "other"}
    assert found == set(PubsubItem.objects.filter(name__in=names).values_list("pk", flat=True))


def test_index_follows_updates_and_deletions() -> None:
    PubsubItem.objects.full_text("about").update(text="post box")
    assert (find("about"), find("post")) == ([], ["mail"])
    PubsubItem.objects.filter(name="mail").update(parsed={"title": "Letters"})
    assert (find("letters"), find("post")) == (["mail"], ["mail"])
    item = PubsubItem.objects.get(name="mail")
    item.parsed = {"title": {"not": "text"}}
    item.text = "parcel"
    item.save()
    assert (find("letters"), find("post"), find("parcel"), find("text")) == ([], [], ["mail"], ["apart"])
    PubsubItem.objects.bulk_create(
        [PubsubItem(node=item.node, name="mail", data="<item/>", text="telegram")],
        update_conflicts=True,
        unique_fields=["node", "name"],
        update_fields=["text"],
    )
    assert (find("parcel"), find("telegram")) == ([], ["mail"])
    item.text = "fax"
    PubsubItem.objects.bulk_update([item], ["text"])
    assert (find("telegram"), find("fax")) == ([], ["mail"])
    PubsubItem.objects.filter(name="mail").update(position=1000)
    assert find("fax") == ["mail"]
    assert PubsubItem.objects.full_text("fax").delete()[0] == 1
    assert find("fax") == []
    PubsubNode.objects.all().delete()
    assert find("winter") == []
    check_index()


def check_index() -> None:
    """Make SQLite compare its index with the table, which raises an error if they differ."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO pubsubcache_words (pubsubcache_words, rank) VALUES ('integrity-check', 1)")


@pytest.mark.parametrize(
    "text",
    [
        "x" * 1_000_000,
        " ".join(str(number) for number in range(300_000)),
        "é" * 600_000,
        "日 " * 600_000,
        " ".join(f"ü{number:x}" for number in range(200_000)),
        "\ud7ff\ue000\U0010ffff" * 1000,
    ],
    ids=["one word", "numbers", "accents", "wide", "words", "odd"],
)
def test_large_texts_are_stored(text: str, node: PubsubNode) -> None:
    parsed = {"title": text, "tags": [text[:3000]], "author": text}
    PubsubItem.objects.create(node=node, name="large", data="<item/>", parsed=parsed, text=f"needle {text}")
    assert find("needle") == ["large"]
    assert PubsubItem.objects.full_text("needle").with_snippets().get().snippet.count(snippets.HIT_START) == 1  # type: ignore[attr-defined]


def test_snippets() -> None:
    body = "before " * 60 + "the winter lights, once more: WINTER " + "after " * 60
    PubsubItem.objects.filter(name="body").update(text=body)
    found = PubsubItem.objects.full_text('winter "winter lights" -nothing').with_snippets().get(name="body")
    snippet = snippets.marked(found.snippet, "[", "]")  # type: ignore[attr-defined]
    assert "before the [winter lights], once more: [WINTER] after" in snippet
    assert snippet[0] == snippet[-1] == "…"
    assert len(snippet) < 300
    assert "nothing" not in snippet


def test_snippets_mark_words_of_all_searches() -> None:
    """Words of searches before and after `with_snippets` are marked."""
    found = PubsubItem.objects.full_text("north").with_snippets().full_text("lights").get()
    assert snippets.marked(found.snippet, "[", "]") == "Winter [lights] in the [north]"  # type: ignore[attr-defined]


def test_snippets_of_markup_are_escaped() -> None:
    text = "\x02 a <script>alert(1)</script> & winter \x03"
    PubsubItem.objects.filter(name="body").update(text=text)
    snippet = PubsubItem.objects.full_text("winter").with_snippets().values_list("snippet", flat=True).get(name="body")
    assert snippets.as_html(snippet).strip() == ("a &lt;script&gt;alert(1)&lt;/script&gt; &amp; <mark>winter</mark>")


def test_snippets_without_a_search_show_the_beginning() -> None:
    PubsubItem.objects.filter(name="body").update(text="word " * 500)
    items = {item.name: item.snippet for item in PubsubItem.objects.with_snippets()}  # type: ignore[attr-defined]
    assert items["mail"] == ITEMS["mail"][1]
    assert items["empty"] == ""
    assert items["body"].endswith("word…")
    assert len(items["body"]) < 300
