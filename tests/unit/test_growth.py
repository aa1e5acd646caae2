"""Test that the CPU time of every function over remote text is linear in the size of the text.

A new function takes one line in `TEXT_FUNCTIONS` or `ITEM_FUNCTIONS`. The tests compare the CPU times for a text and
for one ten times as long within one run: a linear function takes 10 times as long, a quadratic one 100 times.
"""

import gc
import json
import re
import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from io import BytesIO
from random import Random
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pubsubcache.admin import display
from pubsubcache.analysers import Analyser, matching, registry
from pubsubcache.analysers.builtin import builtin_analysers
from pubsubcache.exceptions import PubsubCacheError
from pubsubcache.exchange import jsonlines, serverdata
from pubsubcache.lookups import snippets
from pubsubcache.lookups.conditions import values
from pubsubcache.lookups.conditions.timepatterns import point_in_time
from pubsubcache.lookups.fulltext import folding, query
from pubsubcache.parsers import ParseContext, dates, elements, html, text, uris
from pubsubcache.parsers.generic import parse_any
from pubsubcache.parsers.schema import Schema, schemas_of
from pubsubcache.types import Item
from pubsubcache.utils import jid, xmlform
from pubsubcache.utils.xmlform import PUBSUB, PUBSUB_EVENT
from pubsubcache.xmpp.forms import DATA, form_values
from pubsubcache.xmpp.notifications import parse_message
from tests.examples import EXAMPLES, Example
from tests.selection import how_many
from tests.unit.parsers.corpus import Maker

LIMIT = 30  # maximum growth for a text ten times as long
FLOOR = 0.01  # seconds below which times are not compared
ENOUGH = 0.004  # seconds that reveal quadratic growth without an even longer text
SIZES = (1_000, 10_000, 100_000, 1_000_000)
ATTEMPTS = 5  # the maximum number; the fastest counts, because others use the machine too
SURE = 1.0  # seconds that others cannot cause

CONTEXT = ParseContext("a@b.example", "n")
Shape = Callable[[int], Any]  # builds a value of about this many characters


def growth(function: Callable[[Any], Any], shape: Shape) -> float:
    """Return the worst growth of a function's time for ten times as much text; 1 if it is too fast to measure."""
    worst = 1.0
    before = shape(SIZES[0])
    for size in SIZES[1:]:
        value = shape(size)
        cost = _cost(function, value)
        if cost > FLOOR:
            ratio = cost / max(_cost(function, before), 1e-6)
            for attempt in range(ATTEMPTS):
                if ratio <= LIMIT or cost > SURE or (attempt and ratio > 2 * LIMIT):
                    break
                cost = min(cost, _cost(function, value))
                ratio = min(ratio, cost / max(_cost(function, before), 1e-6))
            worst = max(worst, ratio)
        if worst > LIMIT or (cost > ENOUGH and size >= SIZES[2]):
            break
        before = value
    return worst


def _cost(function: Callable[[Any], Any], value: Any) -> float:
    """Return the CPU time of a call in this thread, without garbage collection."""
    gc.disable()
    try:
        start = time.thread_time()
        with suppress(PubsubCacheError):
            function(value)
        return time.thread_time() - start
    finally:
        gc.enable()


def assert_linear(functions: dict[str, Callable[[Any], Any]], shape: Shape) -> None:
    grown = {name: growth(function, shape) for name, function in functions.items()}
    assert {name: ratio for name, ratio in grown.items() if ratio > LIMIT} == {}


# Functions over texts

TERMS = [query.Term(("a", "b")), query.Term(("x",), prefix=True), query.Term(("winter",))]

