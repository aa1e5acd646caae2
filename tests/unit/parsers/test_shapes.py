"""Tests of shapes: what a parser does not read is returned, and nothing else."""

from typing import Any
from xml.etree.ElementTree import Element, SubElement, fromstring

import pytest

from pubsubcache.parsers import ParseContext, generic
from pubsubcache.parsers.elements import MAX_ELEMENTS
from pubsubcache.parsers.schema import Key, Schema, described, one_of, reads, schemas_of
from pubsubcache.parsers.shapes import ANY, DATE, INTEGER, LANG, LINK, WORDS, Shape, left_out_of, rest_of

SPACE = "urn:example:recipe"
SECRET = "Secrets stay with the service."
RECIPE = Shape(
    "recipe",
    SPACE,
    attributes={"minutes": INTEGER, LANG: WORDS},
    children=(
        Shape("title", text=WORDS, once=True),
        Shape("step", text=WORDS, attributes={"at": DATE, "href": LINK}),
        Shape("password", left_out=SECRET),
        Shape("pin", text=WORDS.omitted(SECRET), attributes={"by": WORDS.omitted(SECRET)}),
        Shape("notes", whole=True),
        Shape("cook", "urn:example:people", children=(Shape(ANY, text=WORDS),)),
    ),
)
CONTEXT = ParseContext(service="alice@example.org", node="recipes")


def item_with(payload: str, space: str = SPACE) -> Element:
    return fromstring(f"<item id='1' publisher='a@example.org'><recipe xmlns='{space}'>{payload}</recipe></item>")


def rest(payload: str) -> list[dict[str, Any]]:
    found = rest_of(item_with(payload), (RECIPE,))
    assert found["rest_truncated"] is False
    return list(found["rest"])


def entry(path: str, name: str, space: str = SPACE, **changes: Any) -> dict[str, Any]:
    return {
        "path": path,
        "namespace": space,
        "name": name,
        "attributes": {},
        "text": None,
        "children": [],
        **changes,
    }


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "<title>Toast</title><step at='2026-01-31' href='https://example.org/'>Cut</step><step>Eat</step>",
        "<password with='anything'>1234<b/></password><pin by='me'>1234</pin>",
        "<notes a='1'><b>bold</b> text</notes>",
        "<cook xmlns='urn:example:people'><name>Chip</name><phone>1</phone></cook>",
        "  <title/>\n  ",
    ],
)
def test_nothing_is_left_of_what_is_read_or_left_out(payload: str) -> None:
    assert rest(payload) == []


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        pytest.param("<wine/>", [entry("recipe", "wine")], id="unknown element"),
        pytest.param("<title a='b'>x</title>", [entry("recipe", "title", attributes={"a": "b"})], id="attribute"),
        pytest.param("<step at='soon'>x</step>", [entry("recipe", "step", attributes={"at": "soon"})], id="no date"),
        pytest.param(
            "<step href='javascript:a()'/>", [entry("recipe", "step", attributes={"href": "javascript:a()"})], id="link"
        ),
        pytest.param("<title>1</title><title>2</title>", [entry("recipe", "title", text="2")], id="second"),
        pytest.param("stray <title/>words", [entry("", "recipe", text="stray words")], id="text"),
        pytest.param(
            "<title>a<i n='1'>b</i></title>", [entry("recipe/title", "i", attributes={"n": "1"}, text="b")], id="inner"
        ),
        pytest.param("<title xmlns='urn:x'/>", [entry("recipe", "title", "urn:x")], id="another namespace"),
        pytest.param(
            "<x><y><z>deep</z></y></x>",
            [
                entry(
                    "recipe",
                    "x",
                    children=[
                        {
                            **{key: value for key, value in entry("", "y").items() if key != "path"},
                            "children": [
                                {key: value for key, value in entry("", "z", text="deep").items() if key != "path"}
                            ],
                        }
                    ],
                )
            ],
            id="tree",
        ),
    ],
)
def test_what_is_not_read_is_returned_with_its_path(payload: str, expected: list[dict[str, Any]]) -> None:
    assert rest(payload) == expected


def test_other_payloads_and_attributes_of_the_item_are_returned() -> None:
    item = item_with("<title>x</title>")
    item.set("seal", "wax")
    SubElement(item, "{urn:x}more")
    found = rest_of(item, (RECIPE,))["rest"]
    assert found == [entry("", "item", "", attributes={"seal": "wax"}), entry("", "more", "urn:x")]


def test_a_language_without_a_place_of_its_own_is_returned() -> None:
    [found] = rest("<title xml:lang='en'>x</title>")
    assert found["attributes"] == {"{http://www.w3.org/XML/1998/namespace}lang": "en"}


