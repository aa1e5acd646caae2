"""Test the registration of analysers, their matching, and errors in their functions."""

import asyncio
import math
import threading
from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsubcache.analysers import Analyser, AnalyserRegistry, Analysis, matching, register_analyser, registry
from pubsubcache.exceptions import ParseError
from pubsubcache.parsers import ParseContext, encrypted, mood
from pubsubcache.parsers.schema import Schema, one_of, reads
from pubsubcache.parsers.shapes import Shape
from pubsubcache.types import Item, NodeAddress
from pubsubcache.utils import xmlform
from pubsubcache.utils.xmlform import PUBSUB
from tests.fakes import ADDRESS, NOTE, make_item


@pytest.fixture(autouse=True)
def _empty_registry() -> Iterator[None]:
    with registry.temporarily(replace=True):
        yield


def no_sample() -> Any:
    raise AssertionError("a sample item costs a request")


class Sampler:
    """Counts the requests for a sample item."""

    def __init__(self, item: Item | None) -> None:
        self.item = item
        self.count = 0

    async def __call__(self) -> Element | None:
        self.count += 1
        return None if self.item is None else self.item.element


# Registration

BAD: list[dict[str, Any]] = [
    {},
    {"name": "x"},
    {"type": "x"},
    {"name": "x", "type": "y"},
    {"name": "", "type": "y", "node": "n"},
    {"name": "  ", "type": "y", "node": "n"},
    {"name": "x", "type": " ", "node": "n"},
    {"name": None, "type": "y", "node": "n"},
    {"name": 5, "type": "y", "node": "n"},
    {"name": "x", "type": 5, "node": "n"},
    {"name": "x" * 101, "type": "y", "node": "n"},
    {"name": "x", "type": "y", "node": ""},
    {"name": "x", "type": "y", "node": 5},
    {"name": "x", "type": "y", "namespace": b"n"},
    {"name": "x", "type": "y", "node": "n", "to_sync": "yes"},
    {"name": "x", "type": "y", "node": "n", "to_sync": None},
    {"name": "x", "type": "y", "node": "n", "parser": "parse"},
    {"name": "x", "type": "y", "node": "n", "match_cb": 5},
]


@pytest.mark.parametrize("options", BAD)
def test_invalid_registration_raises_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        register_analyser(**options)
    assert registry.all() == []


def test_unknown_option_raises() -> None:
    with pytest.raises(TypeError):
        register_analyser(name="x", type="y", node="n", tosync=True)
    with pytest.raises(TypeError):
        register_analyser("x")  # type: ignore[call-overload]
    with pytest.raises(TypeError):
        register_analyser(Analyser(name="x", type="y", node="n"), to_sync=True)  # type: ignore[call-overload]


def test_names_are_compared_case_insensitively() -> None:
    register_analyser(name="Recipes", type="recipe", node="urn:example:recipes")
    with pytest.raises(ValueError, match="recipes"):
        register_analyser(name=" recipes ", type="other", node="n")
    assert [analyser.name for analyser in registry.all()] == ["recipes"]


def test_registration_of_an_analyser_object() -> None:
    analyser = Analyser(name="X", type="y", namespace="n", to_sync=True)
    assert register_analyser(analyser) is analyser
    assert registry.get("x") is analyser


def test_decorates_the_parser() -> None:
    @register_analyser(name="x", type="y", namespace="n")
    def parse(item: Element, context: ParseContext) -> dict[str, Any]:
        return {"a": 1}

    found = registry.get("x")
    assert found is not None
    assert found.parser is parse
    assert found.module == __name__
    assert parse(Element("item"), ParseContext(service="s", node="n")) == {"a": 1}


def test_decorator_can_be_ignored() -> None:
    left = register_analyser(name="x", type="y", namespace="n")
    assert left.name == "x"
    with pytest.raises(ValueError, match="x"):
        left("no parser")


def test_temporarily() -> None:
    register_analyser(name="kept", type="y", node="k")
    with registry.temporarily(Analyser(name="more", type="y", node="n")):
        assert [analyser.name for analyser in registry.all()] == ["kept", "more"]
        register_analyser(name="within", type="y", node="n")
    assert [analyser.name for analyser in registry.all()] == ["kept"]
    with registry.temporarily(replace=True):
        assert registry.all() == []
    with pytest.raises(ValueError, match="kept"), registry.temporarily(Analyser(name="kept", type="y", node="k")):
        pass
    assert [analyser.name for analyser in registry.all()] == ["kept"]


