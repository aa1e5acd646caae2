"""Test that the parser accepts all names, and that its memory is bounded."""

import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsubcache.exceptions import ParseError, TooLarge
from pubsubcache.utils import xmlform
from pubsubcache.utils.xmlform import PUBSUB, PUBSUB_EVENT, from_text, normal_item, split_tag, to_text
from pubsubcache.utils.xmlparse import MAX_NAMESPACE, UNDECLARED, XML, XMLNS, Refused, StanzaParser, XmlError
from tests.elements import same

HEADER = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
LIMIT = 10_000
DEPTH = 50


def parser(limit: int = LIMIT, max_depth: int = DEPTH) -> StanzaParser:
    made = StanzaParser(limit, max_depth)
    assert [kind for kind, _ in made.feed(HEADER)] == ["open"]
    return made


def kinds(found: Iterator[tuple[str, Element]]) -> list[str]:
    return [kind for kind, _ in found]


def test_elements_in_hollow_grandchildren_are_left_out() -> None:
    asked: list[tuple[str, str, dict[str, str]]] = []

    def is_hollow(stanza: Element, tag: str, attributes: dict[str, str]) -> bool:
        asked.append((stanza.tag, tag, attributes))
        return "hollow" in attributes

    made = StanzaParser(LIMIT, DEPTH, is_hollow)
    list(made.feed(HEADER))
    whole = "<b><c>text<d/></c>tail</b>"
    text = f"<m><a>{whole}<b hollow='1'>text<c><d>text</d></c>text<c/></b>{whole}</a></m><m><a>{whole}</a></m>"
    found = [element for kind, element in made.feed(text.encode()) if kind == "stanza"]
    names = '<m xmlns="jabber:client">'
    left = [f"{names}<a>{whole}<b hollow='1'>texttext</b>{whole}</a></m>", f"{names}<a>{whole}</a></m>"]
    assert all(same(one, ET.fromstring(other)) for one, other in zip(found, left, strict=True))
    assert [attributes for _, _, attributes in asked] == [{}, {"hollow": "1"}, {}, {}]
    assert asked[0][:2] == ("{jabber:client}m", "{jabber:client}b")


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ('<x xmlns="urn:a}b"/>', "{urn:a}b}x"),
        ('<x xmlns="}"/>', "{}}x"),
        ('<x xmlns="{urn:a}"/>', "{{urn:a}}x"),
        ('<p:x xmlns:p="urn:a}b"/>', "{urn:a}b}x"),
        ("<xml:x/>", f"{{{XML}}}x"),
        (f'<x xmlns="{XML}"/>', f"{{{XML}}}x"),
        (f'<x xmlns="{XMLNS}"/>', f"{{{XMLNS}}}x"),
        ("<xmlns:x/>", f"{{{XMLNS}}}x"),
        ('<xml:x xmlns:xml="urn:other"/>', f"{{{XML}}}x"),
        (f'<p:x xmlns:p="{XMLNS}"/>', f"{{{XMLNS}}}x"),
        ("<p:x/>", f"{{{UNDECLARED}p}}x"),
        ('<p:x xmlns:p=""/>', f"{{{UNDECLARED}p}}x"),
        ("<:x/>", f"{{{UNDECLARED}}}x"),
        ("<p:/>", f"{{{UNDECLARED}p:}}_"),
        ("<a:b:c/>", f"{{{UNDECLARED}a:b}}c"),
        ('<p:1x xmlns:p="urn:p"/>', "{urn:p}_1x"),
        ('<p:\u30fcx xmlns:p="urn:p"/>', "{urn:p}_\u30fcx"),
        ('<p:éx xmlns:p="urn:p"/>', "{urn:p}éx"),
        ("<x/>", "x"),
    ],
)
def test_any_name_is_accepted(text: str, tag: str) -> None:
    element = from_text(text)
    assert element.tag == tag
    assert same(from_text(to_text(element)), element)


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ('<x xmlns:p="urn:a}b" p:y="1" y="2"/>', {"{urn:a}b}y": "1", "y": "2"}),
        ('<x xmlns:p="urn:1" xmlns:q="urn:1" p:y="1" q:y="2"/>', {"{urn:1}y": "1"}),
        ('<x p:y="1" xmlns:p="urn:1"/>', {"{urn:1}y": "1"}),
        ('<x p:y="1"/>', {f"{{{UNDECLARED}p}}y": "1"}),
        ('<x xml:lang="en" xml:odd="1"/>', {f"{{{XML}}}lang": "en", f"{{{XML}}}odd": "1"}),
        ('<x xmlns:="urn:1" :y="1"/>', {"{urn:1}y": "1"}),
    ],
)
def test_any_attribute_is_accepted(text: str, attributes: dict[str, str]) -> None:
    element = from_text(text)
    assert element.attrib == attributes
    assert same(from_text(to_text(element)), element)


