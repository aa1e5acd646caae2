"""Test items in the admin: shown completely and escaped, read-only, and listed without loading their payloads."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pubsubcache.admin import display, filters, paginator, readable
from pubsubcache.admin import items as items_admin
from pubsubcache.analysers import Analyser, registry
from pubsubcache.models import PubsubItem, PubsubNode
from tests.admin_data import SCRIPT, XML, account, item, logged_in, node, person, staff, superuser, url
from tests.examples import EXAMPLES, SERVICE, Example

pytestmark = pytest.mark.django_db


def listed(client: Any, **query: Any) -> list[str]:
    response = client.get(url("pubsubitem", "changelist", **query))
    assert response.status_code == 200
    return [one.name for one in response.context["cl"].result_list]


def test_an_item_is_shown_as_xml_and_json() -> None:
    made = item(node(account()), parsed={"title": "Un été", "tags": ["a"]}, text="Un été")
    page = superuser().get(url("pubsubitem", "change", made.pk)).content.decode()
    assert '&lt;<span class="psc-name">title</span>&gt;Un été&lt;/<span class="psc-name">title</span>&gt;' in page
    assert '<span class="psc-key">&quot;title&quot;</span>: <span class="psc-string">&quot;Un été&quot;</span>' in page


def test_items_are_escaped() -> None:
    hostile = {
        "data": XML.replace("Un été", SCRIPT),
        "parsed": {"title": SCRIPT, SCRIPT: 1},
        "publisher": f"eve@example.org/{SCRIPT}",
        "parse_error": f"failed at {SCRIPT}",
        "text": SCRIPT,
    }
    made = item(node(account(), f"n{SCRIPT}"), f"id{SCRIPT}", **hostile)
    untitled = item(made.node, "untitled", **{**hostile, "parsed": None})
    client = superuser()
    for page in (
        client.get(url("pubsubitem", "changelist")),
        client.get(url("pubsubitem", "changelist", q="<script>")),
        client.get(url("pubsubitem", "change", made.pk)),
        client.get(url("pubsubitem", "change", untitled.pk)),
        client.get(url("pubsubitem", "history", made.pk)),
    ):
        assert page.status_code == 200
        assert SCRIPT not in page.content.decode()
        assert "&lt;script&gt;" in page.content.decode()


@pytest.mark.parametrize(
    "data", ["<item", "", "<!DOCTYPE x [<!ENTITY e 'boom'>]><x>&e;</x>", "<a>" * 3000 + "</a>" * 3000]
)
def test_xml_that_cannot_be_indented_is_shown_unchanged(data: str) -> None:
    made = item(node(account()), data=data)
    response = superuser().get(url("pubsubitem", "change", made.pk))
    assert response.status_code == 200
    assert "boom" not in response.content.decode() or "DOCTYPE" in response.content.decode()


def test_a_lone_surrogate_is_shown_as_its_escape() -> None:
    made = item(node(account()))
    made.parsed = {"title": "\ud800"}
    shown = items_admin.ItemAdmin(PubsubItem, None).json(made)  # type: ignore[arg-type]
    assert "\\ud800" in shown


def test_a_large_payload_is_cut_and_can_be_downloaded_whole() -> None:
    data = XML.replace("Un été", "x" * (display.MAX_SHOWN * 3))
    made = item(node(account()), data=data, text="y" * (display.MAX_SHOWN * 3))
    client = person("view_pubsubitem")
    page = client.get(url("pubsubitem", "change", made.pk)).content.decode()
    assert len(page) < display.MAX_SHOWN * 2 + 50_000
    assert "Only the first 200,000 of" in page
    response = client.get(url("pubsubitem", "raw", made.pk))
    assert response.content.decode() == data
    assert response["Content-Type"].startswith("application/xml")
    assert response["Content-Disposition"].startswith("attachment")
    assert response["X-Content-Type-Options"] == "nosniff"


def test_download_requires_permission_to_view_items() -> None:
    made = item(node(account()))
    assert person("view_pubsubnode").get(url("pubsubitem", "raw", made.pk)).status_code == 403


@pytest.mark.parametrize("page", ["add", "change", "delete"])
def test_items_cannot_be_edited(page: str) -> None:
    made = item(node(account()))
    before = PubsubItem.objects.values().get()
    client = superuser()
    address = url("pubsubitem", page, *([] if page == "add" else [made.pk]))
    assert client.post(address, {"name": "forged", "data": "<forged/>", "post": "yes"}).status_code == 403
    form = {"action": "delete_selected", "_selected_action": [made.pk], "post": "yes"}
    client.post(url("pubsubitem", "changelist"), form)
    assert PubsubItem.objects.values().get() == before


@pytest.mark.both_databases
def test_items_are_found() -> None:
    owner, other = account(), account("bob@example.org")
    blog, tickets = node(owner, "blog", type="blog"), node(other, "tickets", type="ticket")
    item(blog, "post", text="The words of été", parsed={"title": "Hello"})
    item(blog, "broken", parse_error="ValueError")
    item(tickets, "ticket")
    client = superuser()
    assert listed(client) == ["ticket", "broken", "post"]
    assert listed(client, node__account__id__exact=other.pk) == ["ticket"]
    assert listed(client, node__type="blog") == ["broken", "post"]
    assert listed(client, node__id__exact=blog.pk) == ["broken", "post"]
    assert listed(client, parse_error="yes") == ["broken"]
    assert listed(client, parse_error="no") == ["ticket", "post"]
    assert listed(client, q="words of") == ["post"]
    assert listed(client, q="tick") == ["ticket"]
    page = client.get(url("pubsubitem", "changelist")).content.decode()
    assert ">Hello</bdi>" in page
    assert page.count("not parsed") == 1


@pytest.mark.both_databases
def test_search_shows_the_best_first_with_highlighted_words() -> None:
    blog = node(account(), "blog")
    item(blog, "best", text=f"Harbour, harbour, harbour {SCRIPT}", parsed={"title": "Harbour"})
    item(blog, "other", text="A walk in the harbour, with lights", parsed={"title": "A walk"})
    item(blog, "harbour-pictures", text="Pictures")
    client = superuser()
    assert listed(client, q="harbour") == ["best", "other"]
    assert listed(client, q="harb* -lights") == ["best"]
    assert listed(client, q="harbour", node__id__exact=blog.pk, o="4") == ["best", "other"]
    assert listed(client, q="harbour", node__id__exact=blog.pk, o="-4") == ["other", "best"]
    assert listed(client, q="pictures") == ["harbour-pictures"]
    assert listed(client, q="our-pic") == ["harbour-pictures"]
    page = client.get(url("pubsubitem", "changelist", q="lights")).content.decode()
    assert "A walk in the harbour, with <mark>lights</mark>" in page
    page = client.get(url("pubsubitem", "changelist", q="harbour")).content.decode()
    assert "<mark>harbour</mark>" in page
    assert SCRIPT not in page
    assert "&lt;script&gt;" in page


@pytest.mark.both_databases
@pytest.mark.parametrize(
    "query",
    [
        "user@host",
        "C++",
        "a-b",
        '"',
        "'",
        "xmlns:foo",
        "(",
        "*",
        "AND",
        "-",
        "\N{ELEPHANT}",
        "\0",
        "x" * 5000,
        "y " * 2500,
    ],
)
def test_odd_searches_cause_no_error(query: str) -> None:
    item(node(account()), text="user@host writes C++")
    response = superuser().get(url("pubsubitem", "changelist", q=query))
    assert response.status_code == 200
    assert len(response.context["cl"].result_list) <= 1


def test_refused_search_is_explained() -> None:
    item(node(account()), text="x")
    response = superuser().get(url("pubsubitem", "changelist", q="x" * 5000))
    assert "more than 500 characters" in str(next(iter(response.context["messages"])))
    assert not response.context["cl"].result_list


@pytest.mark.both_databases
def test_search_with_too_many_hits_is_not_ranked_or_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paginator, "CAP", 60)
    made = node(account())
    items = [PubsubItem(node=made, name=f"i{n}", data=XML, text="winter " * (1 + n % 2)) for n in range(130)]
    PubsubItem.objects.bulk_create(items)
    with CaptureQueriesContext(connection) as queries:
        response = superuser().get(url("pubsubitem", "changelist", q="winter"))
    assert "more than 60" in response.content.decode()
    assert [one.name for one in response.context["cl"].result_list[:3]] == ["i129", "i128", "i127"]
    counts = [query["sql"] for query in queries if "COUNT(*)" in query["sql"] and "pubsubitem" in query["sql"]]
    assert counts
    assert all("LIMIT 61" in sql for sql in counts)


@pytest.mark.both_databases
@pytest.mark.parametrize("pk", ["x", "", "9" * 40, "0"])
def test_filter_by_an_unknown_node_causes_no_server_error(pk: str) -> None:
    item(node(account()))
    response = superuser().get(url("pubsubitem", "changelist", node__id__exact=pk), follow=True)
    assert response.status_code == 200


@pytest.mark.both_databases
def test_list_loads_no_payloads_and_makes_no_query_per_item(
    django_assert_max_num_queries: Callable[..., Any],
) -> None:
    client = superuser()
    for number in range(10):
        owner = account(f"user{number}@example.org")
        node(owner, f"n{number}", items=4)
    with django_assert_max_num_queries(10) as queries:
        assert len(listed(client)) == 40
    columns = [query["sql"].split(" FROM ")[0] for query in queries.captured_queries]
    assert not any('pubsubitem"."data"' in sql or '"account"."password"' in sql for sql in columns)


def plan_of(client: Any, **query: Any) -> str:
    response = client.get(url("pubsubitem", "changelist", **query))
    return str(response.context["cl"].queryset[:50].explain())


@pytest.mark.both_databases
def test_the_order_comes_from_an_index() -> None:
    client = superuser()
    made = node(account(), items=3)
    sorting = re.compile("TEMP B-TREE FOR ORDER BY")
    if connection.vendor == "postgresql":
        sorting = re.compile(r"(?<!Incremental )Sort  \(")  # an incremental sort only orders equal times
        with connection.cursor() as cursor:  # with so few rows it would sort even with an index
            for way in ("seqscan", "bitmapscan", "sort"):
                cursor.execute(f"SET LOCAL enable_{way} = off")
    assert not sorting.search(plan_of(client))
    of_node = plan_of(client, node__id__exact=made.pk)
    assert "pubsubcache_item_created" in of_node
    assert not sorting.search(of_node)


@pytest.mark.sqlite_only  # PostgreSQL chooses by its statistics
@pytest.mark.parametrize("query", [{"published_from": "2020-01-01"}, {"parse_error": "no"}])
@pytest.mark.parametrize("is_owner", [True, False])
def test_items_of_a_large_account_come_in_the_order_of_an_index(
    query: dict[str, str], is_owner: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filters, "MANY_ITEMS", 2)
    user = staff("view_pubsubitem")
    owned, other = account(owner=user), account("other@example.org")
    for of in (node(owned, items=3), node(other, items=3)):
        PubsubItem.objects.filter(node=of).update(parsed={"published": "2026-01-01T00:00:00Z"})
    client = logged_in(user) if is_owner else superuser()
    own = query if is_owner else {**query, "node__account__id__exact": str(owned.pk)}
    assert len(listed(client, **own)) == 3
    assert "TEMP B-TREE" not in plan_of(client, **own)
    if is_owner:
        assert listed(client, **query, node__account__id__exact=str(other.pk)) == []


@pytest.mark.parametrize(
    "query",
    [{}, {"published_from": "2020-01-01"}, {"parse_error": "no"}, {"tag": "a"}, {"account_jid": "b@example.org"}],
)
def test_lists_of_owners_take_few_queries(
    query: dict[str, str], django_assert_max_num_queries: Callable[..., Any]
) -> None:
    user = staff("view_pubsubitem", "view_pubsubnode")
    for number, jid in enumerate(("a@example.org", "b@example.org")):
        of = node(account(jid, owner=user), items=3, type=f"t{number}", analyser=f"a{number}")
        PubsubItem.objects.filter(node=of).update(parsed={"published": "2026-01-01T00:00:00Z", "tags": ["a"]})
    client = logged_in(user)
    with django_assert_max_num_queries(12):
        assert len(listed(client, **query)) == (3 if "account_jid" in query else 6)
    with django_assert_max_num_queries(12):
        client.get(url("pubsubnode", "changelist"))


@pytest.mark.both_databases
def test_a_filtered_count_stops_at_its_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paginator, "CAP", 60)
    made = node(account())
    PubsubItem.objects.bulk_create([PubsubItem(node=made, name=f"i{n}", data=XML) for n in range(130)])
    client = superuser()
    with CaptureQueriesContext(connection) as queries:
        page = client.get(url("pubsubitem", "changelist", node__id__exact=made.pk))
    counts = [query["sql"] for query in queries if "COUNT(*)" in query["sql"] and "pubsubitem" in query["sql"]]
    assert len(counts) == 1
    assert "LIMIT 61" in counts[0]
    assert page.context["cl"].result_count == 60
    assert "more than 60" in page.content.decode()
    whole = client.get(url("pubsubitem", "changelist"))
    if connection.vendor == "sqlite":
        assert whole.context["cl"].result_count == 130


@pytest.mark.both_databases
def test_an_unfiltered_count_is_an_estimate_where_counting_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paginator, "CAP", 60)
    made = node(account())
    PubsubItem.objects.bulk_create([PubsubItem(node=made, name=f"i{n}", data=XML) for n in range(130)])
    estimated = connection.vendor == "postgresql"
    if estimated:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE pubsubcache_pubsubitem")
    page = superuser().get(url("pubsubitem", "changelist"))
    assert ("about 130" in page.content.decode()) is estimated
    assert page.context["cl"].result_count == 130


def test_json_keeps_the_order_of_keys_and_non_ascii_characters() -> None:
    made = item(node(account()), parsed={"z": "日本", "a": [1, {"b": None}]})
    shown = items_admin.ItemAdmin(PubsubItem, None).json(made)  # type: ignore[arg-type]
    assert "日本" in shown
    assert shown.index("&quot;z") < shown.index("null")
    text = re.sub(r'<span class="psc-count">\d+</span>|<[^>]*>', "", shown).replace("&quot;", '"')
    assert json.loads(text[: text.rindex("}") + 1]) == made.parsed


def test_empty_list_explains_what_to_do() -> None:
    assert "There are no items yet" in superuser().get(url("pubsubitem", "changelist")).content.decode()


# The readable view

COMMENTS = "urn:xmpp:microblog:0:comments/new-pond"


def example(name: str) -> Example:
    return next(one for one in EXAMPLES if one.name == name)


def kept(name: str, of: PubsubNode | None = None, **parsed: Any) -> PubsubItem:
    """Store an example as the cache does, with some values of its parsed data replaced."""
    source = example(name)
    if of is None:
        of = node(account(), source.node, service=SERVICE, analyser=source.analyser)
    return item(of, source.item.get("id") or "one", data=source.text, parsed={**source.parsed(), **parsed})


def view(made: PubsubItem) -> str:
    """Return the readable part of the page of an item, which must not be an error."""
    response = superuser().get(url("pubsubitem", "change", made.pk))
    assert response.status_code == 200
    return str(response.context["readable"])


def by_template(made: PubsubItem) -> bool:
    """Return whether the template of the analyser shows the item, and not the view of keys and values."""
    return "psc-rows" not in view(made)


SHOWN = {
    "microblog": ["A new pond", "It is full of <em>frogs</em> already.", "Mira Moss", "verified", ">pond<", "20.0"],
    "microblog.gallery": ["The pond at dawn", 'href="https://garden.example/frogs.ogg"', "audio/ogg"],
    "microblog.repeat": ["claimed", "Repeated by", "otto@hedge.example"],
    "microblog.reply": ["And newts?", "Reply to", "new-pond"],
    "microblog.encrypted": ["encrypted", "pte", "urn:xmpp:omemo:2", "mira@garden.example"],
    "encrypted-oxps": ["encrypted", "shed-key-7"],
    "calendar-events": [
        "Plant fair", "confirmed", "<strong>seedlings</strong>", "The old nursery", "geo:48.21,16.4", "fair@rooms",
        'href="https://garden.example/plan.pdf"', "Pflanzenmarkt", "Will you come?", "maybe",
    ],
    "calendar-events.invitee": ["Otto", "otto@hedge.example"],
    "calendar-events.external": ["Plant fair", "The event itself", "plant-fair"],
    "tickets": ["The gate does not close", "queued", "<em>storm</em>", "storm damage", "major", "spring"],
    "forms": ["Frost report", "Which bed?", "Herbs</bdi>", "choices", "One report for each bed."],
    "forms.submitted": ["lost", "Two buds", "One old branch"],
    "forms.table": [">Plot<", "otto@hedge.example"],
    "avatar-metadata": ["image/webp", "64 \u00d7 64", "10.0", "e279f80c38f99c1e7e53e262b440993b2f7eea57"],
    "avatar-metadata.disabled": ["switched off"],
    "avatar-data": ["image/png", "e1591c3d50b8b83b7cd494ee213135df78528f36"],
    "vcard4": ["Mira Moss", "mira@post.example", "(work)", "Garden Lane 4", "Head gardener", "Ask me about frost."],
    "bookmarks": ["Rose growers", "roses@rooms.garden.example", "Mira", "yes"],
    "tune": ["March of the Frogs", "The Village Band", 'href="https://band.example/songs/frogs"'],
    "tune.stopped": ["Nothing is playing"],
    "mood": ["happy", "The first rose is out!", "ecstatic"],
    "mood.ended": ["Nothing is set"],
    "activity": ["doing_chores", "gardening", "Up on the ladder"],
    "geoloc": ["Vienna", "Austria", 'href="geo:48.2015,16.3695"'],
    "omemo.devices": ["Phone in the shed", "12345"],
}  # fmt: skip


@pytest.mark.parametrize("name", SHOWN)
def test_a_template_shows_an_item(name: str) -> None:
    made = kept(name)
    if "invitee" in name:
        PubsubNode.objects.update(subtype="invitees")
    shown = view(made)
    assert [text for text in SHOWN[name] if text not in shown] == []
    assert "psc-rows" not in shown


@pytest.mark.parametrize("source", EXAMPLES, ids=lambda source: source.name)
def test_every_example_is_shown_without_requests(source: Example, caplog: pytest.LogCaptureFixture) -> None:
    shown = view(kept(source.name))
    assert shown.strip()
    assert not re.search(r"<(img|script|iframe|link|style|form|input)", shown)
    assert " src=" not in shown
    assert "failed for item" not in caplog.text


def test_items_without_a_template_are_shown_as_keys_and_values() -> None:
    parsed = {"name": "Fog", "tags": ["a", 2, True], "more": {"one": [{"x": "y"}]}, "no": []}
    made = item(node(account()), data="<item/>", parsed=parsed)
    page = superuser().get(url("pubsubitem", "change", made.pk))
    shown = str(page.context["readable"])
    assert [text for text in ("Fog", ">a<", ">2<", "yes", ">more<", ">x<", ">y<") if text not in shown] == []
    assert ">no<" not in shown
    assert page.content.decode().count("<details>") == 1  # only the words


def test_a_template_closes_the_json_and_the_xml() -> None:
    page = superuser().get(url("pubsubitem", "change", kept("microblog").pk)).content.decode()
    assert page.count("<details>") == 3


def test_unparsed_items_are_explained() -> None:
    of = node(account(), analyser="microblog")
    assert "No analyser parses this item" in view(item(of))
    broken = item(of, "two", parse_error="ParseError")
    assert "could not be parsed" in readable.readable(broken)


HOSTILE = [
    SCRIPT,
    "javascript:document.title='run'",
    " java\nscript:document.title='run'",
    "data:text/html,<script>document.title='run'</script>",
    "<svg onload=\"document.title='run'\"><a xlink:href='javascript:x'></a></svg>",
    '"><img src=x onerror="document.title=\'run\'">',
    "//evil.example/x",
    "/admin/logout/",
    "http://[",
    "\u202etxt.exe\u2066",
    "{{ item.node.account.password }}{% now 'Y' %}",
]


def filled(value: Any, text: str) -> Any:
    """Return JSON with all texts replaced."""
    if isinstance(value, dict):
        return {key: filled(child, text) for key, child in value.items()}
    if isinstance(value, list):
        return [filled(child, text) for child in value]
    return text if isinstance(value, str) else value


def assert_harmless(page: str) -> None:
    assert "<svg" not in page
    assert "onload=" not in re.sub(r"(title|alt)=\"[^\"]*\"", "", page.replace("onload=&quot;", ""))
    assert SCRIPT not in page
    names = re.sub(r'<div class="psc-body.*?</div>', "", page, flags=re.DOTALL)  # isolated, and may be Hebrew
    assert not re.search("[\u202e\u2066]", names)
    assert "<img" not in page
    for target in re.findall(r"(?:href|src)=[\"']([^\"']*)", page):
        assert target.startswith(("https:", "http:", "xmpp:", "mailto:", "geo:", "tel:", "/admin/pubsubcache/")), target
    for link in re.findall(r"<a [^>]*>", page):
        assert "rel=" in link or 'href="/admin/pubsubcache/' in link


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_values_are_harmless(text: str) -> None:
    of = node(account(), service=SERVICE)
    for source in EXAMPLES:
        of.analyser = source.analyser
        for parsed in (filled(source.parsed(), text), {text: text, "x": {text: [text]}}):
            assert_harmless(readable.readable(PubsubItem(pk=1, node=of, name=text, parsed=parsed)))
    of.analyser = "microblog"
    of.save()
    assert_harmless(view(item(of, text, parsed=filled(example("microblog").parsed(), text))))


@pytest.mark.parametrize(
    "wrong", ["text", 7, True, ["a"], [["a"]], {"a": "b"}, [{"a": {"b": []}}], [None], 1e308, "\0"]
)
def test_broken_shapes_cause_no_error(wrong: Any) -> None:
    account_ = account()
    for number, source in enumerate(EXAMPLES):
        of = PubsubNode(account=account_, service=SERVICE, name=source.node, analyser=source.analyser)
        parsed = source.parsed()
        for key in parsed:
            made = PubsubItem(pk=number, node=of, name="one", data=source.text, parsed={**parsed, key: wrong})
            assert_harmless(readable.readable(made))
        assert_harmless(readable.readable(PubsubItem(node=of, name="one", data=source.text, parsed=wrong)))


def test_a_failing_template_falls_back_to_keys_and_values(caplog: pytest.LogCaptureFixture) -> None:
    made = kept("microblog", tags=[{"a": "list of tags"}])
    assert not by_template(made)
    assert "failed for item" in caplog.text


@pytest.mark.parametrize("template", ["missing.html", "admin/index.html"])
def test_a_template_of_an_app_that_fails_causes_no_error(template: str) -> None:
    made = item(node(account(), analyser="recipes"), parsed={"title": "Soup"})
    recipes = Analyser(name="recipes", type="recipe", node="recipes", template=template)
    with registry.temporarily(recipes):
        assert "Soup" in view(made) or template == "admin/index.html"


def test_an_app_shows_its_items_with_its_own_template(settings: Any, tmp_path: Any) -> None:
    (tmp_path / "recipe.html").write_text("{{ item.name }}|{{ parsed.title }}|{{ node.service }}")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [tmp_path]}]
    made = item(node(account(), analyser="recipes"), parsed={"title": "<b>Soup</b>"})
    recipes = Analyser(name="recipes", type="recipe", node="recipes", template="recipe.html")
    with registry.temporarily(recipes):
        assert view(made) == "one|&lt;b&gt;Soup&lt;/b&gt;|pubsub.example.org"


def test_an_item_of_another_kind_is_shown_with_the_template_of_its_kind() -> None:
    blog = node(account(), "blog", service=SERVICE, analyser="microblog")
    assert readable.template_of(kept("avatar-metadata", blog)) == f"{readable.FOLDER}/avatar.html"
    assert readable.template_of(kept("microblog", blog)) == f"{readable.FOLDER}/post.html"


def test_the_template_of_an_analyser_must_be_a_name() -> None:
    with pytest.raises(ValueError, match="template"):
        Analyser(name="recipes", type="recipe", node="recipes", template=7)  # type: ignore[arg-type]


def test_long_values_are_cut() -> None:
    long = "word " * 40_000
    made = kept("microblog")
    made.parsed |= {"title": long, "content": long, "content_xhtml": None, "tags": [long] * 5000, "author": long}
    shown = readable.readable(made)
    assert len(shown) < 100_000
    assert "Only the first 20,000 of 200,000" in shown
    made.node.analyser, made.data = "", "<item/>"
    made.parsed = {**{str(key): long for key in range(1000)}, "deep": [[[[[[[[["x"]]]]]]]]]}
    shown = readable.readable(made)
    assert len(shown) < 300_000
    assert "Only a part is shown" in shown


def test_deep_data_are_cut() -> None:
    made = item(node(account()), data="<item/>", parsed={})
    made.parsed = {"a": {"b": {"c": {"d": {"e": {"f": {"g": "deepest"}}}}}}}
    shown = readable.readable(made)
    assert ">e<" in shown
    assert "deepest" not in shown
    assert "Only a part is shown" in shown


def test_words_of_any_size_are_shown_in_part() -> None:
    made = item(node(account()), text="w" * 250_000, parsed={"a": 1})
    page = superuser().get(url("pubsubitem", "change", made.pk)).content.decode()
    assert "Only the first 200,000 of 250,000" in page


def test_pictures_are_links_until_a_click() -> None:
    body = (
        '<div><p>See <a href="https://a.example/"><img src="https://pics.example/p.jpg?a=1&amp;b=2" alt="pear"/></a>'
        '<img src="https://pics.example/q.jpg" alt="a &quot;gate&quot;"/><img alt="lost"/></p></div>'
    )
    shown = view(kept("microblog", content_xhtml=body))
    assert "<img" not in shown
    assert " src=" not in shown
    assert re.search(r'<a href="https://a.example/"[^>]*>pear</a> <a class="psc-picture"', shown)
    pears = 'href="https://pics.example/p.jpg?a=1&amp;b=2" data-src="https://pics.example/p.jpg?a=1&amp;b=2"'
    assert pears in shown
    assert ">a &quot;gate&quot;</a>" in shown
    assert '<span class="psc-picture">lost</span>' in shown


def test_markup_is_sanitised_again() -> None:
    body = '<div>Hello<script>x</script><a href="javascript:x" onclick="x" data-src="x">there</a><form>y</form></div>'
    shown = view(kept("microblog", content_xhtml=body))
    assert "Hello" in shown
    assert not re.search("javascript|onclick|<script|<form|data-src", shown)


def test_bidirectional_controls_are_visible_in_names() -> None:
    made = kept("microblog", title="photo\u202egnp.exe", author="Mira\u2066")
    PubsubItem.objects.update(name="id\u202e", publisher="eve@example.org/\u202e")
    page = superuser().get(url("pubsubitem", "change", made.pk)).content.decode()
    visible, _dot, _rest = page.partition("Parsed JSON")
    assert "photo\\u202egnp.exe" in visible
    assert "Mira\\u2066" in visible
    assert "eve@example.org/\\u202e" in visible
    assert "\u202e" not in visible


def test_a_post_and_its_comments_link_to_each_other() -> None:
    post = kept("microblog")
    assert "not in the cache" in view_again(post)
    comments = node(post.node.account, COMMENTS, service="pubsub.garden.example", items=2, analyser="microblog")
    shown = view_again(post)
    assert f"node__id__exact={comments.pk}" in shown
    assert "2 in the cache" in shown
    comment = PubsubItem.objects.filter(node=comments)[0]
    comment.parsed = example("microblog.reply").parsed()
    assert url("pubsubitem", "change", post.pk) in readable.readable(comment)
    for others in ("x", [7, {"service": "elsewhere.example", "node": COMMENTS}]):
        PubsubItem.objects.filter(pk=post.pk).update(parsed={"title": "A post", "comments": others})
        assert url("pubsubitem", "change", post.pk) not in readable.readable(comment)


def view_again(made: PubsubItem) -> str:
    return readable.readable(PubsubItem.objects.select_related("node__account").get(pk=made.pk))


@pytest.mark.both_databases
def test_references_do_not_reach_other_accounts() -> None:
    post = kept("microblog")
    node(account("eve@example.org"), COMMENTS, service="pubsub.garden.example", items=2)
    assert "node__id__exact" not in view_again(post)


def test_a_reply_links_to_the_cached_post() -> None:
    post = kept("microblog", node(account(), service="mira@garden.example", analyser="microblog"))
    reply = kept("microblog.reply", node(post.node.account, "allotments", service=SERVICE, analyser="microblog"))
    assert url("pubsubitem", "change", post.pk) in view(reply)


@pytest.mark.both_databases
def test_previous_and_next_follow_the_order_of_the_service() -> None:
    of, other = node(account(), "blog"), node(account("bob@example.org"), "blog")
    item(other, "foreign", position=2)
    made = {name: item(of, name, position=position) for name, position in [("d", 9), ("a", -3), ("b", 2), ("c", 2)]}
    order = [made[name].pk for name in "abcd"]
    neighbours = [items_admin.neighbours(made[name]) for name in "abcd"]
    assert neighbours == list(zip([None, *order[:-1]], [*order[1:], None], strict=True))
    page = superuser().get(url("pubsubitem", "change", made["b"].pk)).content.decode()
    assert re.search(rf'href="{url("pubsubitem", "change", made["a"].pk)}"[^>]*rel="prev"', page)
    assert re.search(rf'href="{url("pubsubitem", "change", made["c"].pk)}"[^>]*rel="next"', page)
    assert url("pubsubitem", "history", made["b"].pk) not in page


@pytest.mark.both_databases
def test_previous_and_next_come_from_an_index(django_assert_num_queries: Callable[..., Any]) -> None:
    made = PubsubItem.objects.filter(node=node(account(), items=5))[2]
    with django_assert_num_queries(2) as queries:
        items_admin.neighbours(made)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:  # with so few rows it would sort even with an index
            for way in ("seqscan", "bitmapscan", "sort"):
                cursor.execute(f"SET LOCAL enable_{way} = off")
    for query in queries.captured_queries:
        with connection.cursor() as cursor:
            explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
            cursor.execute(explain + query["sql"])
            plan = str(cursor.fetchall())
        assert "pubsubcache_item_position" in plan
        assert "TEMP B-TREE" not in plan


@pytest.mark.both_databases
@pytest.mark.parametrize("name", ["microblog.reply", "calendar-events", "microblog"])
def test_a_page_takes_few_queries(name: str, django_assert_max_num_queries: Callable[..., Any]) -> None:
    made = kept(name)
    node(made.node.account, COMMENTS, service="pubsub.garden.example", items=20, analyser="microblog")
    client = person("view_pubsubitem")
    with django_assert_max_num_queries(12):
        assert client.get(url("pubsubitem", "change", made.pk)).status_code == 200


def test_an_event_is_saved_to_a_calendar() -> None:
    made = kept("calendar-events")
    client = person("view_pubsubitem")
    address = url("pubsubitem", "calendar", made.pk)
    assert address in client.get(url("pubsubitem", "change", made.pk)).content.decode()
    response = client.get(address)
    assert "SUMMARY:Plant fair\r\n" in response.content.decode()
    assert response["Content-Type"] == "text/calendar; charset=utf-8"
    assert response["Content-Disposition"] == f'attachment; filename="item-{made.pk}.ics"'
    assert client.get(url("pubsubitem", "calendar", item(made.node, "none").pk)).status_code == 404
    assert person("view_pubsubnode").get(address).status_code == 403


def test_json_is_downloaded_whole() -> None:
    parsed = {"title": "日本", "text": "x" * (display.MAX_SHOWN * 2)}
    made = item(node(account()), parsed=parsed)
    response = person("view_pubsubitem").get(url("pubsubitem", "json", made.pk))
    assert json.loads(response.content) == parsed
    assert response["Content-Type"] == "application/json; charset=utf-8"
    assert response["Content-Disposition"] == f'attachment; filename="item-{made.pk}.json"'
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response["Content-Security-Policy"]


def test_download_of_json_requires_permission_and_parsed_data() -> None:
    made = item(node(account()))
    assert person("view_pubsubnode").get(url("pubsubitem", "json", made.pk)).status_code == 403
    assert person("view_pubsubitem").get(url("pubsubitem", "json", made.pk)).status_code == 404
    assert person("view_pubsubitem").get(url("pubsubitem", "json", 0)).status_code == 404