def test_fingerprint_distinguishes_registries() -> None:
    def fingerprint(**options: Any) -> str:
        own = AnalyserRegistry()
        own.register(Analyser(**({"name": "x", "type": "y", "node": "n"} | options)))
        return own.fingerprint()

    different = [{}, {"name": "z"}, {"type": "z"}, {"node": "m"}, {"namespace": "n"}, {"to_sync": True}]
    assert len({fingerprint(**options) for options in different}) == len(different)
    assert fingerprint() == fingerprint()
    # The separator may occur in the parts.
    assert fingerprint(node="n,None") != fingerprint(node="n", namespace="None,False;x")
    assert fingerprint(node="None") != fingerprint(node=None, namespace="None")


# Matching


async def test_first_match_wins() -> None:
    register_analyser(name="long", type="a", node="urn:example:notes/private")
    register_analyser(name="short", type="b", node="urn:example:notes")
    register_analyser(name="never", type="c", node="urn:example:notes")
    for node, expected in [("urn:example:notes/private/1", "long"), ("urn:example:notes", "short"), ("urn:other", "")]:
        analysis = await matching.analyse(NodeAddress("s", node), no_sample)
        assert (analysis.name if analysis else "") == expected


async def test_prefix_match_needs_no_sample() -> None:
    register_analyser(name="prefix", type="a", node=ADDRESS.name)
    register_analyser(name="namespace", type="b", namespace=NOTE)
    analysis = await matching.analyse(ADDRESS, no_sample)
    assert analysis is not None
    assert (analysis.name, analysis.type, analysis.to_sync, analysis.namespace, analysis.item) == (
        "prefix", "a", False, None, None,
    )  # fmt: skip


async def test_prefix_match_with_a_namespace_needs_no_sample() -> None:
    register_analyser(name="both", type="a", node=ADDRESS.name, namespace="urn:elsewhere")
    assert await matching.analyse(ADDRESS, no_sample)


async def test_sample_is_requested_once() -> None:
    for number in range(3):
        register_analyser(name=f"other {number}", type="a", namespace=f"urn:{number}")
    register_analyser(name="note", type="b", namespace=NOTE)
    sample = Sampler(make_item("a"))
    analysis = await matching.analyse(ADDRESS, sample)
    assert analysis is not None
    assert (analysis.name, analysis.namespace, sample.count) == ("note", NOTE, 1)
    assert analysis.item is not None


async def test_an_empty_node_matches_no_namespace() -> None:
    register_analyser(name="note", type="b", namespace=NOTE)
    sample = Sampler(None)
    assert await matching.analyse(ADDRESS, sample) is None
    assert sample.count == 1


async def test_errors_of_the_sample_propagate() -> None:
    register_analyser(name="note", type="b", namespace=NOTE)

    async def sample() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await matching.analyse(ADDRESS, sample)


def test_namespace_matches_follow_the_same_order() -> None:
    register_analyser(name="note", type="b", namespace=NOTE)
    register_analyser(name="prefix", type="a", node="urn:p")
    names = [
        found.name if (found := matching.by_namespace(node, namespace)) else ""
        for node, namespace in [("urn:p", NOTE), ("urn:p", None), ("x", None), ("x", ""), ("x", NOTE)]
    ]
    assert names == ["note", "prefix", "", "", "note"]


def newest(written: str) -> list[str | None]:
    """Return namespaces of items, oldest first: one per letter, None for "-"."""
    return [None if letter == "-" else f"urn:{letter}" for letter in written]


def register_kinds(kinds: str = "ab") -> None:
    for kind in kinds:
        register_analyser(name=kind, type=kind, namespace=f"urn:{kind}")


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ("", ""),
        ("-", ""),
        ("xyz", ""),
        ("a", "a"),
        ("aaaab", "a"),
        ("baaaa", "a"),
        ("aaabx", "a"),
        ("abbba", "b"),
        ("aaaaxxxxxxxx-", "a"),  # unknown payloads do not count
        ("abab", "b"),  # the newest item breaks a tie
        ("abba", "a"),
        ("b" * 30 + "a" * 11 + "b" * 9, "a"),  # older items do not count
        ("b" * 30 + "a" * 10 + "b" * 10, "b"),
    ],
)
def test_namespace_of_most_newest_items_prevails(items: str, expected: str) -> None:
    register_kinds()
    assert matching.prevailing(newest(items)) == (f"urn:{expected}" if expected else "")


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ("", ""),
        ("xxxx", ""),
        ("b", "b"),
        ("ab", "a"),
        ("abbb", "a"),
        ("abbbb", "b"),
        ("aabbbbbbb", "a"),
        ("aabbbbbbbb", "b"),
        ("abxxxxx", "a"),
    ],
)
def test_present_namespace_prevails_unless_others_clearly_do(items: str, expected: str) -> None:
    register_kinds()
    assert matching.prevailing(newest(items), "urn:a") == (f"urn:{expected}" if expected else "")


