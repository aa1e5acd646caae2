"""Tests of shapes: what a parser does not read is returned, and nothing else."""

from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import Element, SubElement, fromstring

import pytest

from pubsubcache.parsers import ParseContext, conversion
from pubsubcache.parsers.elements import MAX_ELEMENTS
from pubsubcache.parsers.schema import Key, Schema, described, one_of, reads, schemas_of
from pubsubcache.parsers.shapes import (
    ANY,
    DATE,
    FULL_JID,
    INTEGER,
    JID,
    LANG,
    LINK,
    OTHER,
    WORDS,
    Shape,
    left_out_of,
    matches,
    rest_of,
)

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


def test_an_element_in_a_former_namespace_is_the_same_element() -> None:
    shape = Shape("recipe", SPACE, children=(Shape("title", text=WORDS, once=True, former=("urn:old",)),))
    item = item_with("<title>new</title><title xmlns='urn:old'>old</title><title xmlns='urn:other'>other</title>")
    assert rest_of(item, (shape,))["rest"] == [
        entry("recipe", "title", "urn:old", text="old"),
        entry("recipe", "title", "urn:other", text="other"),
    ]
    assert rest_of(item_with("<title xmlns='urn:old'>old</title>"), (shape,))["rest"] == []


def test_a_shape_can_depend_on_the_element() -> None:
    secret = Shape("step", when=lambda step: step.get("by") == "cook", left_out=SECRET)
    shape = Shape("recipe", SPACE, children=(secret, Shape("step", text=WORDS, attributes={"by": WORDS})))
    assert rest_of(item_with("<step by='cook' at='noon'>1</step><step by='me'>2</step>"), (shape,))["rest"] == []
    assert rest_of(item_with("<step by='me' at='noon'>1</step>"), (shape,))["rest"] == [
        entry("recipe", "step", attributes={"at": "noon"})
    ]
    any_secret = replace(secret, name=ANY, namespace=ANY)
    shape = Shape("recipe", SPACE, children=(any_secret, Shape(ANY, ANY, text=WORDS)))
    assert rest_of(item_with("<step by='cook'>1</step><wine>2</wine>"), (shape,))["rest"] == []
    many = "<step by='cook'/>" * (MAX_ELEMENTS - 1) + "<step/>" * 3
    assert len(rest_of(item_with(many), (shape,))["rest"]) == 2, "both count against one bound"


def test_the_language_of_a_text_that_is_not_read_is_returned() -> None:
    shape = Shape("recipe", SPACE, children=(Shape("title", text=WORDS, attributes={LANG: WORDS}),))
    languages = [
        (found["text"], found["attributes"])
        for found in rest_of(item_with("<title xml:lang='en'>x</title><title xml:lang='de'> </title>"), (shape,))[
            "rest"
        ]
    ]
    assert languages == [(None, {"{http://www.w3.org/XML/1998/namespace}lang": "de"})]


def test_other_namespaces_are_those_of_elements_unlike_their_parent() -> None:
    shape = Shape("recipe", SPACE, children=(Shape(ANY, OTHER, text=WORDS), Shape("tip", "urn:x")))
    payload = "<own>1</own><foreign xmlns='urn:y'>2</foreign><tip xmlns='urn:x'>3</tip><tip xmlns='urn:y'>4</tip>"
    found = rest_of(item_with(payload), (shape,))["rest"]
    assert [(one["name"], one["text"]) for one in found] == [("own", "1"), ("tip", "3")]


def test_an_element_without_what_it_needs_is_returned_whole() -> None:
    shape = Shape(
        "recipe", SPACE, children=(Shape("step", attributes={"no": INTEGER, "at": DATE}, needs=("no",), once=True),)
    )
    payload = "<step no='x' at='2026-01-31'/><step no=' ' at='2026-02-01'/><step no='1' at='2026-02-02'/><step no='2'/>"
    element = item_with(payload)[0]
    assert [found is not None for _, found in matches(element, shape)] == [False, False, True, False]
    found = rest_of(item_with(payload), (shape,))["rest"]
    assert [one["attributes"] for one in found] == [
        {"no": "x", "at": "2026-01-31"},
        {"no": " ", "at": "2026-02-01"},
        {"no": "2"},
    ]


