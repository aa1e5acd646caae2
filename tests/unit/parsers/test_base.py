"""Test how relative links are resolved against xml:base (RFC 3986, XML Base), in URIs, in markup and in shapes."""

import string
import xml.etree.ElementTree as ET
from random import Random
from urllib.parse import urljoin

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pubsubcache.parsers import html, uris
from pubsubcache.parsers.shapes import ABSOLUTE_LINK, WORDS, Shape, rest_of
from tests.selection import how_many
from tests.unit.parsers.entries import ABSOLUTE, XHTML, check_markup

BASE = "https://garden.example/beds/spring/plan;v=2?page=1"
UNSAFE = [
    "javascript:alert(1)",
    "JavaScript:alert(1)",
    "java\tscript:alert(1)",
    "\x01javascript:alert(1)",
    "data:text/html,x",
    "file:///etc/passwd",
    "vbscript:x",
]


# Resolution


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("peas", "https://garden.example/beds/spring/peas"),
        ("./peas", "https://garden.example/beds/spring/peas"),
        ("peas/", "https://garden.example/beds/spring/peas/"),
        ("/peas", "https://garden.example/peas"),
        ("//hedge.example", "https://hedge.example"),
        ("//hedge.example/a/../b", "https://hedge.example/b"),
        ("?page=2", "https://garden.example/beds/spring/plan;v=2?page=2"),
        ("peas?page=2", "https://garden.example/beds/spring/peas?page=2"),
        ("#top", "https://garden.example/beds/spring/plan;v=2?page=1#top"),
        ("peas#top", "https://garden.example/beds/spring/peas#top"),
        (";v=3", "https://garden.example/beds/spring/;v=3"),
        ("", "https://garden.example/beds/spring/plan;v=2?page=1"),
        (".", "https://garden.example/beds/spring/"),
        ("..", "https://garden.example/beds/"),
        ("../peas", "https://garden.example/beds/peas"),
        ("../..", "https://garden.example/"),
        ("../../../../peas", "https://garden.example/peas"),
        ("/../peas", "https://garden.example/peas"),
        ("/./peas", "https://garden.example/peas"),
        ("peas.", "https://garden.example/beds/spring/peas."),
        ("..peas", "https://garden.example/beds/spring/..peas"),
        ("./../peas", "https://garden.example/beds/peas"),
        ("peas/.", "https://garden.example/beds/spring/peas/"),
        ("peas/../beans", "https://garden.example/beds/spring/beans"),
        ("peas?a/../b", "https://garden.example/beds/spring/peas?a/../b"),
        ("peas#a/../b", "https://garden.example/beds/spring/peas#a/../b"),
        ("a//../b", "https://garden.example/beds/spring/a/b"),
        ("?", "https://garden.example/beds/spring/plan;v=2?"),
        ("#", "https://garden.example/beds/spring/plan;v=2?page=1#"),
        ("mailto:mira@post.example", "mailto:mira@post.example"),
        ("https:peas", "https:peas"),
        ("1a:b", "https://garden.example/beds/spring/1a:b"),
    ],
)
def test_references_are_resolved(reference: str, expected: str) -> None:
    """The cases of RFC 3986, 5.4."""
    assert uris.resolve(reference, BASE) == expected


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("https://garden.example", "https://garden.example/peas"),
        ("https://garden.example?a=/b/", "https://garden.example/peas"),
        ("https://garden.example/#a/b/", "https://garden.example/peas"),
        ("gemini://garden.example/a/b", "gemini://garden.example/a/peas"),
    ],
)
def test_bases_with_and_without_a_path(base: str, expected: str) -> None:
    assert uris.resolve("peas", base) == expected


segments = st.sampled_from(["a", "b.c", "..", ".", "", "d;e", "%20", "...", "a:b"])
paths = st.lists(segments, max_size=6).map("/".join)
queries = st.sampled_from(["", "?x", "?a/../b", "?a?b"])
fragments = st.sampled_from(["", "#x", "#a/../b"])
references = st.tuples(st.sampled_from(["", "/", "./"]), paths, queries, fragments).map("".join)
bases = st.tuples(st.just("https://garden.example/"), paths, queries, fragments).map("".join)


@settings(max_examples=how_many(300, 1000))
@given(references, bases)
def test_resolution_agrees_with_the_standard_library(reference: str, base: str) -> None:
    """With an authority, the library keeps dots; it drops empty segments, and keeps the fragment of the base."""
    assume(reference and ":" not in reference.split("/")[0])
    assume("//" not in base[8:] + reference and "//" not in uris.resolve(reference, base)[8:])
    assert uris.resolve(reference, base) == urljoin(base, reference)


