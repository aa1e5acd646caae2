"""Test items in the admin: shown completely and escaped, read-only, and listed without loading their payloads."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from pubsubcache.admin import items as items_admin
from pubsubcache.admin import paginator
from pubsubcache.models import PubsubItem
from tests.admin_data import SCRIPT, XML, account, item, node, person, superuser, url

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


def listed(client: Any, **query: Any) -> list[str]:
    response = client.get(url("pubsubitem", "changelist", **query))
    assert response.status_code == 200
    return [one.name for one in response.context["cl"].result_list]


def test_an_item_is_shown_as_xml_and_json() -> None:
    made = item(node(account()), parsed={"title": "Un été", "tags": ["a"]}, text="Un été")
    page = superuser().get(url("pubsubitem", "change", made.pk)).content.decode()
    assert "&lt;title&gt;Un été&lt;/title&gt;" in page
    assert "&quot;title&quot;: &quot;Un été&quot;" in page


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
    data = XML.replace("Un été", "x" * (items_admin.MAX_SHOWN * 3))
    made = item(node(account()), data=data, text="y" * (items_admin.MAX_SHOWN * 3))
    client = person("view_pubsubitem")
    page = client.get(url("pubsubitem", "change", made.pk)).content.decode()
    assert len(page) < items_admin.MAX_SHOWN * 2 + 50_000
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


def test_search_shows_the_best_first_with_highlighted_words() -> None:
    blog = node(account(), "blog")
    item(blog, "best", text=f"Harbour, harbour, harbour {SCRIPT}", parsed={"title": "Harbour"})
    item(blog, "other", text="A walk in the harbour, with lights", parsed={"title": "A walk"})
    item(blog, "harbour-pictures", text="Pictures")
    client = superuser()
    assert listed(client, q="harbour") == ["best", "other"]
    assert listed(client, q="harb* -lights") == ["best"]
    assert listed(client, q="harbour", node__id__exact=blog.pk, o="3") == ["best", "other"]
    assert listed(client, q="harbour", node__id__exact=blog.pk, o="-3") == ["other", "best"]
    assert listed(client, q="pictures") == ["harbour-pictures"]
    assert listed(client, q="our-pic") == ["harbour-pictures"]
    page = client.get(url("pubsubitem", "changelist", q="lights")).content.decode()
    assert "A walk in the harbour, with <mark>lights</mark>" in page
    page = client.get(url("pubsubitem", "changelist", q="harbour")).content.decode()
    assert "<mark>harbour</mark>" in page
    assert SCRIPT not in page
    assert "&lt;script&gt;" in page


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


@pytest.mark.parametrize("pk", ["x", "", "9" * 40, "0"])
def test_filter_by_an_unknown_node_causes_no_server_error(pk: str) -> None:
    item(node(account()))
    response = superuser().get(url("pubsubitem", "changelist", node__id__exact=pk), follow=True)
    assert response.status_code == 200


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
    assert shown.index("z") < shown.index("null")
    assert json.loads(shown[shown.index("{") : shown.rindex("}") + 1].replace("&quot;", '"')) == made.parsed


def test_empty_list_explains_what_to_do() -> None:
    assert "There are no items yet" in superuser().get(url("pubsubitem", "changelist")).content.decode()