def test_a_jid_with_a_resource_is_returned() -> None:
    shape = Shape("recipe", SPACE, children=(Shape("cook", attributes={"jid": JID, "full": FULL_JID}),))
    payload = "<cook jid='A@b.example' full='a@b.example/x'/><cook jid='a@b.example/x'/><cook full='a b'/>"
    found = rest_of(item_with(payload), (shape,))["rest"]
    assert [one["attributes"] for one in found] == [{"jid": "a@b.example/x"}, {"full": "a b"}]


def test_elements_beyond_the_bound_are_returned_and_bounded_too() -> None:
    found = rest_of(item_with("<step/>" * (MAX_ELEMENTS + 2)), (RECIPE,))
    assert len(found["rest"]) == 2
    assert not found["rest_truncated"]
    found = rest_of(item_with("<wine/>" * (conversion.MAX_NODES + 1)), (RECIPE,))
    assert len(found["rest"]) == conversion.MAX_NODES
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


@pytest.mark.parametrize("space", [SPACE, "urn:example:recipe:old"])
def test_only_the_first_payload_is_read(space: str) -> None:
    """Whatever namespaces of the schema the payloads are in."""
    former = Shape("recipe", "urn:example:recipe:old", children=(Shape("title", text=WORDS),))
    secret = Shape("secret", SPACE, left_out=SECRET)
    schema = Schema(title="Recipes", about="Food.", payloads=(RECIPE, former, secret), keys=())

    @reads(schema)
    def parse(item: Element, context: ParseContext) -> dict[str, Any]:
        return {"payloads": [one.tag.rpartition("}")[2] for one in item]}

    item = item_with("<title>Toast</title>")
    SubElement(item, "{urn:x}more")
    SubElement(SubElement(item, f"{{{space}}}recipe"), f"{{{space}}}title").text = "Tea"
    SubElement(item, f"{{{SPACE}}}secret").text = "1234"
    parsed = parse(item, CONTEXT)
    assert parsed["payloads"] == ["recipe", "more"]
    assert [(one["name"], [inner["text"] for inner in one["children"]]) for one in parsed["rest"]] == [
        ("more", []),
        ("recipe", ["Tea"]),
    ]


def test_what_is_left_out_is_left_out_of_elements_that_are_not_read_too() -> None:
    secrets = "one <password>1234</password>two <pin by='1234'>1234</pin><title>Toast<i/></title><!-- --><x>3</x>four"
    item = item_with("")
    item.append(item_with(secrets)[0])
    [found] = rest_of(item, (RECIPE,))["rest"]
    assert "1234" not in str(found)
    assert (found["name"], found["text"]) == ("recipe", "one two four")
    assert [(one["name"], one["text"]) for one in found["children"]] == [("pin", None), ("title", "Toast"), ("x", "3")]
    assert [one["name"] for one in found["children"][1]["children"]] == ["i"]


def test_several_payloads_are_read_if_the_schema_says_so() -> None:
    @reads(Schema(title="Recipes", about="Food.", payloads=(RECIPE,), keys=(), several=True))
    def parse(item: Element, context: ParseContext) -> dict[str, Any]:
        return {"titles": [one.findtext(f"{{{SPACE}}}title") for one in item]}

    item = item_with("<title>Toast</title>")
    SubElement(SubElement(item, f"{{{SPACE}}}recipe"), f"{{{SPACE}}}title").text = "Tea"
    assert parse(item, CONTEXT) == {"titles": ["Toast", "Tea"], "rest": [], "rest_truncated": False}


def test_a_payload_with_its_namespace_is_preferred() -> None:
    item = fromstring(
        f"<item><recipe><title>1</title></recipe><recipe xmlns='{SPACE}'><title>2</title></recipe></item>"
    )
    parsed = parse_recipe(item, CONTEXT)
    assert parsed["title"] == "2"
    assert [one["children"][0]["text"] for one in parsed["rest"]] == ["1"]


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