def test_elements_beyond_the_bound_are_returned_and_bounded_too() -> None:
    found = rest_of(item_with("<step/>" * (MAX_ELEMENTS + 2)), (RECIPE,))
    assert len(found["rest"]) == 2
    assert not found["rest_truncated"]
    found = rest_of(item_with("<wine/>" * (generic.MAX_NODES + 1)), (RECIPE,))
    assert len(found["rest"]) == generic.MAX_NODES
    assert found["rest_truncated"]


def test_omissions_are_listed_with_their_paths() -> None:
    assert SCHEMA.omissions() == [("recipe/password", SECRET), ("recipe/pin", SECRET), ("recipe/pin@by", SECRET)]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ("<title>x</title><pin/><pin by=' '> </pin><wine by='me'>1</wine>", []),
        ("<password/>", [("recipe/password", SECRET)]),
        ("<pin>1</pin><pin>2</pin>", [("recipe/pin", SECRET)]),
        ("<pin by='me'/>", [("recipe/pin@by", SECRET)]),
        ("<pin><b>1</b></pin>", [("recipe/pin", SECRET)]),
    ],
)
def test_omissions_of_an_item_are_those_that_occur_in_it(payload: str, expected: list[tuple[str, str]]) -> None:
    assert left_out_of(item_with(payload), (RECIPE,)) == expected


SCHEMA = Schema(title="Recipes", about="Food.", payloads=(RECIPE,), keys=(Key("title", "text or null", "Its name."),))
DRINKS = Schema(title="Drinks", about="Tea.", payloads=(Shape("drink", SPACE),), keys=())


@reads(SCHEMA)
def parse_recipe(item: Element, context: ParseContext) -> dict[str, Any]:
    return {"title": item.findtext(f"{{{SPACE}}}recipe/{{{SPACE}}}title")}


@reads(DRINKS)
def parse_drink(item: Element, context: ParseContext) -> dict[str, Any]:
    return {"drink": True}


@one_of(parse_drink, parse_recipe)
def parse_any_food(item: Element, context: ParseContext) -> dict[str, Any]:
    return (parse_drink if item.find(f"{{{SPACE}}}drink") is not None else parse_recipe)(item, context)


def test_a_parser_returns_the_rest_and_knows_its_schema() -> None:
    item = item_with("<title>Toast</title><wine/>")
    assert parse_recipe(item, CONTEXT) == {
        "title": "Toast",
        "rest": [entry("recipe", "wine")],
        "rest_truncated": False,
    }
    assert schemas_of(parse_recipe) == (SCHEMA,)
    assert schemas_of(parse_any_food) == (DRINKS, SCHEMA)
    assert schemas_of(len) == ()
    assert SCHEMA.fits(item[0])
    assert not DRINKS.fits(item[0])


@pytest.mark.parametrize("space", ["", "http://jabber.org/protocol/pubsub", "http://jabber.org/protocol/pubsub#event"])
def test_a_payload_without_a_namespace_of_its_own_gets_that_of_the_schema(space: str) -> None:
    item = item_with("<title>Toast</title><step>1</step><step>2</step><wine/>", space)
    for parse in (parse_recipe, parse_any_food):
        assert parse(item, CONTEXT) == {
            "title": "Toast",
            "rest": [entry("recipe", "wine")],
            "rest_truncated": False,
        }
    assert item[0].tag.endswith("recipe")
    assert SPACE not in item[0].tag


def test_encrypted_items_are_only_described() -> None:
    item = fromstring("<item><encrypted xmlns='urn:xmpp:openpgp:pubsub:0' key='k'>abc</encrypted></item>")
    assert parse_recipe(item, CONTEXT)["encrypted"] is True


def test_a_parser_is_described_for_each_item_by_its_schema() -> None:
    omitted = [("recipe/password", SECRET)]
    assert described(parse_any_food, item_with("<password/>")) == (SCHEMA, omitted)
    assert described(parse_any_food, item_with("<password/>", "")) == (SCHEMA, omitted)
    assert described(parse_any_food, fromstring(f"<item><drink xmlns='{SPACE}'/></item>")) == (DRINKS, [])
    assert described(parse_any_food, fromstring("<item><other/></item>")) == (None, [])
    assert described(parse_any_food, fromstring("<item/>")) == (None, [])
    assert described(len, item_with("")) == (None, [])
    encrypted = fromstring("<item><encrypted xmlns='urn:xmpp:openpgp:pubsub:0'>abc</encrypted></item>")
    assert described(parse_any_food, encrypted)[0] not in (SCHEMA, DRINKS)
