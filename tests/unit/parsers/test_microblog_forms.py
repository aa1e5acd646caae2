"""Test that an item has the same JSON however it arrives: in a listing or a notification, with any declarations."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from pubsubcache.parsers.microblog import parse
from pubsubcache.types import Item
from pubsubcache.utils import xmlparse
from pubsubcache.utils.xmlform import PUBSUB, PUBSUB_EVENT, from_text, normal_item
from tests.examples import EXAMPLES, Example
from tests.unit.parsers.entries import ATOM, PEP, XHTML, check

POST = (
    "<title>Frost</title><author><name>Mira</name></author><link rel='enclosure' href='https://x.example/r.png'/>"
    f"<content type='xhtml'><div xmlns='{XHTML}'><b>cold</b></div></content><unknown a='1'>x<y/></unknown>"
)
BLOG = "<title>Garden</title><subtitle>Frogs</subtitle><unknown a='1'>x</unknown>"
MICROBLOG = [example for example in EXAMPLES if example.analyser == "microblog"]


def parsed(text: str) -> dict[str, Any]:
    """Return the JSON of an item in all stages: as it arrives, in the normal form, and as it is stored."""
    found = [
        parse(ET.fromstring(text), PEP),
        parse(normal_item(ET.fromstring(text)), PEP),
        parse(Item.from_element(ET.fromstring(text)).element, PEP),
        parse(from_text(text), PEP),
    ]
    for one in found:
        check(one)
        assert one == found[0]
    return found[0]


def prefixed(inner: str) -> str:
    """Return elements of Atom with the prefix `a`."""
    return re.sub(r"(</?)(?!/|div|b>)", r"\1a:", inner)


def items(payload: str) -> list[str]:
    """Return items with a payload, in a listing and in a notification."""
    return [f"<item xmlns='{space}' id='1'>{payload}</item>" for space in (PUBSUB, PUBSUB_EVENT)]


@pytest.mark.parametrize(("name", "inner"), [("entry", POST), ("feed", BLOG)])
def test_declarations_make_no_difference(name: str, inner: str) -> None:
    payloads = [
        f"<{name} xmlns='{ATOM}'>{inner}</{name}>",
        f"<a:{name} xmlns:a='{ATOM}'>{prefixed(inner)}</a:{name}>",
        f"<{name}>{inner}</{name}>",  # in the namespace of the listing or of the notification
        f"<{name} xmlns=''>{inner}</{name}>",
        f"\n  <{name} xmlns='{ATOM}'>{inner}</{name}>\n",
        f"\t<{name} xmlns=''>{inner}</{name}> ",
    ]
    expected = parsed(items(payloads[0])[0])
    assert expected["title"]
    assert [one["name"] for one in expected["rest"]] == ["unknown"]
    for payload in payloads:
        for text in items(payload):
            assert parsed(text) == expected, text


@pytest.mark.parametrize("example", MICROBLOG, ids=lambda example: example.name)
def test_examples_have_the_same_json_in_a_notification(example: Example) -> None:
    for space in (PUBSUB, PUBSUB_EVENT):
        text = example.text.replace(PUBSUB, space)
        assert parse(ET.fromstring(text), example.context) == example.parsed()
        assert parse(Item.from_element(from_text(text)).element, example.context) == example.parsed()


def test_text_and_elements_around_the_payload_are_kept() -> None:
    payload = f"before<entry xmlns='{ATOM}'><title>Frost</title></entry>after<seal>wax</seal><sig xmlns='urn:x'/>"
    listed, notified = (parsed(text) for text in items(payload))
    assert listed == notified
    assert [(one["namespace"], one["name"], one["text"]) for one in listed["rest"]] == [
        (PUBSUB, "item", "before after"),
        (PUBSUB, "seal", "wax"),
        ("urn:x", "sig", None),
    ]


def test_comments_around_the_payload_make_no_difference() -> None:
    payload = f"<!-- c --><entry xmlns='{ATOM}'><title>Frost</title><!-- d --></entry><?p i?>"
    for text in items(payload):
        parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True, insert_pis=True))
        assert parse(ET.fromstring(text, parser), PEP) == parsed(text)


def test_prefixes_in_values_are_kept_as_text() -> None:
    """Elements have no declarations of prefixes, so nobody can resolve those in values."""
    payload = (
        f"<entry xmlns='{ATOM}' xmlns:o='urn:example:o' type='o:thing'><link rel='o:conversation' href='https://x.example/'/>"
        "<category term='o:pond'/><o:kind is='o:note'>o:text</o:kind></entry>"
    )
    for text in items(payload):
        result = parsed(text)
        assert result["links"][0]["rel"] == "o:conversation"
        assert result["tags"] == ["o:pond"]
        assert [(one["namespace"], one["attributes"], one["text"]) for one in result["rest"]] == [
            (ATOM, {"type": "o:thing"}, None),
            ("urn:example:o", {"is": "o:note"}, "o:text"),
        ]
        assert "xmlns:o" not in Item.from_element(from_text(text)).xml.partition("<kind")[0]


def test_an_undeclared_prefix_is_kept_in_the_name_of_the_namespace() -> None:
    payload = f"<entry xmlns='{ATOM}'><title>Frost</title><thr:total>3</thr:total></entry>"
    for text in items(payload):
        result = parse(from_text(text), PEP)
        assert result["replies_total"] is None
        assert [(one["namespace"], one["name"], one["text"]) for one in result["rest"]] == [
            (f"{xmlparse.UNDECLARED}thr", "total", "3")
        ]
