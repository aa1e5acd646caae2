"""Test the normal form of items: equal content becomes equal text, and nothing is lost."""

import xml.etree.ElementTree as ET
from unittest.mock import patch
from xml.etree.ElementTree import Element, SubElement

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from pubsubcache.exceptions import ParseError, TooLarge
from pubsubcache.types import Item
from pubsubcache.utils import xmlform
from pubsubcache.utils.xmlform import PUBSUB, PUBSUB_EVENT, from_text, normal_item, to_text
from tests.elements import same

ATOM = "http://www.w3.org/2005/Atom"


def normal(text: str) -> str:
    """Return the normal form of the first item in a stanza."""
    root = ET.fromstring(text)
    return to_text(normal_item(next(found for found in root.iter() if found.tag.endswith("}item"))))


IQ = f"""<iq xmlns="jabber:client"><pubsub xmlns="{PUBSUB}"><items node="n">
<item id="1">%s</item> trailing </items></pubsub></iq>"""
EVENT = f"""<m:message xmlns:m="jabber:client"><event xmlns="{PUBSUB_EVENT}"><items node="n">
<item id="1">%s</item></items></event></m:message>"""


@pytest.mark.parametrize(
    "payload",
    [
        f'<entry xmlns="{ATOM}"><title type="text">a</title></entry>',
        f'<a:entry xmlns:a="{ATOM}"><a:title type="text">b</a:title></a:entry>',
        '<x xmlns="urn:x" xml:lang="fr" a="1"/>',
        '<plain xmlns=""><sub/></plain>',
        "<inherits><deep>er</deep></inherits>",
        "text <b xmlns='urn:b'/> between",
        "",
    ],
)
def test_iq_and_notification_are_equal(payload: str) -> None:
    assert normal(IQ % payload) == normal(EVENT % payload)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (f'<entry xmlns="{ATOM}" a="1" b="2"/>', f"<entry   b='2'  a='1' xmlns='{ATOM}'></entry>"),
        (f'<entry xmlns="{ATOM}"><t>x</t></entry>', f'<p:entry xmlns:p="{ATOM}"><p:t>x</p:t></p:entry>'),
        (f'<e xmlns="{ATOM}" xmlns:q="urn:q" q:a="1"/>', f'<e xmlns="{ATOM}" xmlns:zz="urn:q" zz:a="1" xmlns:no="n"/>'),
        (f'<e xmlns="{ATOM}">&#38;&#60;&gt;&quot;</e>', f'<e xmlns="{ATOM}">&amp;&lt;><![CDATA["]]></e>'),
        (f'<e xmlns="{ATOM}">\r\n</e>', f'<e xmlns="{ATOM}">\n</e>'),
        (f'<e xmlns="{ATOM}" a="&#9;&#10;"/>', f'<e xmlns="{ATOM}" a="&#x9;&#xA;"/>'),
        (f'<e xmlns="{ATOM}"><f xmlns="urn:f"/></e>', f'<e xmlns="{ATOM}" xmlns:g="urn:f"><g:f/></e>'),
    ],
)
def test_equal_content_has_the_same_normal_form(one: str, other: str) -> None:
    assert normal(IQ % one) == normal(IQ % other)


@pytest.mark.parametrize(
    "payload",
    [
        f'<entry xmlns="{ATOM}" type="a&gt;b"><title xmlns="urn:x"/></entry>',
        '<q:e xmlns:q="urn:&amp;amp;&quot;&lt;" q:a="1">x</q:e>',
        '<plain xmlns=""/>',
        "<inherits/>",
        "text <b xmlns='urn:b'/>",
        "<a xmlns='urn:a'/><b xmlns='urn:b'/>",
        "only text",
        "",
    ],
)
def test_payload_namespace_is_found_in_the_beginning_of_the_text(payload: str) -> None:
    whole = f"""<item xmlns="{PUBSUB}" id="'&lt;&quot;&gt;" publisher="bob@example.org">{payload}</item>"""
    text = to_text(normal_item(from_text(whole)))
    assert xmlform.namespace_in(text) == xmlform.payload_namespace(from_text(text))


def test_payload_namespace_beyond_the_beginning_is_not_found() -> None:
    text = Item.from_element(from_text(f'<item xmlns="{PUBSUB}" id="1">text<b xmlns="urn:b"/></item>')).xml
    assert xmlform.namespace_in(text) == "urn:b"
    assert xmlform.namespace_in(text[: text.index("<b")]) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('<e xmlns="urn:1"/>', '<e xmlns="urn:2"/>'),
        ('<e xmlns="urn:1"> </e>', '<e xmlns="urn:1"/>'),
        ('<e xmlns="urn:1">&#13;</e>', '<e xmlns="urn:1">\n</e>'),
        ('<e xmlns="urn:1" a="1"/>', '<e xmlns="urn:1" xmlns:q="urn:1" q:a="1"/>'),
        ('<e xmlns="urn:1"><f/>x</e>', '<e xmlns="urn:1">x<f/></e>'),
        ('<e xmlns="urn:1" xml:lang="de"/>', '<e xmlns="urn:1" xml:lang="fr"/>'),
        ("<e><f/></e>", '<e><f xmlns=""/></e>'),
    ],
)
def test_different_content_has_different_normal_forms(one: str, other: str) -> None:
    assert normal(IQ % one) != normal(IQ % other)