@given(st.text(alphabet=string.printable + "\u00e9\u202e\ud800", max_size=40), bases)
def test_any_text_is_resolved_to_a_safe_absolute_link_or_refused(text: str, base: str) -> None:
    link = uris.absolute(text, base)
    assert link is None or ABSOLUTE.match(link)
    assert link is None or uris.absolute(link) == link, "it would change when it is read again"
    assert link is None or len(link) <= uris.MAX_LENGTH + uris.MAX_BASE


@given(st.lists(st.text(alphabet="ab./:?#\\ \n", max_size=10) | bases, max_size=5))
def test_any_nested_bases_are_usable_or_none(declared: list[str]) -> None:
    base = None
    for one in declared:
        base = uris.base_of(one, base)
        assert base is None or (ABSOLUTE.match(base) and len(base) <= uris.MAX_BASE)


def test_bases_are_nested() -> None:
    outer = uris.base_of("https://garden.example/a/b")
    assert outer == "https://garden.example/a/b"
    assert uris.base_of(None, outer) == uris.base_of(" ", outer) == outer
    assert uris.base_of("c/", outer) == "https://garden.example/a/c/"
    assert uris.base_of("//hedge.example/", outer) == "https://hedge.example/"
    assert uris.base_of("c/") is None


@pytest.mark.parametrize(
    "base", [*UNSAFE, "xmpp:mira@garden.example", "mailto:a@b", "https:", "https:/a", "https:\\a", "https://?", "urn:a"]
)
def test_unusable_bases_are_ignored(base: str) -> None:
    for outer in (None, "https://garden.example/"):
        if not (outer and base.startswith(("\x01", "java\t"))):
            assert uris.base_of(base, outer) is None
    assert uris.absolute("peas", uris.base_of(base)) is None


def test_a_long_base_is_ignored() -> None:
    start = "https://garden.example/"
    for length in (uris.MAX_BASE, uris.MAX_BASE + 1):
        base = start + "a" * (length - len(start))
        assert (uris.base_of(base) is None) is (length > uris.MAX_BASE)
        assert (uris.base_of("a" * (length - len(start)), start) is None) is (length > uris.MAX_BASE)


@pytest.mark.parametrize("unsafe", UNSAFE)
def test_unsafe_links_are_refused_with_any_base(unsafe: str) -> None:
    for base in (None, "https://garden.example/"):
        assert uris.link(unsafe, base) is None
        assert uris.absolute(unsafe, base) is None


@pytest.mark.parametrize("incomplete", ["https:/admin", "HTTPS:admin", "https:\\\\admin", "https:///admin", "ftp:?x"])
def test_links_that_a_browser_would_complete_are_not_absolute(incomplete: str) -> None:
    assert uris.absolute(incomplete) is None
    assert uris.absolute(incomplete, "https://garden.example/") is None


# Markup


def markup(content: str, base: str | None = None) -> str:
    """Return the sanitised markup of XHTML in an element with this base."""
    tree = ET.fromstring(f"<content><div xmlns='{XHTML}'>{content}</div></content>")
    before = ET.tostring(tree)
    found = html.from_tree(tree, base).xhtml or ""
    check_markup(found)
    assert ET.tostring(tree) == before
    return found.replace(' rel="nofollow noopener noreferrer"', "")


@pytest.mark.parametrize(
    "href", ["peas", "/admin/logout/", "?a", "#a", "//evil.example", "https:/admin", "https:admin", "https:\\admin"]
)
def test_markup_has_no_relative_links(href: str) -> None:
    """A browser would resolve them against the address of the page."""
    assert markup(f"<a href='{href}'>x</a>") == "<div><a>x</a></div>"
    assert markup(f"x<img src='{href}'/>") == "<div>x<img/></div>"
    assert html.from_html(f"<a href='{href}'>x</a>").xhtml == '<div><a rel="nofollow noopener noreferrer">x</a></div>'


def test_links_in_markup_are_resolved() -> None:
    inner = "<a href='peas'>x</a><img src='/r.png' alt='y'/><q cite='#z'>z</q><a href='https://x.example/'>w</a>"
    assert markup(inner, "https://garden.example/a/b") == (
        '<div><a href="https://garden.example/a/peas">x</a><img src="https://garden.example/r.png" alt="y"/>'
        '<q cite="https://garden.example/a/b#z">z</q><a href="https://x.example/">w</a></div>'
    )
    found = html.from_html("<a href=peas>x</a>", "https://garden.example/a/b").xhtml
    assert found
    assert 'href="https://garden.example/a/peas"' in found


