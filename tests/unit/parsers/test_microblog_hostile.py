"""Test the microblog parser with malicious and damaged entries."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from random import Random
from xml.etree.ElementTree import Element

import pytest

from pubsubcache.exceptions import ParseError
from pubsubcache.parsers import ParseContext, elements
from pubsubcache.parsers.microblog import parse
from pubsubcache.utils import xmlform
from tests.selection import how_many
from tests.unit.parsers.entries import ATOM, PEP, PUBSUB, SERVICE, XHTML, check, item, parsed
from tests.unit.parsers.mutations import drop_bytes, mutate
from tests.unit.parsers.test_html import ATTACKS

FULL = f"""
<author><name>Mira Moss</name><uri>xmpp:mira@garden.example</uri><email>mira@post.example</email></author>
<title type='text'>Frost &amp; roses</title>
<title type='xhtml'><div xmlns='{XHTML}'><b>Frost</b> &amp; roses</div></title>
<summary type='html'>&lt;i&gt;short&lt;/i&gt;</summary><content type='text' xml:lang='en'>words</content>
<content type='xhtml' xml:lang='en'><div xmlns='{XHTML}'>
<p>wo<em>rds</em></p><img src='https://x/y' alt='z'/>
</div></content>
<id>tag:garden.example,2026:p1</id><published>2026-01-31T06:00:00Z</published>
<updated>Sat, 31 Jan 2026 07:00 GMT</updated>
<category term='rose'/><category term='frost'/><generator uri='https://rake.example' version='4'>Rake</generator>
<link rel='alternate' type='text/html' href='https://garden.example/p1'/>
<link rel='replies' title='comments'
 href='xmpp:pubsub.garden.example?;node=urn%3Axmpp%3Amicroblog%3A0%3Acomments%2F77'/>