TEXT_FUNCTIONS: dict[str, Callable[[str], Any]] = {
    "words of text": lambda text: xmlform.words(content(text)),
    "words of HTML": lambda text: xmlform.words(content(text, "html")),
    "normal form": lambda text: Item.from_element(content(text)),
    "form values": lambda text: form_values(form(text)),
    "HTML": lambda text: html.from_html(text, "https://x.example/a/"),
    "generic": lambda text: parse_any(content(text), ParseContext("a@b.example", "n")),
    "clean": text.clean,
    "base64": text.from_base64,
    "date": dates.normalise,
    "integer": elements.integer,
    "number": elements.number,
    "link": uris.link,
    "resolved link": lambda text: uris.absolute(text, "https://x.example/a/b"),
    "base": lambda text: uris.base_of(text, "https://x.example/a/b"),
    "XMPP URI": uris.parse_xmpp,
    "JID in a URI": uris.bare_jid,
    "place": lambda text: uris.reference("a@b.example", text, text),
    "JID": jid.normalise.__wrapped__,
    "fold": folding.fold,
    "folded words": folding.words,
    "query": query.parse,
    "snippet": lambda text: snippets.make_snippet(text, TERMS, stems=True),
    "LIKE": lambda text: values.like_matcher("%a_b%<%xy%")(text),
    "folded": values.folded,
    "JSON": values.dumps,
    "point in time": point_in_time,
    "cell of a list": display.short,
    "snippet as HTML": display.snippet,
    "indented": lambda text: xmlform.indented(xmlform.to_text(content(text))),
    "namespace of an item": lambda text: xmlform.namespace_in(f'<item xmlns="{text}" id="{text}">{text}<{text}'),
    "export line": lambda text: list(jsonlines.read(BytesIO(text.encode(errors="replace")))),
    "export as XML": lambda text: list(serverdata.read(BytesIO(text.encode(errors="replace")))),
}


def content(text: str, kind: str = "text") -> Element:
    """Return an `<item/>` with an Atom entry of this content."""
    item = Element(f"{{{PUBSUB}}}item", {"id": "i"})
    entry = SubElement(item, "{http://www.w3.org/2005/Atom}entry")
    SubElement(entry, "{http://www.w3.org/2005/Atom}content", {"type": kind, "src": text, "title": text}).text = text
    return item


def notification(*items: Element) -> Element:
    """Return a message with a notification of items."""
    message = Element("message", {"from": "b.example"})
    parent = SubElement(SubElement(message, f"{{{PUBSUB_EVENT}}}event"), f"{{{PUBSUB_EVENT}}}items", {"node": "n"})
    for item in items:
        SubElement(parent, f"{{{PUBSUB_EVENT}}}item", {"id": "i"}).extend(item)
    return message


def form(text: str) -> Element:
    """Return an element with a form that has a field with this name and value."""
    parent = Element("parent")
    field = SubElement(SubElement(parent, f"{{{DATA}}}x"), f"{{{DATA}}}field", {"var": text})
    SubElement(field, f"{{{DATA}}}value").text = text
    return parent


# Shapes of texts

