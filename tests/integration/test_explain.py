"""`pubsub_analysers explain`: what it says of items in the cache and in files. Items of services are in acceptance."""

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from django.core.management import CommandError
from django.test import override_settings

from pubsubcache.analysers import Analyser, Analysis, registry
from pubsubcache.exceptions import ParseError
from pubsubcache.models import PubsubItem, PubsubNode
from pubsubcache.parsers import ParseContext
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import WORDS, Shape
from pubsubcache.store.nodes import NO_ANALYSER
from tests.integration.test_commands import ALICE, ATOM, call, call_json, exit_code, item_xml, make_account, make_node
from tests.servers.manage import manage

pytestmark = pytest.mark.usefixtures("live_database")

SPACE = "urn:example:recipe"
SECRET = "The service keeps the secret."
RECIPES = Schema(
    title="Recipes",
    about="Food.",
    payloads=(
        Shape("recipe", SPACE, children=(Shape("title", text=WORDS), Shape("trick", text=WORDS.omitted(SECRET)))),
    ),
    keys=(Key("title", "text or null", "Its name."),),
)
RECIPE = f"<item id='toast'><recipe xmlns='{SPACE}'>%s</recipe></item>"
TOAST = RECIPE % "<title>Toast</title><trick>butter</trick><wine year='2020'>red</wine>"
KEYS = [
    *("service", "node", "item", "origin", "stored", "analyser", "matched_by", "matched", "type", "subtype"),
    *("to_sync", "why", "parsed_by", "parser", "schema", "parsed", "error", "left_out"),
]


@reads(RECIPES)
def parse_recipe(item: Element, context: ParseContext) -> dict[str, Any]:
    title = item.findtext(f"{{{SPACE}}}recipe/{{{SPACE}}}title")
    if title == "burnt":
        raise ParseError("The toast is burnt.")
    return {"title": title, "cook": context.publisher}


def decide(analysis: Analysis) -> None:
    if analysis.node == "broken":
        raise RuntimeError("out of bread")
    analysis.subtype = "dessert" if analysis.node.endswith("/dessert") else ""


@pytest.fixture(autouse=True)
def _recipes() -> Iterator[None]:
    recipes = Analyser(
        name="recipes", type="recipe", node="recipes", namespace=SPACE, to_sync=True,
        parser=parse_recipe, match_cb=decide, why="People cook by them.",
    )  # fmt: skip
    with registry.temporarily(recipes):
        yield


class Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`given(xml, ...)` explains XML on stdin."""

    def explain(xml: str | bytes, *options: str) -> Any:
        monkeypatch.setattr(sys, "stdin", Stdin(xml if isinstance(xml, bytes) else xml.encode()))
        return call_json("pubsub_analysers", "explain", "-", *options)

    return explain


def test_an_item_on_stdin_is_explained_by_its_namespace(given: Any) -> None:
    found = given(TOAST)
    assert list(found) == KEYS
    assert found == {
        "service": "",
        "node": "",
        "item": "toast",
        "origin": "file",
        "stored": None,
        "analyser": "recipes",
        "matched_by": "namespace",
        "matched": SPACE,
        "type": "recipe",
        "subtype": "",
        "to_sync": True,
        "why": "People cook by them.",
        "parsed_by": "recipes",
        "parser": f"{__name__}.parse_recipe",
        "schema": "Recipes",
        "parsed": {
            "title": "Toast",
            "cook": None,
            "rest": [
                {
                    "path": "recipe",
                    "namespace": SPACE,
                    "name": "wine",
                    "attributes": {"year": "2020"},
                    "text": "red",
                    "children": [],
                }
            ],
            "rest_truncated": False,
        },
        "error": None,
        "left_out": [{"path": "recipe/trick", "reason": SECRET}],
    }
    assert not PubsubNode.objects.exists()


def test_the_context_of_an_item_on_stdin_can_be_given(given: Any) -> None:
    publisher = TOAST.replace("<item ", "<item publisher='bob@example.org/home' ")
    found = given(publisher, "-n", "recipes/dessert", "-s", "Alice@Example.org")
    assert (found["service"], found["node"]) == ("alice@example.org", "recipes/dessert")
    assert (found["matched_by"], found["matched"], found["subtype"]) == ("node", "recipes", "dessert")
    assert found["parsed"]["cook"] == "bob@example.org/home"


def test_an_item_that_no_analyser_matches_is_explained(given: Any) -> None:
    found = given("<item id='1'><other xmlns='urn:example:other'/></item>", "-n", "elsewhere")
    assert {**found, "service": 0, "node": 0, "item": 0, "origin": 0} == {
        **dict.fromkeys(KEYS),
        **dict.fromkeys(("service", "node", "item", "origin"), 0),
        "left_out": [],
    }


@pytest.mark.parametrize("node", ["urn:xmpp:microblog:0", "elsewhere"])
def test_an_item_of_another_kind_is_explained_by_the_parser_that_reads_it(given: Any, node: str) -> None:
    happy = "<item id='1'><mood xmlns='http://jabber.org/protocol/mood'><happy/></mood></item>"
    found = given(happy, "-n", node)
    assert found["analyser"] == ("microblog" if "microblog" in node else None)
    assert (found["parser"], found["schema"]) == ("pubsubcache.parsers.mood.parse_mood", "Moods")
    assert found["parsed"]["mood"] == "happy"


@pytest.mark.parametrize("namespace", ["http://jabber.org/protocol/pubsub", "http://jabber.org/protocol/pubsub#event"])
def test_items_as_services_send_them_are_accepted(given: Any, namespace: str) -> None:
    found = given("\ufeff<?xml version='1.0'?>" + TOAST.replace("<item ", f"<item xmlns='{namespace}' "))
    assert found["parsed"]["title"] == "Toast"


def test_failures_of_functions_are_explained(given: Any) -> None:
    found = given(RECIPE % "<title>burnt</title>")
    assert (found["analyser"], found["parsed"], found["error"]) == ("recipes", None, "The toast is burnt.")
    with registry.temporarily(
        Analyser(name="broken", type="x", node="broken", match_cb=decide), *registry.all(), replace=True
    ):
        found = given(TOAST, "-n", "broken")
    assert found["analyser"] is None
    assert found["error"] == "The analysis failed: RuntimeError: out of bread"


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (b"", "Not well-formed XML: no element found: line 1, column 0."),
        (b"<item", "Not well-formed XML: unclosed token: line 1, column 0."),
        (b"<item><a></b></item>", "Not well-formed XML: mismatched tag: line 1, column 11."),
        (b"no XML", "Not well-formed XML: syntax error: line 1, column 0."),
        (b"\xff\xfe", "The XML is not encoded in UTF-8."),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><item>&b;</item>", "XML with a document type definition is refused."),
        (b"<entry/>", "The XML must be an <item/>, got <entry/> in the namespace ''."),
        (b"<item xmlns='urn:x'/>", "The XML must be an <item/>, got <item/> in the namespace 'urn:x'."),
        (b"<item id='" + b"x" * 3000 + b"'/>", "The cache does not keep this item: The id of the item is longer"),
        (b"<item>" + b"<a>" * 6000 + b"</a>" * 6000 + b"</item>", "The cache does not keep this item: The item is ne"),
        (b"<item>" + b"<a/>" * 20_000 + b"</item>", "The XML takes more than 1000000 bytes."),
        (b"<item" + b" a=''" * 20_000 + b"/>", "The XML takes more than 1000000 bytes."),
        (b"<item>" + b"x" * 1_000_000, "The XML takes more than 1000000 bytes."),
    ],
)
def test_bad_xml_ends_with_one_sentence(given: Any, xml: bytes, message: str) -> None:
    with override_settings(PUBSUBCACHE_MAX_STANZA_SIZE=1_000_000), pytest.raises(CommandError) as failed:
        given(xml)
    assert failed.value.returncode == 1
    assert str(failed.value).startswith(message)
    assert "\n" not in str(failed.value)


def test_input_is_read_only_as_far_as_it_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def read(self, size: int = -1) -> bytes:
            assert 0 < size <= 1001, "the input has no end"
            self.taken += size
            return b"x" * size

    stdin = Stdin(b"")
    stdin.buffer = Endless()  # type: ignore[assignment]
    monkeypatch.setattr(sys, "stdin", stdin)
    with override_settings(PUBSUBCACHE_MAX_STANZA_SIZE=1000):
        assert exit_code("pubsub_analysers", "explain", "-") == (1, "The XML takes more than 1000 bytes.")


def test_a_file_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "item.xml"
    file.write_text(TOAST)
    assert call_json("pubsub_analysers", "explain", str(file))["parsed"]["title"] == "Toast"
    code, message = exit_code("pubsub_analysers", "explain", str(tmp_path / "missing.xml"))
    assert (code, message.endswith("missing.xml cannot be read: No such file or directory.")) == (1, True)


def test_options_that_contradict_each_other_are_refused() -> None:
    make_account()
    for options in (("-i", "x"), ("-a", ALICE), ("--no-cache",), ("--cache-only",)):
        assert exit_code("pubsub_analysers", "explain", "-", *options)[0] == 1
    assert exit_code("pubsub_analysers", "explain")[0] == 1
    assert exit_code("pubsub_analysers", "--sync", "recipes", "explain", "-n", "x")[0] == 1
    assert exit_code("pubsub_analysers", "explain", "-n", "x", "--no-cache", "--cache-only")[0] == 1
    assert not PubsubNode.objects.exists()


def recipes_in_cache(*xml: str, **fields: Any) -> PubsubNode:
    node = make_node(make_account(), "recipes", analyser="recipes", type="recipe", **fields)
    for place, data in enumerate(xml):
        PubsubItem.objects.create(node=node, name=f"recipe-{place}", data=data, publisher=ALICE, position=place)
    return node


@pytest.mark.both_databases
def test_the_newest_item_of_a_cached_node_is_explained() -> None:
    recipes_in_cache(RECIPE % "<title>Old</title>", RECIPE % "<title>New</title>")
    found = call_json("pubsub_analysers", "explain", "-n", "recipes")
    assert (found["service"], found["item"], found["origin"]) == (ALICE, "recipe-1", "cache")
    assert (found["parsed"]["title"], found["parsed"]["cook"]) == ("New", ALICE)
    assert found["stored"] == {
        "analyser": "recipes",
        "type": "recipe",
        "subtype": "",
        "policy": "auto",
        "state": "COMPLETED",
        "reason": None,
    }
    found = call_json("pubsub_analysers", "explain", "-a", ALICE, "-s", ALICE, "-n", "recipes", "-i", "recipe-0")
    assert (found["item"], found["parsed"]["title"]) == ("recipe-0", "Old")


def test_an_item_of_another_kind_than_its_node_is_explained() -> None:
    recipes_in_cache(TOAST, TOAST, item_xml("recipe-2", "Lights"), TOAST)
    PubsubNode.objects.update(name="elsewhere")
    found = call_json("pubsub_analysers", "explain", "-n", "elsewhere", "-i", "recipe-2")
    assert (found["analyser"], found["matched_by"], found["matched"]) == ("recipes", "namespace", SPACE)
    assert (found["parsed_by"], found["parser"]) == ("microblog", "pubsubcache.parsers.microblog.parse")
    assert (found["schema"], found["parsed"]["title"]) == ("Blog posts and comments", "Lights")
    out, _ = call("pubsub_analysers", "explain", "-n", "elsewhere", "-i", "recipe-2")
    assert "parser:    pubsubcache.parsers.microblog.parse, that of the analyser microblog" in out.splitlines()


def test_the_stored_decision_on_a_node_is_told_beside_that_of_now() -> None:
    recipes_in_cache(TOAST, sync_state="NO_SYNC", analysis_reason=NO_ANALYSER)
    PubsubNode.objects.update(analyser="", type="")
    found = call_json("pubsub_analysers", "explain", "-n", "recipes")
    assert (found["analyser"], found["stored"]["analyser"]) == ("recipes", "")
    assert (found["stored"]["state"], found["stored"]["reason"]) == ("NO_SYNC", NO_ANALYSER)


def test_explaining_changes_nothing() -> None:
    node = recipes_in_cache(TOAST, last_read="2020-01-01T00:00:00Z")
    before = (list(PubsubNode.objects.values()), list(PubsubItem.objects.values()))
    call("pubsub_analysers", "explain", "-n", node.name)
    assert (list(PubsubNode.objects.values()), list(PubsubItem.objects.values())) == before


def test_what_the_cache_lacks_is_not_asked_for_with_cache_only() -> None:
    recipes_in_cache(TOAST)
    for options in (("-n", "recipes", "-i", "other"), ("-n", "elsewhere"), ("-n", "recipes", "--no-cache")):
        code, message = exit_code("pubsub_analysers", "explain", *options, "--cache-only", "-a", ALICE)
        assert code == (1 if "--no-cache" in options else 3), message


def test_a_service_that_cannot_be_reached_ends_with_its_code() -> None:
    make_node(make_account(host="127.0.0.1", port=1), "empty")
    assert exit_code("pubsub_analysers", "explain", "-n", "empty")[0] == 5
    assert exit_code("pubsub_analysers", "explain", "-n", "elsewhere")[0] == 5


def test_people_read_an_explanation_in_words() -> None:
    recipes_in_cache(TOAST.replace("red", "\u202ered&#x9b;").replace("<trick>", "<trick>\u202e"))
    out, _ = call("pubsub_analysers", "explain", "-n", "recipes")
    for line in (
        f"service:   {ALICE}",
        "item:      recipe-0, from the cache",
        "analyser:  recipes: the name of the node starts with recipes",
        "nodes:     cached. People cook by them.",
        "schema:    Recipes",
        "in cache:  analyser recipes, policy auto, state COMPLETED.",
        "- recipe/wine: attribute year, text",
        f"- recipe/trick: {SECRET}",
        '      "text": "\\u202ered\\u009b",',
    ):
        assert line in out.splitlines()
    assert {one for one in out if not one.isprintable()} == {"\n"}


def test_the_list_of_analysers_stays_as_it_was() -> None:
    assert [row["name"] for row in call_json("pubsub_analysers")] == [analyser.name for analyser in registry.all()]
    assert "recipes: its nodes are not synchronised" in call("pubsub_analysers", "--no-sync", "recipes")[1]


def test_the_command_reads_stdin_as_a_process() -> None:
    blog = item_xml("1", "Lights")
    ended = manage("pubsub_analysers", "explain", "-", "-O", "json", stdin=blog)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["matched"] == ATOM
    ended = manage("pubsub_analysers", "explain", "-", stdin="<item>")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "CommandError: Not well-formed XML: no element found: line 1, column 6.\n"