def test_declarations_apply_only_within_their_element() -> None:
    text = '<a xmlns="1" xmlns:p="2"><p:b xmlns:p="3" xmlns=""><p:c/><d/></p:b><p:e/><f/></a>'
    assert [element.tag for element in from_text(text).iter()] == ["{1}a", "{3}b", "{3}c", "d", "{2}e", "{1}f"]


def test_long_namespace_is_replaced_by_its_hash() -> None:
    one, other = (from_text(f'<x xmlns="{"u" * 100_000}{end}"><y/></x>') for end in "12")
    assert one.tag != other.tag
    assert len(one.tag) <= MAX_NAMESPACE + 3
    assert split_tag(one.tag)[0] == split_tag(one[0].tag)[0]
    assert same(from_text(to_text(one)), one)


prefixes = st.sampled_from(["", ":", "p:", "q:", "xml:", "xmlns:", "p:q:", "ns0:", "é:"])
locals_ = st.sampled_from(["a", "b", "_", "é", "item", "xmlns", "xml", "ns0", "-1", "·x"])
uris = st.sampled_from(
    ["", "urn:a", "urn:a}b", "}", "{", "{}", XML, XMLNS, "jabber:client", "a&amp;&quot;&lt;'", "&#10;", "u" * 1001]
)


declarations = st.sampled_from(["xmlns", "xmlns:p", "xmlns:q", "xmlns:xml", "xmlns:ns0", "xmlns:"])
texts = st.sampled_from(["", "text", "}"])


@st.composite
def odd_xml(draw: st.DrawFn, depth: int = 3) -> str:
    """Generate XML 1.0 that often violates the rules for namespaces."""
    name = draw(prefixes) + draw(locals_)
    name = f"_{name}" if name[0] in "-·" else name
    attributes: dict[str, str] = {}
    for _ in range(draw(st.integers(0, 3))):
        attributes[draw(declarations)] = draw(uris)
    for _ in range(draw(st.integers(0, 3))):
        key = draw(prefixes) + draw(locals_)
        if key[0] not in "-·" and not key.startswith("xmlns"):
            attributes[key] = draw(st.sampled_from(["", "1", "&#10;&#13;", "}"]))
    written = "".join(f' {key}="{value}"' for key, value in attributes.items())
    inner = "".join(draw(st.lists(odd_xml(depth - 1), max_size=3))) if depth else draw(texts)
    return f"<{name}{written}>{inner}</{name}>"


@given(odd_xml())
def test_parsed_documents_round_trip(text: str) -> None:
    element = from_text(text)
    kept = to_text(element)
    assert same(from_text(kept), element)
    assert to_text(from_text(kept)) == kept


@given(odd_xml())
def test_item_with_any_names_round_trips(text: str) -> None:
    item = normal_item(from_text(f'<item xmlns="http://jabber.org/protocol/pubsub#event" id="1">{text}</item>'))
    kept = to_text(item)
    assert to_text(normal_item(from_text(kept))) == kept


def test_namespace_with_the_prefix_of_notifications_is_distinct() -> None:
    def kept(around: str) -> str:
        payload = f'<x xmlns="{PUBSUB_EVENT}}}y"/>'
        return to_text(normal_item(from_text(f'<item xmlns="{around}" id="1">{payload}</item>')))

    assert kept(PUBSUB_EVENT) == kept(PUBSUB)


@given(odd_xml(), st.integers(1, 40))
def test_streams_and_documents_have_the_same_names(text: str, step: int) -> None:
    stream = parser(limit=1_000_000)
    octets = f"<message>{text}</message><iq/>".encode()
    found = [event for at in range(0, len(octets), step) for event in stream.feed(octets[at : at + step])]
    document = from_text(
        f"<s xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'><message>{text}</message><iq/></s>"
    )
    assert [kind for kind, _ in found] == ["stanza", "stanza"]
    assert all(same(element, child) for (_, element), child in zip(found, document, strict=True))


@given(odd_xml())
def test_valid_namespaces_are_read_as_by_the_standard_library(text: str) -> None:
    try:
        expected = ET.fromstring(text)
    except ET.ParseError:
        return
    if not any("}" in split_tag(element.tag)[0] or len(element.tag) > MAX_NAMESPACE for element in expected.iter()):
        found = from_text(text)
        assert [element.tag for element in found.iter()] == [element.tag for element in expected.iter()]


def test_text_around_elements_is_kept() -> None:
    stream = parser()
    octets = b" \n<message>a<x>b</x>c<!-- no --><y/>d</message> "
    [(kind, stanza)] = [event for at in range(len(octets)) for event in stream.feed(octets[at : at + 1])]
    assert kind == "stanza"
    assert ET.tostring(stanza) == b'<ns0:message xmlns:ns0="jabber:client">a<ns0:x>b</ns0:x>c<ns0:y />d</ns0:message>'


def test_stanzas_before_an_error_are_returned() -> None:
    stream = parser()
    feed = stream.feed(b"<message/><iq></message>")
    assert next(feed)[0] == "stanza"
    with pytest.raises(XmlError):
        next(feed)
    assert stream.unfinished is not None
    assert stream.unfinished.tag == "{jabber:client}iq"


