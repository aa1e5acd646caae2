"""Test that every text and attribute of an entry or a feed is in the JSON, whatever elements are where.

Each value is unique, so it can be found in the JSON. Exempt are xml:base, known types, and attributes within markup,
which the shapes leave out with a reason.
"""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from itertools import count
from random import Random
from xml.etree.ElementTree import Element, SubElement

import pytest

from pubsubcache.parsers.geoloc import GEOLOC
from pubsubcache.parsers.microblog import BLOGS, MEDIA, POSTS, THREAD, parse
from pubsubcache.utils.xmlform import XML
from tests.selection import how_many
from tests.unit.parsers.entries import ATOM, PEP, SERVICE, XHTML, check, item

CASES = how_many(300, 20_000)
ELEMENTS = [
    *(("title", "summary", "content", "rights", "subtitle", "author", "contributor", "name", "email", "uri", "id")),
    *("updated", "published", "category", "generator", "icon", "logo", "link", "source", "other", "link", "author"),
]
TAGS = [
    *(f"{{{ATOM}}}{name}" for name in ELEMENTS),
    *(f"{{{THREAD}}}{name}" for name in ("in-reply-to", "total")),
    *(f"{{{MEDIA}}}{name}" for name in ("content", "thumbnail", "group", "title", "description")),
    *(f"{{{GEOLOC}}}{name}" for name in ("geoloc", "lat", "country", "uri", "timestamp")),
    *(f"{{{XHTML}}}div", f"{{{XHTML}}}b", "other", "{urn:other}title"),
]
NAMES = [
    *("rel", "href", "src", "title", "hreflang", "length", "ref", "description", "logo", "term", "scheme", "label"),
    *("uri", "version", "url", "medium", "width", "fileSize", "duration", "source", "other", f"{{{XML}}}lang"),
    *(f"{{{THREAD}}}count", f"{{{THREAD}}}updated", "{urn:other}title"),
]
TYPES = ["text", "html", "xhtml", "text/html", "TEXT/html; charset=utf-8", "", "text/plain"]
RELATIONS = ["alternate", "enclosure", "related", "via", "replies", "start", "self"]
BASES = ["https://base.example/a/b", "c/", "", "javascript:x", "//other.example"]
# What a value looks like. A number is part of each, and is found in the JSON.
VALUES: list[Callable[[int], str]] = [
    lambda number: f"w{number}",
    lambda number: f"https://x.example/{number}.png",
    lambda number: f"xmpp:x.example?;node={number}",
    lambda number: f"xmpp:a{number}@x.example",
    lambda number: f"path/{number}",
    lambda number: f"javascript:{number}",
    lambda number: f"https:/{number}",
    lambda number: str(number),
    lambda number: f"2026-01-31T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}Z",
]


class Builder:
    """Builds random items, and remembers what must be in their JSON."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.numbers = count(10_000)
        self.expected: list[str] = []

    def value(self) -> str:
        number = next(self.numbers)
        value = self.random.choice(VALUES)(number)
        self.expected.append(value[11:] if value.startswith("2026-") else str(number))
        return value

    def fill(self, element: Element, depth: int, is_markup: bool = False) -> None:
        """Add attributes, text and children."""
        random = self.random
        if random.random() < 0.5:
            element.text = self.value()
        if random.random() < 0.3:
            element.set("type", random.choice(TYPES))
        if random.random() < 0.15:
            element.set(f"{{{XML}}}base", random.choice(BASES))
        if random.random() < 0.4:
            element.set("rel", random.choice(RELATIONS))
        if not is_markup:
            for name in random.sample(NAMES, random.choice([0, 0, 1, 2, 6])):
                if name not in element.attrib:
                    element.set(name, self.value())
            if random.random() < 0.1:
                element.set("type", random.choice(["image/", "text/", ""]) + self.value().replace("/", ""))
        for _ in range(random.choice([0, 1, 3]) if depth else 0):
            child = SubElement(element, random.choice(TAGS))
            inside = is_markup or element.tag.rpartition("}")[2] in {
                "title",
                "summary",
                "content",
                "rights",
                "subtitle",
            }
            self.fill(child, depth - 1, inside)
            child.tail = self.value() if random.random() < 0.1 else None


def build(seed: int) -> tuple[Element, list[str]]:
    builder = Builder(seed)
    root = item("", of=builder.random.choice(["entry", "entry", "feed"]))
    builder.fill(root[0], 0)
    for _ in range(builder.random.randrange(1, 12)):
        builder.fill(SubElement(root[0], builder.random.choice(TAGS)), builder.random.randrange(3))
    return root, builder.expected


@pytest.mark.parametrize("part", range(5))
def test_everything_is_in_the_json(part: int) -> None:
    for seed in range(part, CASES, 5):
        root, expected = build(seed)
        result = parse(root, PEP if seed % 2 else SERVICE)
        check(result)
        assert not result["rest_truncated"]
        text = json.dumps(result)
        lost = [value for value in expected if value not in text]
        assert not lost, (seed, lost, ET.tostring(root, encoding="unicode"))


def test_what_is_left_out_is_documented() -> None:
    for schema in (POSTS, BLOGS):
        omissions = schema.omissions()
        assert {path.rpartition("@")[2] for path, _ in omissions} == {"xml:base"}
        assert all(reason.endswith(".") for _, reason in omissions)