<link rel='enclosure' type='image/jpeg' length='20480' href='https://garden.example/r.jpg'/>
<link rel='via' href='xmpp:otto@hedge.example?;node=urn%3Axmpp%3Amicroblog%3A0;item=p0'/>
<thr:in-reply-to ref='tag:other' href='xmpp:pubsub.garden.example?;node=allotments;item=p1'/>
<geoloc xmlns='http://jabber.org/protocol/geoloc'><lat>48.17</lat><lon>-3.3</lon></geoloc>
<source xml:base='https://feed.example/'><id>tag:feed</id><title>Feed</title><link href='a'/></source>
<contributor><name>Otto</name><uri>https://otto.example/</uri></contributor><rights>free</rights>
<icon>https://garden.example/i.png</icon><title xml:lang='de'>Frost</title><thr:total>3</thr:total>
<link rel='self' hreflang='en' thr:count='2' href='p1.atom' xml:base='https://garden.example/'/>
<m:group xmlns:m='http://search.yahoo.com/mrss/'><m:content url='https://x/film' width='3'/></m:group>
"""
CONTEXTS = [
    PEP,
    SERVICE,
    ParseContext("mira@garden.example", "urn:xmpp:microblog:0:comments/1", "mira@garden.example/x"),
    ParseContext("", "", "no jid", "\ud800"),
    ParseContext("no jid\x00", "node\x00\ud800"),
]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", ["title", "summary", "content"])
def test_no_attack_survives_in_an_entry(attack: str, name: str) -> None:
    entry = item("")[0]
    for kind in ("html", "xhtml", "text/html", "text", None):
        element = ET.SubElement(entry, f"{{{ATOM}}}{name}", {"type": kind} if kind else {})
        element.text = attack
        wrapper = ET.Element(f"{{{PUBSUB}}}item")
        wrapper.append(entry)
        check(parse(wrapper, PEP))


@pytest.mark.parametrize("depth", [900, 1100, 4000])
@pytest.mark.parametrize("kind", ["xhtml", "html", "text", "application/xml"])
def test_deep_payloads(depth: int, kind: str) -> None:
    deep = "<b>" * depth + "deep" + "</b>" * depth
    result = parsed(f"<title>Beds</title><content type='{kind}'><div xmlns='{XHTML}'>{deep}</div></content>")
    assert result["title"] == "Beds"
    assert result["content"] == ("Beds" if kind == "application/xml" else "deep")
    assert result["content_xhtml"] is None


def test_deep_elements_other_than_text_constructs() -> None:
    deep = "<x>" * 4000 + "</x>" * 4000
    names = (
        "author",
        "id",
        "updated",
        "link",
        "category",
        "source",
        "generator",
        "geoloc",
        "icon",
        "rights",
        "unknown",
    )
    for name in names:
        assert parsed(f"<title>Beds</title><{name}>{deep}</{name}>")["title"] == "Beds"
    assert parsed(deep + "<title>Beds</title>")["title"] == "Beds"


def test_a_large_payload() -> None:
    words = "soil " * 50_000
    result = parsed(f"<content type='xhtml'><div xmlns='{XHTML}'><p>{words}</p></div></content>")
    assert len(words) == 250_000
    assert result["content"] == words.strip()
    assert result["content_xhtml"] == f"<div><p>{words}</p></div>"


def test_a_large_payload_of_many_elements() -> None:
    result = parsed(f"<content type='xhtml'><div xmlns='{XHTML}'>{'<p>a<br/>b</p>' * 18_000}</div></content>")
    assert result["content"] == "\n".join(["a", "b"] * 18_000)
    assert result["content_xhtml"].count("<br/>") == 18_000


def test_counts_are_bounded() -> None:
    many = 5 * elements.MAX_ELEMENTS
    result = parsed(
        "".join(f"<category term='t{n}'/>" for n in range(many))
        + "".join(f"<link rel='enclosure' href='https://x/{n}'/>" for n in range(many))
        + "".join(f"<thr:in-reply-to ref='r{n}'/>" for n in range(many))
    )
    assert len(result["tags"]) == elements.MAX_ELEMENTS
    assert len(result["extra"]["attachments"]) == elements.MAX_ELEMENTS
    assert len(result["reply"]["others"]) == elements.MAX_ELEMENTS - 1
    assert parsed("".join(f"<link rel='replies' href='xmpp:x?;node=n{n}'/>" for n in range(many)))["comments"][-1][
        "node"
    ]
    assert parsed("<link/>" * many + "<title/>" * many + "<author/>" * many)["title"] is None


def test_unstorable_characters_are_removed() -> None:
    """XML streams cannot carry such characters, but elements created in other ways can."""
    bad = "a\x00b\ud800c\x1fd"
    element = item(FULL, attributes="id='i1' publisher='x'")
    for one in element.iter():
        one.attrib.update({key: value + bad for key, value in one.attrib.items() if key != "type"})
        one.text = (one.text or "") + bad
        one.tail = bad
    result = parse(element, ParseContext("s" + bad, "n" + bad, bad, bad))
    check(result)
    assert (result["id"], result["node"]) == ("i1abcd", "nabcd")


def test_comments_and_processing_instructions_in_the_tree() -> None:
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True, insert_pis=True))
    text = ET.tostring(item(FULL), encoding="unicode")
    noisy = text.replace("><", "><!-- c --><?p i?><")
    assert noisy != text
    result = parse(ET.fromstring(noisy, parser), PEP)
    check(result)
    assert result["content"] == "words"
    assert result["content_xhtml"] == '<div><p>wo<em>rds</em></p><img src="https://x/y" alt="z"/></div>'


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_attack_survives_in_a_feed_or_a_source(attack: str) -> None:
    for of, path in (("feed", ""), ("entry", "source")):
        root = item(f"<{path}/>" if path else "", of=of, own="xml:base='https://garden.example/'")
        parent = root[0][0] if path else root[0]
        for name in ("title", "subtitle", "rights", "icon", "logo", "generator"):
            ET.SubElement(parent, f"{{{ATOM}}}{name}", {"type": "html", "uri": attack}).text = attack
        ET.SubElement(parent, f"{{{ATOM}}}link", {"href": attack, "logo": attack, "rel": attack})
        check(parse(root, PEP))


def test_resolved_links_do_not_multiply_the_size() -> None:
    base = f"https://garden.example/{'a' * 226}/"
    anchors = "<a href='x'/>b" * 5_000
    links = "<link href='x' rel='y'/>" * 5 + "".join(f"<link href='{n}'/>" for n in range(500))
    for inner in (
        f"<content type='xhtml'><div xmlns='{XHTML}'>{anchors}</div></content>",
        links,
        "<author><uri>x</uri></author>" * 500,
        "<thr:in-reply-to href='x' source='y'/>" * 500,
        f"<content type='xhtml'><div xmlns='{XHTML}'><a href='x'/>b</div></content>" * 500,
    ):
        text = json.dumps(parsed(inner, own=f"xml:base='{base}'"))
        assert base in text
        assert len(text) < 30 * len(inner) + 10_000
        assert "aaaa" not in json.dumps(parsed(inner, own=f"xml:base='{base}a/'"))


def test_many_nested_bases() -> None:
    deep = "".join(f"<b xml:base='{number}/'>" for number in range(4000))
    inner = f"<content type='xhtml'><div xmlns='{XHTML}'>{deep}x{'</b>' * 4000}</div></content>"
    assert parsed(inner, own="xml:base='https://garden.example/'")["content"] == "x"
    nested = "".join(f"<p xml:base='{number}/'><a href='x'>y</a>" for number in range(200)) + "</p>" * 200
    inner = f"<content type='xhtml'><div xmlns='{XHTML}'>{nested}</div></content>"
    markup = parsed(inner, own="xml:base='https://garden.example/'")["content_xhtml"]
    assert "https://garden.example/0/1/2/x" in markup
    assert 50 < markup.count("href=") < 200, "until the base is too long"


# Mutations


def assert_parses_or_refuses(element: Element, context: ParseContext) -> bool:
    try:
        check(parse(element, context))
    except ParseError as error:
        assert str(error).endswith(".")
        return False
    return True


def test_mutated_trees_only_raise_parse_errors() -> None:
    random = Random(1)
    outcomes = set()
    for _ in range(how_many(600, 2000)):
        of = random.choice(["entry", "entry", "feed"])
        root = item(FULL, attributes="id='i1' publisher='mira@garden.example'", of=of)
        mutate(random, root)
        outcomes.add(assert_parses_or_refuses(root, random.choice(CONTEXTS)))
    assert outcomes == {True, False}


def test_texts_with_missing_bytes_only_raise_parse_errors() -> None:
    random = Random(11)
    text = xmlform.to_text(item(FULL, attributes="id='i1' publisher='mira@garden.example'"))
    well_formed = 0
    while well_formed < how_many(300, 1000):
        element = drop_bytes(random, text)
        if element is not None:
            well_formed += 1
            assert_parses_or_refuses(element, random.choice(CONTEXTS))


def test_parsing_needs_neither_settings_nor_an_xmpp_library() -> None:
    code = (
        "import sys, xml.etree.ElementTree as ET\n"
        "from pubsubcache.parsers import ParseContext\n"
        "from pubsubcache.parsers.microblog import parse\n"
        "print(parse(ET.fromstring(sys.argv[1]), ParseContext('a@b', 'n'))['title'])\n"
        "assert 'slixmpp' not in sys.modules and 'django.db' not in sys.modules\n"
    )
    text = ET.tostring(item(FULL), encoding="unicode")
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", code, text], cwd=root, env={"PATH": ""}, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("Frost & roses", "")
