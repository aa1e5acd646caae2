import xml.etree.ElementTree as ET
from random import Random

import nh3
import pytest

from pubsubcache.parsers import html
from tests.unit.parsers.entries import XHTML, check_markup

ATTACKS = [
    "<script>alert(1)</script>",
    "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
    "<script>alert(1)",
    "<scr<script>ipt>alert(1)</scr</script>ipt>",
    "<img src=x onerror=alert(1)>",
    "<img src='x' onerror='alert(1)'/>",
    '<img """><script>alert(1)</script>">',
    "<img/src=x/onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><style><img src=x onerror=alert(1)></style></svg>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<form><math><mtext></form><form><mglyph><style></math><img src onerror=alert(1)>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<a href='javascript:alert(1)'>x</a>",
    "<a href=' javascript:alert(1)'>x</a>",
    "<a href='java&#9;script:alert(1)'>x</a>",
    "<a href='&#106;avascript:alert(1)'>x</a>",
    "<a href='data:text/html;base64,PHNjcmlwdD4='>x</a>",
    "<a href='/admin/logout/'>x</a><img src='/admin/logout/'>",
    "<iframe src='javascript:alert(1)'></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data='javascript:alert(1)'></object><embed src='x.swf'>",
    "<base href='https://evil.example/'><meta http-equiv=refresh content='0;url=javascript:alert(1)'>",
    "<style>body{background:url(javascript:alert(1))}</style><link rel=stylesheet href=x>",
    "<div style='background:url(javascript:alert(1))' onclick='alert(1)'>x</div>",
    "<form action='https://evil.example'><input name=password><button>x</button></form>",
    "<p id='location' name='cookie' class='x'>x</p>",
    "<!--><img src=x onerror=alert(1)>-->",
    "<!-- --!><img src=x onerror=alert(1)>",
    "<![CDATA[><img src=x onerror=alert(1)>]]>",
    "<?xml version='1.0'?><img src=x onerror=alert(1)>",
    "<title><img src=x onerror=alert(1)></title><textarea></textarea><script>alert(1)</script>",
    "<p title='&quot; onmouseover=&quot;alert(1)'>x</p>",
    "<xmp><script>alert(1)</script></xmp><plaintext><script>alert(1)</script>",
    "<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>",
    "<template><script>alert(1)</script></template>",
    "<video src=x onerror=alert(1)><source onerror=alert(1)></video><marquee onstart=alert(1)>",
]


def markup_of(text: str) -> str:
    """Return the sanitised markup of HTML, or "", after checking it."""
    markup = html.from_html(text).xhtml or ""
    if markup:
        check_markup(markup)
    return markup


@pytest.mark.parametrize("attack", ATTACKS)
def test_active_content_is_removed_from_html(attack: str) -> None:
    markup = markup_of(f"<p>before</p>{attack}<p>after</p>")
    assert "before" in markup


@pytest.mark.parametrize("attack", ATTACKS)
def test_active_content_is_removed_from_xhtml(attack: str) -> None:
    """The same attacks as character data, and as elements in the XHTML namespace and in none."""
    for namespace in (XHTML, ""):
        tree = html.parse(attack)
        tree.tag = "div"
        for element in tree.iter():
            element.tag = f"{{{namespace}}}{element.tag}" if namespace else element.tag
        text = ET.SubElement(tree, f"{{{namespace}}}p" if namespace else "p", {"onclick": "alert(1)", "title": attack})
        text.text = attack
        rich = html.from_tree(tree)
        assert rich.xhtml
        check_markup(rich.xhtml)


@pytest.mark.parametrize("attack", ATTACKS)
def test_html_parser_finds_nothing_new_in_the_result(attack: str) -> None:
    """An HTML parser finds no element or attribute in the result that an XML parser does not."""
    markup = markup_of(f"<p>before{attack}after</p>")
    again = nh3.clean(markup, tags=set(html.TAGS), url_schemes=set(html.SCHEMES), url_relative="deny", link_rel=None)
    assert html.serialise(html.parse(again)) == html.serialise(html.parse(markup)).replace(
        ' rel="nofollow noopener noreferrer"', ""
    )


def test_safe_markup_is_kept() -> None:
    source = (
        '<p>One <strong>two</strong> <a href="https://garden.example/a?b=1&amp;c=2">three</a><br>'
        '<img src="https://garden.example/r.png" alt="Rose"></p><ul><li>four<li>five</ul>'
    )
    assert markup_of(source) == (
        '<div><p>One <strong>two</strong> <a href="https://garden.example/a?b=1&amp;c=2"'
        ' rel="nofollow noopener noreferrer">three</a><br/><img src="https://garden.example/r.png" alt="Rose"/></p>'
        "<ul><li>four</li><li>five</li></ul></div>"
    )


def test_entities_and_void_elements_come_out_as_xhtml() -> None:
    assert markup_of("a&nbsp;b&eacute;<hr>c &lt;d&gt; &amp;amp;") == "<div>a\xa0b\xe9<hr/>c &lt;d&gt; &amp;amp;</div>"


def test_text_separates_blocks_and_only_blocks() -> None:
    rich = html.from_html(
        "<h1>Soil</h1><p>com<b>post</b> and\n  <i>leaf</i>mould</p>one<br>two<table><tr><td>a<td>b</table>"
    )
    assert rich.text == "Soil\ncompost and leafmould\none\ntwo\na\nb"


def test_text_of_images_is_their_alt() -> None:
    assert html.from_html("see<img src='https://x/y' alt='a rose'>there").text == "see a rose there"


