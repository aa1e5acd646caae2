"""Test the page of the admin to try analysers, and where the page of analysers appears."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from pubsubcache.admin.trying import MAX_PASTED
from pubsubcache.analysers import Analyser, Analysis, registry
from pubsubcache.models import PubsubItem, PubsubNode
from pubsubcache.store import choose_analyser
from tests.admin_data import SCRIPT, account, item, logged_in, node, person, staff, superuser, url
from tests.examples import EXAMPLES

pytestmark = pytest.mark.usefixtures("db")

TRY = "/admin/pubsubcache/analyserchoice/try/"
SPACE = "urn:example:recipe"
RECIPE = f"<recipe xmlns='{SPACE}'><title>%s</title></recipe>"


def parse_recipe(element: Any, context: Any) -> dict[str, Any]:
    title = element.findtext(f".//{{{SPACE}}}title")
    if title == "burnt":
        raise ValueError(f"The toast is burnt. {SCRIPT}")
    return {"title": title, "cook": context.publisher}


def explode(analysis: Analysis) -> None:
    raise RuntimeError("out of bread")


@pytest.fixture(autouse=True)
def _recipes() -> Iterator[None]:
    recipes = Analyser(
        name="recipes", type="recipe", node="recipes", namespace=SPACE, to_sync=True, parser=parse_recipe
    )
    broken = Analyser(name="broken", type="x", node="broken", match_cb=explode)
    with registry.temporarily(broken, recipes):
        yield


def paste(xml: str, client: Client | None = None, **fields: str) -> Any:
    client = client or Client()
    if not client.session.keys():
        client.force_login(User.objects.get_or_create(username="root", is_staff=True, is_superuser=True)[0])
    return client.post(TRY, {"xml": xml, **fields})


def facts(answer: Any) -> dict[str, str]:
    """Return the explanation as texts by label."""
    assert answer.status_code == 200
    assert answer.context["shown"] is not None, answer.context["form"].errors
    return {label: str(value) for label, value in answer.context["shown"]["facts"]}


@pytest.mark.parametrize("wrapped", ["%s", "<item id='1'>%s</item>", "<?xml version='1.0'?>\n<item>%s</item>"])
def test_a_pasted_payload_or_item_is_explained_and_not_stored(wrapped: str) -> None:
    answer = paste(wrapped % RECIPE % "Toast")
    found = facts(answer)
    assert found["Analyser"] == f"recipes, because the payloads are in the namespace {SPACE}."
    assert found["Synchronised"] == "Yes, as the analyser is registered."
    assert found["Parser"] == f"{__name__}.parse_recipe"
    assert "&quot;title&quot;: &quot;Toast&quot;" in answer.context["shown"]["json"]
    tried = {name: reason for _number, name, reason in answer.context["shown"]["tried"]}
    assert tried["microblog"].startswith("the name of the node does not begin with urn:xmpp:microblog:0; the payloads")
    assert "recipes" not in tried
    assert not PubsubNode.objects.exists()


def test_node_name_and_service_count() -> None:
    answer = paste("<item publisher='bob@example.org/x'/>", node_name="recipes/dessert", service="Pubsub.Example.org")
    found = facts(answer)
    assert found["Node"] == "pubsub.example.org recipes/dessert"
    assert found["Analyser"] == "recipes, because the name of the node begins with recipes."
    assert "bob@example.org" in answer.context["shown"]["json"]


def test_failures_are_explained_and_escaped() -> None:
    answer = paste(RECIPE % "burnt")
    assert "The toast is burnt." in facts(answer)["Error"]
    assert SCRIPT not in answer.content.decode()
    assert "out of bread" in facts(paste(RECIPE % "x", node_name="broken"))["Error"]
    mood = "<mood xmlns='http://jabber.org/protocol/mood'><happy/></mood>"
    found = facts(paste(mood, node_name="urn:xmpp:microblog:0"))
    assert found["Parser"].endswith("because the payload is of another kind than those of microblog.")
    assert facts(paste("<x xmlns='urn:none'/>"))["Analyser"].startswith("None of the ")


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("no XML", "Not well-formed XML: syntax error"),
        ("<item><a></b></item>", "Not well-formed XML: mismatched tag"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><item>&b;</item>", "XML with a document type definition is refused."),
        ("<item id='" + "x" * 3000 + "'/>", "The cache does not keep this item"),
        ("<a>" * 6000 + "</a>" * 6000, "The cache does not keep this item: The item is nested"),
        ("x" * (MAX_PASTED + 1), f"at most {MAX_PASTED} characters"),
        ("<a>\0</a>", "Null characters are not allowed."),
        ("", "Paste XML, or choose a node of the cache."),
    ],
)
def test_bad_xml_is_an_error_of_the_form(xml: str, message: str) -> None:
    answer = paste(xml)
    assert answer.status_code == 200
    assert answer.context["shown"] is None
    assert message in " ".join(text for texts in answer.context["form"].errors.values() for text in texts)


@pytest.mark.parametrize(
    "fields",
    [
        {"service": "@@"},
        {"node": "x"},
        {"node": "9" * 30},
        {"node": "1", "xml": "<a/>"},
        {"node_name": "x" * 5000},
        {"item_id": "x"},
    ],
)
def test_bad_fields_are_errors_of_the_form(fields: dict[str, str]) -> None:
    answer = paste(fields.get("xml", ""), **{name: value for name, value in fields.items() if name != "xml"})
    assert answer.status_code == 200
    assert answer.context["form"].errors


def test_an_example_is_parsed_as_in_its_node() -> None:
    example = next(one for one in EXAMPLES if one.name == "calendar-events")
    answer = paste(example.text, node_name="urn:xmpp:calendar-events:0")
    assert facts(answer)["Schema"]
    assert "Plant fair" in answer.context["shown"]["json"]


@pytest.mark.both_databases
def test_pages_of_nodes_and_items_link_to_their_explanation() -> None:
    made = node(account(), "elsewhere", analyser="", policy="never")
    old = item(made, "old & first", data=f"<item id='old'>{RECIPE % 'Old'}</item>", position=1)
    item(made, "new", data=f"<item id='new'>{RECIPE % 'New'}</item>", position=2)
    client = superuser()
    before = (list(PubsubNode.objects.values()), list(PubsubItem.objects.values()))
    for page, title in ((url("pubsubnode", "change", made.pk), "New"), (url("pubsubitem", "change", old.pk), "Old")):
        links = [link for link in client.get(page).content.decode().split('href="') if link.startswith(TRY)]
        answer = client.get(links[0].split('"')[0].replace("&amp;", "&"))
        assert f"&quot;title&quot;: &quot;{title}&quot;" in answer.context["shown"]["json"]
    found = facts(answer)
    assert found["Synchronised"] == "No: the policy of the node is to never synchronise it."
    assert found["In the cache"].startswith("The cache has stored the analyser none.")
    assert (list(PubsubNode.objects.values()), list(PubsubItem.objects.values())) == before


def test_a_node_without_items_is_explained_by_its_name() -> None:
    made = node(account(), "recipes")
    assert facts(superuser().get(TRY, {"node": made.pk}))["Analyser"].startswith("recipes, because the name")
    assert "no item with this id" in superuser_page(made.pk, "gone")


def superuser_page(node_pk: int, item_id: str) -> str:
    client = Client()
    client.force_login(User.objects.get(username="root"))
    return str(client.get(TRY, {"node": node_pk, "item_id": item_id}).content.decode())


def test_nodes_of_others_are_neither_explained_nor_named() -> None:
    client = logged_in(staff("view_pubsubnode", "view_pubsubitem"))
    own = node(account(owner=User.objects.get()), "recipes/own")
    foreign = node(account("bob@example.org"), "recipes/secret")
    assert facts(client.get(TRY, {"node": own.pk}))
    page = client.get(TRY, {"node": foreign.pk})
    assert page.context["shown"] is None
    assert "secret" not in page.content.decode()
    assert "recipes/own" in client.get(TRY, {"node": own.pk}).content.decode()


def test_trying_requires_permission_to_view_items() -> None:
    for permissions in ((), ("view_pubsubnode",), ("view_pubsubitem",)):
        assert person(*permissions).get(TRY).status_code == 403
        assert person(*permissions).post(TRY, {"xml": "<a/>"}).status_code == 403
    assert Client().post(TRY, {"xml": "<a/>"}).status_code == 302
    page = person("view_pubsubnode").get(url("pubsubnode", "change", node(account()).pk)).content.decode()
    assert TRY not in page


def test_the_list_of_models_leads_to_the_analysers() -> None:
    page = reverse("admin:pubsubcache_analysers")
    link = f'<a href="{page}">Analysers</a>'
    assert link in person("view_pubsubnode").get(reverse("admin:index")).content.decode()
    assert page not in person("view_account").get(reverse("admin:index")).content.decode()


def test_only_rows_of_visible_accounts_count() -> None:
    client = logged_in(staff("view_pubsubnode"))
    foreign = node(account("bob@example.org"), "recipes/secret", analyser="recipes", items=2)
    item(foreign, "bad", parse_error="no")
    shown = {row["name"]: row["tally"] for row in client.get(reverse("admin:pubsubcache_analysers")).context["rows"]}
    assert (shown["recipes"].nodes, shown["recipes"].items, shown["recipes"].parse_errors) == ({}, 0, 0)


def test_the_page_of_analysers_makes_few_queries() -> None:
    owner = account()
    for number, name in enumerate(("recipes", "broken", "gone", "")):
        item(node(owner, f"node-{number}", analyser=name, items=2), "bad", parse_error="no")
        choose_analyser(name, True)
    client = superuser()
    with CaptureQueriesContext(connection) as queries:
        assert client.get(reverse("admin:pubsubcache_analysers")).status_code == 200
    assert len(queries) <= 12