@given(st.text("abcx-", max_size=60), st.sampled_from(["", "urn:a", "urn:b", "urn:gone"]))
def test_prevailing_namespace_is_stable(items: str, present: str) -> None:
    with registry.temporarily(replace=True):
        register_kinds("abc")
        found = matching.prevailing(newest(items), present)
        assert found in {"", present, *(f"urn:{kind}" for kind in "abc" if kind in items)}
        if found:
            assert matching.prevailing(newest(items), found) == found


# Parsers of payloads


def reading(*payloads: str) -> Any:
    """Create a parser with one schema for each payload name."""

    @one_of(
        *(
            reads(Schema(title=name, about="", payloads=(Shape(name, f"urn:{name}"),), keys=()))(fail)
            for name in payloads
        )
    )
    def parse(item: Element, context: ParseContext) -> dict[str, Any]:
        return {"by": [*payloads]}

    return parse


def fail(item: Element, context: ParseContext) -> dict[str, Any]:
    raise ParseError("It cannot be read.")


def holding(*payloads: str) -> Item:
    """Create an item with these payloads; those in capitals are in the namespace of the item."""
    item = Element(f"{{{PUBSUB}}}item", {"id": "i"})
    for name in payloads:
        namespace = PUBSUB if name.isupper() else f"urn:{name}"
        SubElement(item, f"{{{namespace}}}{name.lower()}")
    return Item.from_element(item)


@pytest.fixture
def _parsers() -> None:
    register_analyser(name="none", type="t", namespace="urn:d")
    register_analyser(name="a by its shape", type="t", node="by name", parser=reading("a", "c"))
    register_analyser(name="a", type="t", namespace="urn:a", parser=reading("a"))
    register_analyser(name="a again", type="t", namespace="urn:a", parser=reading("a"))
    register_analyser(name="b", type="t", namespace="urn:b", parser=reading("b"))
    register_analyser(name="c by another", type="t", node="another", parser=reading("c", "d"))
    register_analyser(name="any", type="t", node="any", parser=fail)


@pytest.mark.usefixtures("_parsers")
@pytest.mark.parametrize(
    ("own", "payloads", "expected"),
    [
        ("b", "b", "b"),
        ("b", "a", "a"),  # the first one registered for the namespace
        ("a again", "a", "a again"),  # the own one precedes others
        ("b", "c", "a by its shape"),
        ("b", "d", "c by another"),  # the first one that has a parser
        ("b", "x", "b"),  # no parser fits
        ("b", "", "b"),
        ("b", "xb", "b"),  # any payload may fit
        ("b", "ax", "a"),
        ("b", "B", "b"),  # undeclared namespace
        ("b", "A", "b"),
        ("any", "a", "any"),  # a parser without a schema
        ("none", "a", "none"),  # an analyser without a parser
        ("", "a", "a"),
        ("", "d", "c by another"),
        ("", "x", ""),
        ("", "A", ""),
        ("", "", ""),
    ],
)
def test_reader_of_an_item(own: str, payloads: str, expected: str) -> None:
    found = matching.reader(registry.get(own), holding(*payloads).element)
    assert (found.name if found else "") == expected


@pytest.mark.usefixtures("_parsers")
async def test_items_are_parsed_by_their_readers() -> None:
    own = registry.get("b")
    assert await matching.parse(own, holding("a"), ADDRESS) == {"by": ["a"]}
    assert await matching.parse(None, holding("b"), ADDRESS) == {"by": ["b"]}
    assert await matching.parse(None, holding("x"), ADDRESS) is None


async def test_mood_is_parsed_in_a_node_of_notes() -> None:
    register_analyser(name="mood", type="mood", node=mood.MOOD, parser=mood.parse_mood)
    notes = Analyser(name="notes", type="t", namespace="urn:n", parser=reads(NOTES)(fail))
    happy = f'<item xmlns="{PUBSUB}" id="now"><mood xmlns="{mood.MOOD}"><happy/></mood></item>'
    item = Item.from_element(xmlform.from_text(happy))
    assert (await matching.parse(notes, item, ADDRESS))["mood"] == "happy"
    with pytest.raises(ParseError, match="cannot be read"):
        await matching.parse(notes, holding("x"), ADDRESS)


NOTES = Schema(title="Notes", about="", payloads=(Shape("note", "urn:n"),), keys=())


@pytest.mark.parametrize("scheme", encrypted.SCHEMES)
async def test_encrypted_item_is_parsed_by_the_analyser_of_its_node(scheme: tuple[str, str]) -> None:
    register_analyser(name="other", type="t", namespace=scheme[0], parser=reading("a"))
    notes = Analyser(name="notes", type="t", namespace="urn:n", parser=reads(NOTES)(fail))
    item = Element(f"{{{PUBSUB}}}item", {"id": "i"})
    SubElement(item, f"{{{scheme[0]}}}{scheme[1]}")
    assert (await matching.parse(notes, Item.from_element(item), ADDRESS))["encrypted"] is True