def test_end_of_the_stream_is_reported() -> None:
    assert kinds(parser().feed(b"<message/></stream:stream>")) == ["stanza", "close"]


@pytest.mark.parametrize(
    "inner",
    [
        "x" * 20_000,
        "<x/>" * 1000,  # elements count by their memory, not only by their bytes
        "".join(f"<n{number}/>" for number in range(400)).join(["<x xmlns='" + "u" * 900 + "'>", "</x>"]),
        f"<x a='{'1' * 9000}'/><y a='{'1' * 9000}'/>",
        "<x>" * 3000 + "</x>" * 3000,
    ],
)
@pytest.mark.parametrize("step", [100_000, 1000])
def test_stanza_over_the_limit_is_skipped_and_the_stream_continues(inner: str, step: int) -> None:
    stream = parser()
    octets = f"<iq id='1' from='a@b'><q xmlns='urn:q'>{inner}</q></iq><message><body>hi</body></message>".encode()
    found = [event for at in range(0, len(octets), step) for event in stream.feed(octets[at : at + step])]
    assert [kind for kind, _ in found] == ["skipped", "stanza"]
    assert found[0][1].attrib == {"id": "1", "from": "a@b"}
    assert len(found[0][1]) == 0
    assert found[1][1][0].tag == "{jabber:client}body"


def test_endless_stanza_is_refused() -> None:
    stream = parser()
    fed = 0
    list(stream.feed(b"<message>"))
    with pytest.raises(Refused, match="stanza longer than 40000 bytes"):
        while fed < 10 * LIMIT:
            list(stream.feed(b"x" * 1000))
            fed += 1000
    assert fed <= 4 * LIMIT
    assert stream.unfinished is not None


def test_endless_tag_is_refused() -> None:
    stream = parser()
    list(stream.feed(b"<message a='"))
    with pytest.raises(Refused, match="tag longer than 10000 bytes"):
        for _ in range(20):
            list(stream.feed(b"x" * 1000))


def test_a_long_tag_is_read_in_linear_time() -> None:
    def seconds(size: int) -> float:
        value = "".join(f"{number:08d}" for number in range(size // 8))
        octets = f"<message><x a='{value}'/></message><iq/>".encode()
        stream = parser(limit=2 * size)
        began = time.process_time()
        found = [event for at in range(0, len(octets), 4096) for event in stream.feed(octets[at : at + 4096])]
        took = time.process_time() - began
        assert [kind for kind, _ in found] == ["stanza", "stanza"]
        assert found[0][1][0].get("a") == value
        return took

    assert seconds(8_000_000) < 40 * max(seconds(800_000), 0.005)


def test_limit_applies_to_each_stanza() -> None:
    stream = parser()
    for _ in range(100):
        assert kinds(stream.feed(b"<message><x>" + b"y" * 5000 + b"</x></message>")) == ["stanza"]


@pytest.mark.parametrize("step", [100_000, 7])
def test_elements_that_are_too_deep_are_dropped(step: int) -> None:
    stream = parser(max_depth=5)
    deep = "<a xmlns='urn:1'>t<b xmlns='urn:2'>u<c xmlns='urn:3'>v<d/>w</c>x</b>y</a>"
    octets = f"<message><l2><l3>{deep}{deep}z</l3></l2><end/></message><message><a/></message>".encode()
    found = [event for at in range(0, len(octets), step) for event in stream.feed(octets[at : at + step])]
    expected = "<message><l2><l3>%sz</l3></l2><end/></message>" % ("<a xmlns='urn:1'>t<b xmlns='urn:2'>ux</b>y</a>" * 2)
    assert [kind for kind, _ in found] == ["stanza", "stanza"]
    assert same(found[0][1], from_text(expected.replace("<message>", "<message xmlns='jabber:client'>")))
    assert found[1][1][0].tag == "{jabber:client}a"


def test_item_with_dropped_elements_is_still_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xmlform, "MAX_DEPTH", 10)
    stream = parser(max_depth=10 + 16)
    wrapped = b"<message><event><items><item>" + b"<x>" * 100 + b"</x>" * 100 + b"</item></items></event></message>"
    [(_, stanza)] = stream.feed(wrapped)
    with pytest.raises(TooLarge):
        to_text(normal_item(stanza[0][0][0]))


def test_names_of_many_stanzas_are_not_kept() -> None:
    stream = parser(limit=1_000_000)
    for number in range(2000):
        assert kinds(stream.feed(f"<message><x{number} xmlns='urn:{'u' * 900}{number}'/></message>".encode())) == [
            "stanza"
        ]
    assert stream._names.size < 100_000


@pytest.mark.parametrize("text", ["<!DOCTYPE a><a/>", "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"])
def test_a_document_type_definition_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="document type definition is refused"):
        from_text(text)


def test_definition_within_cdata_is_text() -> None:
    assert from_text("<a><![CDATA[<!DOCTYPE html>]]></a>").text == "<!DOCTYPE html>"
