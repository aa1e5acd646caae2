"""Test that each recipe of docs/queries.md works on both databases."""

import ast
from typing import Any

import pytest
from django.db.models import QuerySet

from pubsubcache.lookups import snippets
from pubsubcache.models import Account, PubsubItem, PubsubNode
from tests.unit.test_docs import blocks, page

pytestmark = pytest.mark.both_databases

ITEMS: dict[str, tuple[dict[str, Any], str]] = {
    "lights": (
        {
            "title": "Winter lights",
            "author_jid": "bob@example.org",
            "published": "2026-01-15T12:00:00Z",
            "tags": ["winter", "lights", "night"],
            "reply": None,
        },
        "Winter lights. The northern lights of this winter",
    ),
    "snow": (
        {"title": "Snow", "published": "2025-12-31T12:00:00Z", "tags": ["winter"]},
        "Winter snow under northern lights",
    ),
    "reply": (
        {
            "title": None,
            "published": "2026-02-01T00:00:00Z",
            "tags": [],
            "reply": {"service": "bob@example.org", "node": "urn:xmpp:microblog:0", "item": "lights", "ref": "xmpp:"},
            "comments": [{"service": "eve@example.org"}, {"service": "bob@example.org", "node": "c"}],
        },
        "How nice",
    ),
    "party": ({"title": "Party", "start": "2026-03-01T18:00:00Z"}, "A party"),
    "blog": ({"title": "Bob's blog", "feed": True, "tags": []}, "A blog"),
    "past": ({"title": "Past", "start": "2026-01-01T18:00:00Z"}, "It was nice"),
}

POSTS = ["blog", "broken", "lights", "party", "past", "reply", "snow"]
FOUND = [
    ["lights"],  # the author's JID
    ["lights"],  # January
    ["lights"],  # a part of the title
    ["reply"],  # replies
    ["lights", "snow"],  # the first tag
    [name for name in POSTS if name != "blog"],  # posts only
    POSTS,  # in order of their dates
    POSTS,  # by author
    ["broken"],  # not parsed
    ["chard"],  # recipes that take little time
    ["lights"],  # full text
    ["lights"],  # parsed_title
    ["lights"],  # parsed_author_jid
    ["lights"],  # the dates of January
    ["reply", "lights", "snow"],  # the newest
    ["party"],  # coming events
    ["lights"],  # with both tags
    ["lights", "snow"],  # a list with this element
    ["reply"],
    ["reply"],
    ["lights"],
]


@pytest.fixture(autouse=True)
def _items(db: None) -> None:
    account = Account.objects.create(jid="alice@example.org")
    node = PubsubNode.objects.create(account=account, service="s", name="n", type="blog")
    for name, (parsed, text) in ITEMS.items():
        PubsubItem.objects.create(node=node, name=name, data="<item/>", parsed=parsed, text=text)
    PubsubItem.objects.create(node=node, name="broken", data="<item/>", parse_error="No entry.")
    recipes = PubsubNode.objects.create(account=account, service="s", name="r", type="recipe")
    PubsubItem.objects.create(node=recipes, name="chard", data="<item/>", parsed={"minutes": 25})


def recipes() -> list[list[str]]:
    """Return the items that each expression and loop in the code of the page finds."""
    found: list[list[str]] = []
    for code in blocks(page("docs/queries.md"), "python"):
        names: dict[str, Any] = {"print": lambda *shown: None}
        for statement in ast.parse(code).body:
            source = ast.unparse(statement)
            if isinstance(statement, ast.Expr):
                found.append(names_of(eval(source, names)))
            else:
                exec(source, names)
                if isinstance(statement, ast.For):
                    found.append(names_of(names["found"]))
    return found


def names_of(items: QuerySet[PubsubItem]) -> list[str]:
    return list(items.values_list("name", flat=True))


def test_recipes() -> None:
    newest = FOUND.index(["reply", "lights", "snow"])  # the only recipe with a defined order
    assert [names if place == newest else sorted(names) for place, names in enumerate(recipes())] == FOUND


def test_snippet_of_the_page() -> None:
    item = PubsubItem.objects.full_text('winter "northern lights" -snow').with_snippets().get()
    assert snippets.marked(item.snippet, "[", "]") == "[Winter] lights. The [northern lights] of this [winter]"  # type: ignore[attr-defined]


def test_queries_of_the_readme_find_something() -> None:
    (code,) = [code for code in blocks(page("README.md"), "python") if "posts.full_text" in code]
    names: dict[str, Any] = {}
    found = []
    for statement in ast.parse(code).body:
        source = ast.unparse(statement)
        if isinstance(statement, ast.Expr):
            found.append(len(list(eval(source, names))))
        else:
            exec(source, names)
    assert len(found) == 4
    assert all(found)