async def test_item_with_many_payloads_has_a_reader() -> None:
    own = Analyser(name="b", type="t", node="n", parser=reading("b"))
    assert matching.reader(own, holding(*["x"] * 50_000).element) is own


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_match_cb_can_change_the_analysis(asynchronous: bool) -> None:
    def change(analysis: Analysis) -> None:
        assert (analysis.service, analysis.node) == (ADDRESS.service, ADDRESS.name)
        analysis.subtype, analysis.to_sync = "special", False

    async def change_later(analysis: Analysis) -> None:
        change(analysis)

    register_analyser(
        name="x", type="y", node=ADDRESS.name, to_sync=True, match_cb=change_later if asynchronous else change
    )
    analysis = await matching.analyse(ADDRESS, no_sample)
    assert analysis is not None
    assert (analysis.subtype, analysis.to_sync) == ("special", False)


@pytest.mark.parametrize("subtype", [None, 5, "x" * 500, ["a"], "a\0b\ud800"])
async def test_match_cb_may_set_any_subtype(subtype: Any) -> None:
    def change(analysis: Analysis) -> None:
        analysis.subtype = subtype

    register_analyser(name="x", type="y", node=ADDRESS.name, match_cb=change)
    analysis = await matching.analyse(ADDRESS, no_sample)
    assert analysis is not None
    assert len(analysis.subtype) <= 100
    analysis.subtype.encode()
    assert "\0" not in analysis.subtype


async def test_errors_of_match_cb_propagate() -> None:
    def fail(analysis: Analysis) -> None:
        raise ZeroDivisionError

    register_analyser(name="x", type="y", node=ADDRESS.name, match_cb=fail)
    with pytest.raises(ZeroDivisionError):
        await matching.analyse(ADDRESS, no_sample)


# Parsing


async def parse(parser: Any, item: Item | None = None) -> Any:
    analyser = Analyser(name="x", type="y", node="n", parser=parser)
    return await matching.parse(analyser, item or make_item("a", publisher="bob@example.org"), ADDRESS)


async def test_without_a_parser_the_result_is_none() -> None:
    assert await matching.parse(None, make_item("a"), ADDRESS) is None
    assert await parse(None) is None


async def test_plain_and_coroutine_parsers_are_told_who_published() -> None:
    def plain(item: Element, context: ParseContext) -> dict[str, Any]:
        return {"id": item.get("id"), "where": [context.service, context.node], "who": context.publisher}

    async def later(item: Element, context: ParseContext) -> dict[str, Any]:
        return plain(item, context)

    expected = {"id": "a", "where": [ADDRESS.service, ADDRESS.name], "who": "bob@example.org"}
    assert await parse(plain) == await parse(later) == expected


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    "error",
    [ValueError("no"), KeyError("a"), RecursionError(), MemoryError(), AssertionError(), StopIteration(),
     TimeoutError(), UnicodeError("x" * 5000), ParseError("not one of these"), Unprintable(), ValueError("a\0\ud800")],
)  # fmt: skip
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_any_error_of_a_parser_becomes_a_parse_error(error: Exception, asynchronous: bool) -> None:
    def fail(item: Element, context: ParseContext) -> dict[str, Any]:
        raise error

    async def fail_later(item: Element, context: ParseContext) -> dict[str, Any]:
        raise error

    with pytest.raises(ParseError) as raised:
        await parse(fail_later if asynchronous else fail)
    text = str(raised.value)
    text.encode()
    assert "\0" not in text
    assert 0 < len(text) <= 1000


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [math.nan, {"a": math.inf}, {"a": object()}, {"a": {1, 2}}, b"x", {(1, 2): 3}, nested(100_000), {"a": 10**5000}],
)
async def test_results_that_are_not_json_are_parse_errors(value: Any) -> None:
    with pytest.raises(ParseError):
        await parse(lambda item, context: value)


async def test_unstorable_characters_are_replaced() -> None:
    parsed = await parse(lambda item, context: {"a\0": ["b\0", "\ud800c", {"d": "\udfff"}], "t": (1, 2.5), "n": None})
    assert parsed == {"a\ufffd": ["b\ufffd", "?c", {"d": "?"}], "t": [1, 2.5], "n": None}


async def test_large_item_is_parsed_outside_the_event_loop() -> None:
    continued = threading.Event()

    def parser(item: Element, context: ParseContext) -> bool:
        return continued.wait(60)

    async def continue_loop() -> None:
        continued.set()

    large = make_item("large", "x" * matching.LARGE)
    parsed, _ = await asyncio.gather(parse(parser, large), continue_loop())
    assert parsed is True