def test_bases_within_markup_are_nested() -> None:
    inner = (
        "<p xml:base='c/'><a href='1'>x</a><b xml:base='https://hedge.example/d/'><a href='2'>y</a></b>"
        "<a href='3'>z</a></p><a href='4'>w</a><p xml:base='javascript:x()'><a href='5'>v</a></p>"
    )
    assert markup(inner, "https://garden.example/a/b") == (
        '<div><p><a href="https://garden.example/a/c/1">x</a><b><a href="https://hedge.example/d/2">y</a></b>'
        '<a href="https://garden.example/a/c/3">z</a></p><a href="https://garden.example/a/4">w</a>'
        "<p><a>v</a></p></div>"
    )
    assert markup("<a xml:base='https://garden.example/a/' href='1'>x</a>") == (
        '<div><a href="https://garden.example/a/1">x</a></div>'
    )


def test_the_base_of_elements_that_are_not_shown_counts() -> None:
    inner = "<x xml:base='https://garden.example/a/'><a href='1'>x</a></x><a href='2'>y</a>"
    assert markup(inner) == '<div><a href="https://garden.example/a/1">x</a><a>y</a></div>'


def test_the_outer_div_has_its_base_and_language() -> None:
    tree = ET.fromstring(
        f"<content><div xmlns='{XHTML}' xml:base='c/' xml:lang='de' class='x'><a href='1'>x</a></div></content>"
    )
    assert html.from_tree(tree, "https://garden.example/").xhtml == (
        '<div lang="de"><a href="https://garden.example/c/1" rel="nofollow noopener noreferrer">x</a></div>'
    )


def test_languages_within_markup_are_kept() -> None:
    assert markup("<p xml:lang='de'>a</p><p lang='fr' xml:lang='de'>b</p>") == (
        '<div><p lang="de">a</p><p lang="fr">b</p></div>'
    )
    assert 'lang="&quot;&gt;' in markup("<p xml:lang='\"&gt;&lt;script>'>a</p>")


def test_random_markup_with_bases_is_always_safe() -> None:
    random = Random(5)
    values = [
        "",
        "a",
        "/",
        "//h",
        "https://h/",
        "https:",
        "javascript:x",
        "#",
        "?",
        "\\",
        "..",
        "java\nscript:x",
        "data:,x",
    ]
    for _ in range(1000):
        tree = ET.Element("content")
        for _ in range(random.randrange(1, 8)):
            parent = random.choice(list(tree.iter()))
            element = ET.SubElement(
                parent, f"{{{XHTML}}}{random.choice(['a', 'img', 'p', 'div', 'q', 'table', 'svg'])}"
            )
            element.text = "x"
            for name in ("href", "src", "cite", html._BASE):
                if random.random() < 0.5:
                    element.set(name, random.choice(values))
        found = html.from_tree(tree, random.choice([None, "https://garden.example/a/b", "https://h"])).xhtml
        if found:
            check_markup(found)


# Shapes

SHAPE = Shape(
    "plan",
    "urn:plan",
    attributes={"href": ABSOLUTE_LINK},
    children=(
        Shape("picture", text=ABSOLUTE_LINK, once=True),
        Shape("note", text=WORDS, when=lambda one: one.get("by") is None, once=True),
        Shape("note", text=WORDS, attributes={"by": WORDS}, once=True),
    ),
)


def rest(plan: str) -> list[tuple[str, str, str | None]]:
    found = rest_of(ET.fromstring(f"<item>{plan}</item>"), (SHAPE,))["rest"]
    return [(one["name"], " ".join(one["attributes"].values()), one["text"]) for one in found]


def test_a_link_that_can_be_resolved_is_read() -> None:
    base = "xml:base='https://garden.example/'"
    assert rest("<plan xmlns='urn:plan' href='a'><picture>b</picture></plan>") == [
        ("plan", "a", None),
        ("picture", "", "b"),
    ]
    [(name, attributes, _)] = rest(f"<plan xmlns='urn:plan' {base} href='a'><picture> b </picture></plan>")
    assert (name, attributes) == ("plan", "https://garden.example/"), "the shape does not mention xml:base"
    inner = f"<plan xmlns='urn:plan' href='a'><picture {base}>b</picture></plan>"
    assert rest(inner) == [("plan", "a", None), ("picture", "https://garden.example/", None)]
    assert ("picture", "", "data:x") in rest(f"<plan xmlns='urn:plan' {base}><picture>data:x</picture></plan>")


def test_shapes_of_one_name_are_read_once_each() -> None:
    notes = "<note>1</note><note by='me'>2</note><note>3</note><note by='you'>4</note>"
    assert rest(f"<plan xmlns='urn:plan'>{notes}</plan>") == [("note", "", "3"), ("note", "you", "4")]