@pytest.mark.parametrize(
    "payload",
    [
        '<xml:odd a="1">text<sub xmlns="urn:s"/></xml:odd>',
        '<e xmlns="urn:1"><xml:odd><f/><xml:g/></xml:odd></e>',
        '<e xmlns="urn:1" xmlns:q="urn:q" q:a="1" q:b="&#13;&lt;&quot;" xml:lang="en"><f xmlns="">]]&gt;</f></e>',
    ],
)
def test_normal_form_can_be_parsed(payload: str) -> None:
    text = normal(IQ % payload)
    assert to_text(from_text(text)) == text


def test_the_item_itself() -> None:
    text = normal(f'<iq><items xmlns="{PUBSUB}"><item id="a&amp;b" publisher="x@y"/>tail</items></iq>')
    assert text == f'<item xmlns="{PUBSUB}" id="a&amp;b" publisher="x@y"/>'


names = st.text(st.sampled_from("abcXYZ_é"), min_size=1, max_size=5)
namespaces = st.sampled_from(["", "urn:a", "urn:b?c=1&d='\"<", PUBSUB, ATOM])
characters = st.characters(exclude_categories=["Cs"], exclude_characters=["\ufffe", "\uffff"]).filter(
    lambda character: ord(character) >= 32 or character in "\t\n\r"
)
texts = st.text(characters, max_size=8)


@st.composite
def elements(draw: st.DrawFn, depth: int = 3) -> Element:
    def qualified() -> str:
        namespace = draw(namespaces)
        return f"{{{namespace}}}{draw(names)}" if namespace else draw(names)

    attributes = {qualified(): draw(texts) for _ in range(draw(st.integers(0, 3)))}
    if draw(st.booleans()):
        attributes[f"{{{xmlform.XML}}}lang"] = draw(texts)
    element = Element(qualified(), attributes)
    element.text = draw(texts) or None
    for _ in range(draw(st.integers(0, 3)) if depth else 0):
        child = draw(elements(depth - 1))
        child.tail = draw(texts) or None
        element.append(child)
    return element


@given(elements())
def test_text_and_element_round_trip(element: Element) -> None:
    text = to_text(element)
    again = from_text(text)
    assert same(again, element)
    assert to_text(again) == text


@given(elements())
def test_serialisation_of_the_standard_library_has_the_same_content(element: Element) -> None:
    if "\r" not in ET.tostring(element, "unicode"):  # the standard library does not always escape it
        assert to_text(ET.fromstring(ET.tostring(element, "utf-8"))) == to_text(element)


@given(elements())
def test_normal_form_is_idempotent(element: Element) -> None:
    item = Element(f"{{{PUBSUB_EVENT}}}item", {"id": "1"})
    item.append(element)
    once = normal_item(item)
    assert to_text(normal_item(once)) == to_text(once)
    assert item[0] is element  # the original is not modified


def test_white_space_around_the_payload_is_removed() -> None:
    """Prosody includes it in notifications, but does not store it."""
    entry = f'<entry xmlns="{ATOM}"> <title> a </title>\n</entry>'
    assert normal(EVENT % f"\n  {entry}\n") == normal(IQ % entry)
    assert "<title> a </title>\n</entry></item>" in normal(EVENT % f"\n  {entry}\n")
    assert normal(EVENT % f" words {entry} more ") == normal(IQ % f" words {entry} more ")
    assert normal(EVENT % f" words {entry} more ") != normal(IQ % entry)


def deep(depth: int) -> Element:
    root = parent = Element(f"{{{PUBSUB}}}item", {"id": "deep"})
    for _ in range(depth - 1):
        parent = SubElement(parent, "{urn:d}d")
    parent.text = "bottom"
    return root


def test_depth_is_bounded_only_by_max_depth() -> None:
    with patch.object(xmlform, "MAX_DEPTH", 20_000):
        item = Item.from_element(deep(20_000))
        assert xmlform.words(from_text(item.xml)) == "bottom"
        assert to_text(normal_item(from_text(item.xml))) == item.xml
        assert xmlform.indented(item.xml)
        assert "deeper than 20000" in Item.from_element(deep(20_001)).left_out