UNITS = [
    *("a", "9", " ", "\n", "\\", "(", "[", "<", "&", "@", "a b ", '"', "'", "\u202e"),
    *("<!--", "<!", "</", "<a ", "<a b='", '<a b="', "&#", "&amp", "&amp;", "-->", "]]>"),
    *("<p>", "<b>", "<p><b>", "<br>", "x</b>", "<li>", "<td>", "<table>", "<tr><b>x", "<script>"),
    *("<a b=c d=e>", '<a \'q "b=\'"" >', "a OR ", "urn:", "xmpp:", "xmpp:a@b.example ", "\u65e5", "\U0001f600"),
    *("\u0301", "\u0301\u0323", "\u0300\u0316\u0327\u093c", "\u0f73", "e\u0301", "\u1100\u1161", "\u0958", "\ud800"),
]
KNOWN: dict[str, Shape] = {
    **{repr(unit): lambda size, unit=unit: unit * (size // len(unit)) for unit in UNITS},
    "an XMPP URI and a word": lambda size: f"xmpp:{'a' * size} b",
    "an XMPP URI with an authority and a word": lambda size: f"xmpp://{'a' * size} b",
    "a URN and a word": lambda size: f"urn:{'a' * size} b",
    "a time and a word": lambda size: f"2026-01-31T12:00{'0' * size} b",
    "one word and a mark": lambda size: f"{'a' * size}!",
    "spaces between": lambda size: f"x{' ' * size}x",
    "spaces in a tag": lambda size: f"<a{' ' * size}b{' ' * size}>",
    "a reference": lambda size: f"&#{'9' * size};",
    "many attributes": lambda size: f"<a {' '.join(f'a{number}=b' for number in range(size // 9))}>",
    "an open attribute": lambda size: f"<a b='{'x' * size}",
    "a letter and its marks": lambda size: "a" + "\u0301\u0323" * (size // 2),
    "paragraphs deep inside": lambda size: "<div>" * 200 + "<p>" * (size // 3),
    "formatting outside of cells": lambda size: f"<table>{'<b>x</b>' * (size // 8)}</table>",
}


@pytest.mark.parametrize("name", KNOWN)
def test_time_is_linear_in_texts_known_to_be_bad(name: str) -> None:
    assert_linear(TEXT_FUNCTIONS, KNOWN[name])


pieces = st.lists(st.sampled_from([*UNITS, ">", "/>", ";", "x", "\u0327", "!", "?"]), max_size=4).map("".join)


@settings(max_examples=how_many(5, 50))
@given(start=pieces, unit=pieces.filter(bool), end=pieces)
def test_time_is_linear_in_texts_that_repeat_anything(start: str, unit: str, end: str) -> None:
    assert_linear(TEXT_FUNCTIONS, lambda size: start + unit * (size // len(unit)) + end)


# Functions over items

ITEM_FUNCTIONS: dict[str, Callable[[Element], Any]] = {
    "words": xmlform.words,
    "normal form": Item.from_element,
    "notification": lambda item: parse_message(notification(item), "a@b.example"),
    "generic": lambda item: json.dumps(parse_any(item, ParseContext("a@b.example", "n"))),
    "reader": lambda item: matching.reader(registry.get("mood"), item),
}
LONGEST = {example.analyser: example for example in sorted(EXAMPLES, key=lambda example: len(example.text))}
#: The examples with which all functions are measured, not only their parsers.
THOROUGH = list(LONGEST.values())[: how_many(1, len(LONGEST))]


def parser_of(example: Example) -> dict[str, Callable[[Element], Any]]:
    """Return the parser of an example's analyser as a function over items."""
    parser: Any = next(analyser.parser for analyser in builtin_analysers() if analyser.name == example.analyser)
    return {example.analyser: lambda item: json.dumps(parser(item, example.context))}


def functions_for(example: Example) -> dict[str, Callable[[Element], Any]]:
    """Return all functions over items, including the parser of the example's analyser."""
    return ITEM_FUNCTIONS | parser_of(example)


def repeated(example: Example, place: int) -> Shape:
    """Return the shape of an item in which one element is repeated with different texts."""

    def shape(size: int) -> Element:
        item = deepcopy(example.item)
        found = list(item.iter())
        element = found[1 + place % (len(found) - 1)]
        parent = next(parent for parent in found if element in list(parent))
        for number in range(size // len(xmlform.to_text(element))):
            parent.append(deepcopy(element))
            for inner in parent[-1].iter():
                inner.text = f"{inner.text or ''}{number}"
                inner.attrib.update({name: f"{value}{number}" for name, value in inner.attrib.items()})
        return item

    return shape


def filled(example: Example, place: int, fill: Callable[[Element, int], None]) -> Shape:
    """Return the shape of an item in which one element is filled."""

    def shape(size: int) -> Element:
        item = deepcopy(example.item)
        found = list(item.iter())
        fill(found[place % len(found)], size)
        return item

    return shape


def _with_children(element: Element, size: int) -> None:
    for number in range(size // 20):
        SubElement(element, "{urn:other}child" if number % 2 else element.tag).text = str(number)


def _with_depth(element: Element, size: int) -> None:
    for _ in range(size // 20):
        element = SubElement(element, element.tag)


def _with_attributes(element: Element, size: int) -> None:
    element.attrib.update({f"{{urn:{number}}}a" if number % 2 else f"a{number}": "b" for number in range(size // 20)})


def _with_a_long_namespace(element: Element, size: int) -> None:
    tag = f"{{urn:{'a' * (size // 2)}}}child"
    for _ in range(size // 20):
        element.append(Element(tag, {tag: ""}))


FILLINGS = [_with_children, _with_depth, _with_attributes, _with_a_long_namespace]


@pytest.mark.parametrize("example", THOROUGH, ids=lambda example: example.analyser)
def test_time_is_linear_in_elements(example: Example) -> None:
    for fill in FILLINGS:
        # The normal form refuses long namespaces, so words and parsers never see them.
        bounded = fill is _with_a_long_namespace
        functions = {"normal form": Item.from_element} if bounded else functions_for(example)
        assert_linear(functions, filled(example, 1, fill))
    assert_linear(functions_for(example), repeated(example, 0))


@pytest.mark.parametrize(
    ("example", "number"), [pytest.param(one, number, id=one.analyser) for number, one in enumerate(LONGEST.values())]
)
def test_time_of_parsers_is_linear_in_elements(example: Example, number: int) -> None:
    """The usual run measures each parser with two of these, as all parsers share the code for what they do not read."""
    bad = [repeated(example, 0), *(filled(example, 1, fill) for fill in FILLINGS[:3])]
    for offset in range(how_many(2, len(bad))):
        assert_linear(parser_of(example), bad[(number + offset) % len(bad)])


#: The analysers, without those whose parser another one has.
BY_PARSER = {analyser.parser: analyser for analyser in reversed(builtin_analysers())}


@pytest.mark.parametrize(
    ("analyser", "schema"),
    [
        pytest.param(analyser, schema, id=f"{analyser.name}-{schema.title}")
        for parser, analyser in BY_PARSER.items()
        for schema in schemas_of(parser)
    ],
)
def test_time_is_linear_in_elements_of_a_schema(analyser: Analyser, schema: Schema) -> None:
    """Up to 100 KB, and with a closer limit than elsewhere: the items differ in nothing but their size."""
    parser: Any = analyser.parser
    context = next((one.context for one in EXAMPLES if one.analyser == analyser.name and fits(schema, one)), CONTEXT)
    small, large = (Maker(Random(schema.title), schema).large_item(size) for size in (10_000, 100_000))

    def parse(item: Element) -> str:
        return json.dumps(parser(item, context))

    ratios = (_cost(parse, large) / max(_cost(parse, small), 1e-6) for _ in range(ATTEMPTS))
    assert any(ratio < LIMIT / 2 for ratio in ratios)


def fits(schema: Schema, example: Example) -> bool:
    return any(map(schema.fits, example.item))


@settings(max_examples=how_many(5, 50))
@given(example=st.sampled_from(EXAMPLES), place=st.integers(0, 100), fill=st.sampled_from([None, *FILLINGS[:3]]))
def test_time_is_linear_in_elements_anywhere(
    example: Example, place: int, fill: Callable[[Element, int], None] | None
) -> None:
    shape = repeated(example, place) if fill is None else filled(example, place, fill)
    assert_linear(functions_for(example), shape)


@settings(max_examples=how_many(5, 50))
@given(example=st.sampled_from(EXAMPLES), unit=pieces.filter(bool), place=st.integers(0, 100))
def test_time_is_linear_in_the_texts_of_elements(example: Example, unit: str, place: int) -> None:
    def fill(element: Element, size: int) -> None:
        element.text = unit * (size // len(unit))
        element.attrib.update(dict.fromkeys(element.attrib, element.text))

    assert_linear(functions_for(example), filled(example, place, fill))


# Tests of the measurement, and cases that it does not cover


def _searched(pattern: str) -> Callable[[str], Any]:
    return re.compile(pattern).search


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda text: unicodedata.normalize("NFC", text), KNOWN["a letter and its marks"]),
        (_searched(r"\Axmpp:(?://[^\s/?]*/)?(?P<jid>[^\s?/]*)\S*\s*\Z"), KNOWN["an XMPP URI and a word"]),
        (_searched(r"<a.*?>"), KNOWN["'<a '"]),
    ],
    ids=["normalisation", "adjacent quantifiers", "unfinished"],
)
def test_quadratic_time_is_detected(function: Callable[[str], Any], shape: Shape) -> None:
    assert growth(function, shape) > LIMIT


def test_time_too_short_to_measure_counts_as_linear() -> None:
    assert growth(len, KNOWN["'a'"]) == 1


def test_every_analyser_is_measured() -> None:
    assert set(LONGEST) == {analyser.name for analyser in builtin_analysers()}


@pytest.mark.parametrize("start", ["<table>", "<table><tr>", "<table><colgroup>", "<table><tr><svg>"])
def test_markup_that_html_parsers_move_out_of_tables_is_not_shown(start: str) -> None:
    assert html.from_html(f"{start}{'<br>x' * 2_000}") == ("\n".join("x" * 2_000), None)


def test_misplaced_table_parts_are_replaced_by_their_content() -> None:
    """An HTML parser would move the content that follows them out of the table."""
    soup = f"<table><tr><td><div>{'<td>y</td><br>x' * 2_000}</div></td></tr></table>"
    shown = html.from_html(soup).xhtml or ""
    assert (shown.count("<br/>x"), shown.count("<td>")) == (2_000, 1)
    assert shown.startswith("<div><table><tbody><tr><td><div>y<br/>x")


def test_little_text_between_cells_is_harmless() -> None:
    assert (
        html.from_html("<table>a<tr>b<td>c</table>").xhtml
        == "<div>ab<table><tbody><tr><td>c</td></tr></tbody></table></div>"
    )