def test_text_has_no_scripts_comments_or_styles() -> None:
    rich = html.from_html("a<script>b</script><style>c</style><!-- d --><head><title>e</title></head>f")
    assert rich.text == "af"


@pytest.mark.parametrize("source", ["", "   ", "<p></p>", "<script>x</script>", "<!-- x -->", "<div><br></div>"])
def test_invisible_markup_becomes_none(source: str) -> None:
    assert html.from_html(source) == (None, None)


def test_image_alone_is_kept() -> None:
    assert html.from_html("<img src='https://x/y'>") == (None, '<div><img src="https://x/y"/></div>')


@pytest.mark.parametrize(
    "source", ["a < b", "a <b", "1<2>0", "<<p>x", "<3", "</", "<a b='", "x<!-- y", "x<![CDATA[", "&#0;x", "&"]
)
def test_broken_html_keeps_its_words(source: str) -> None:
    markup_of(source)
    rich = html.from_html(source)
    assert rich.text
    assert rich.text[0] == source[0].replace("&", rich.text[0])


def test_unknown_xhtml_elements_are_replaced_by_their_text() -> None:
    tree = ET.fromstring(
        f"<div xmlns='{XHTML}'>a<svg xmlns='http://www.w3.org/2000/svg'><a>b</a></svg><blink>c</blink></div>"
    )
    assert html.from_tree(tree) == ("abc", "<div>abc</div>")


def test_an_outer_div_is_not_doubled() -> None:
    tree = ET.fromstring(f"<content><div xmlns='{XHTML}'> <p>a</p> </div></content>")
    assert html.from_tree(tree).xhtml == "<div><p>a</p></div>"


@pytest.mark.parametrize("depth", [900, 1100, 4000, 50_000])
def test_deep_markup_keeps_its_text_and_raises_nothing(depth: int) -> None:
    assert html.from_html("<div>" * depth + "deep" + "</div>" * depth) == ("deep", None)
    assert html.from_html("<b>" * depth + "deep") == ("deep", None)


def test_realistic_depth_is_kept() -> None:
    markup = markup_of("<blockquote>" * 100 + "deep")
    assert markup.count("<blockquote>") == 100


def test_misnested_formatting_does_not_multiply() -> None:
    """An HTML parser turns 30 KB of such markup into 40 MB."""
    soup = "".join(f"<p><b title={number}>x" for number in range(800))
    assert len(nh3.clean(soup)) > 100 * len(soup)
    rich = html.from_html(soup)
    assert rich.text
    assert len(rich.xhtml or "") < 4 * len(soup)


def test_misnested_formatting_of_a_tree_does_not_multiply() -> None:
    tree = inner = ET.Element(f"{{{XHTML}}}div")
    inner = ET.SubElement(inner, f"{{{XHTML}}}p")
    for number in range(200):
        inner = ET.SubElement(inner, f"{{{XHTML}}}b", {"title": f"{number:0100}"})
    for _ in range(20_000):
        ET.SubElement(inner, f"{{{XHTML}}}p").text = "x"
    assert html.from_tree(tree).xhtml is None


def test_markup_does_not_grow_out_of_proportion() -> None:
    """An item may have a thousand pieces of markup, so that a bound for each of them is not enough."""
    bold = f"<b title='{'x' * 1000}'>"
    assert markup_of(f"{bold}bold</b>" + "<p>x</p>" * 500).count("<p>") == 500
    misnested = f"<p>{bold}{'<p>x</p>' * 500}</b></p>"
    assert len(nh3.clean(misnested)) > 500 * len(bold)
    tree = ET.fromstring(f"<div xmlns='{XHTML}'>{misnested}</div>")
    assert html.from_tree(tree).text
    assert html.from_tree(tree).xhtml is None


def test_random_soup_is_always_safe_and_well_formed() -> None:
    random = Random(3)
    pieces = [
        "<",
        ">",
        "/",
        "'",
        '"',
        "=",
        " ",
        "a",
        "b",
        "p",
        "div",
        "x",
        "&lt;",
        "&",
        "<!--",
        "-->",
        "<p>",
        "</p>",
        "<b>",
    ]
    pieces += [
        "<a href='",
        "javascript:",
        "onload=",
        "<img src=",
        "<script>",
        "</script>",
        "<table>",
        "<td>",
        "\x00",
        "]]>",
    ]
    for _ in range(3000):
        markup_of("".join(random.choices(pieces, k=random.randrange(30))))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("a <b c <i>d</i>", "a <b c d"),
        ("<![foo[ x", "<![foo[ x"),
        ("x<![if !mso]>y<![endif]>z", "xyz"),
        ("<!DOCTYPE html><p>x", "x"),
        ("x<!-- a -- b > c", "x"),
        ("1<2 and 3>2 <b>x</b>", "1<2 and 3>2 x"),
    ],
)
def test_unfinished_tags_and_declarations(source: str, text: str) -> None:
    """The parser of the standard library loses words of these, and raises AssertionError for one."""
    assert html.from_html(source).text == text
    markup_of(source)


@pytest.mark.parametrize(
    "piece", ["<!--", "<![CDATA[", "<?", "</", "<a ", "<a b='", "<a b='><a b=\">", "&#", "<script>"]
)
def test_unfinished_markup_takes_linear_time(piece: str) -> None:
    """With quadratic time, these would take minutes."""
    rich = html.from_html("x" + piece * 30_000)
    assert rich.text
    assert rich.text.startswith("x")