def test_size_is_bounded_in_bytes() -> None:
    item = Element(f"{{{PUBSUB}}}item", {"id": "1"})
    for letter in ("x", "é", "𝄞"):
        item.text = letter * 1000
        size = len(to_text(item).encode())
        with override_settings(PUBSUBCACHE_MAX_ITEM_SIZE=size):
            assert to_text(item)
        with override_settings(PUBSUBCACHE_MAX_ITEM_SIZE=size - 1), pytest.raises(TooLarge):
            to_text(item)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no xml",
        "<a>",
        "<a/><b/>",
        "<!DOCTYPE a><a/>",
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        "<a>&undefined;</a>",
        "<a>\x00</a>",
        "<a>\ud800</a>",
    ],
)
def test_invalid_xml_raises_parse_error(text: str) -> None:
    with pytest.raises(ParseError):
        from_text(text)


def test_words_are_those_of_the_content() -> None:
    item = ET.fromstring(f'<item xmlns="{PUBSUB}" id="i">\n <a xmlns="urn:a" b="no">one <i>two</i>\nthree</a> </item>')
    assert xmlform.words(item) == "one two three"


HTML = "http://www.w3.org/1999/xhtml"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            '<a type="html">&lt;p class="x"&gt;One &amp;amp; t&lt;b&gt;w&lt;/b&gt;o&lt;br/&gt;three&lt;/p&gt;</a>',
            "One & two three",
        ),
        ('<a type="html">a &lt; b &amp;&amp; c &gt; d</a>', "a < b && c > d"),
        ('<a type="text/html">1&lt;!-- p -- q --&gt;2&lt;script&gt;var x&lt;/script&gt;3&lt;STYLE&gt;y</a>', "1 2 3"),
        ('<a type="html">cut &lt;off now</a>', "cut"),
        ('<a type="html"> &lt;b&gt;x&lt;/b&gt; tail</a>tail &lt;p&gt;', "x tail tail <p>"),
        ("<a>&lt;p&gt; as it is</a>", "<p> as it is"),
        (f'<div xmlns="{HTML}"><p>H<b>e</b>llo</p><p>you<br/>there</p></div>', "Hello you there"),
        ("<b>one</b><b>two</b>", "one two"),
        ("<id>xmpp:a@b.example?;node=n;item=i</id><uri>xmpp:a@b.example</uri>", "a@b.example a@b.example"),
        ("<id>xmpp://c@d.example/a@b.example/r?join</id>", "a@b.example"),
        ("<id>urn:uuid:1225c695</id><id>tag:example.org,2026:item</id><a>2026-11-30T18:00:00+01:00</a>", ""),
        (
            "<a>see urn:x and 2026-11-30T18:00Z</a><a>http://b.example/item</a>",
            "see urn:x and 2026-11-30T18:00Z http://b.example/item",
        ),
        ("<a>cafe\u0301 \u0438\u0306</a>", "caf\u00e9 \u0439"),
        (
            '<category term="how-to" label="How to"/><category term="compost" label="compost" scheme="urn:x"/>ends',
            "ends How to how-to compost",
        ),
        ('<conference name="Rose growers" autojoin="true"><nick>Mira</nick></conference>', "Mira Rose growers"),
        ('<link title="The pond" rel="alternate" href="https://a.example/"/><url name="urn:x"/>', "The pond"),
        (
            f'<p xmlns="{HTML}"><a name="top" title="Up">H</a><abbr title="x y">e</abbr>y<img alt="A frog"/></p>',
            "Hey Up x y A frog",
        ),
        (f"<data>{'QUJD' * 200}</data>", ""),
        (f"<a>{'日' * 600} {'a' * 500} {'a' * 501}</a>", f"{'日' * 600} {'a' * 500}"),
    ],
)
def test_words_are_those_that_people_read(content: str, expected: str) -> None:
    item = ET.fromstring(f'<item xmlns="{PUBSUB}"><entry xmlns="urn:a">{content}</entry></item>')
    assert xmlform.words(item) == expected


@pytest.mark.parametrize("piece", ["<", "<!--", "<script>", "</", "<b", "&", "<!", "<a <"])
def test_words_of_hostile_markup_are_bounded(piece: str) -> None:
    item = Element("item")
    ET.SubElement(item, "content", {"type": "html"}).text = piece * 200_000
    assert len(xmlform.words(item)) <= len(piece) * 200_000


def test_payload() -> None:
    item = ET.fromstring(f'<item xmlns="{PUBSUB}"> <a xmlns="urn:a"/><b xmlns="urn:b"/></item>')
    assert xmlform.payload_namespace(item) == "urn:a"
    assert xmlform.first_payload(Element("item")) is None
    assert xmlform.payload_namespace(Element("item")) is None
    assert xmlform.payload_namespace(ET.fromstring("<item><a/></item>")) == ""
