"""Markup of payloads: sanitised for display, and as plain text.

HTML and XHTML take the same way: a tree, from the tree the text, and from the tree markup that `nh3` cleans. The tree
is always balanced and measured before it reaches an HTML parser: a browser's rules for misnested
elements turn 30 KB of hostile markup into 40 MB. Nothing recurses.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape
from html.parser import HTMLParser
from typing import Literal, NamedTuple
from xml.etree.ElementTree import Element, SubElement

import nh3

from pubsubcache.parsers.text import clean, storable
from pubsubcache.parsers.uris import SCHEMES
from pubsubcache.xmlform import split_tag

XHTML = "http://www.w3.org/1999/xhtml"
ATOM = "http://www.w3.org/2005/Atom"

MAX_DEPTH = 250  # browsers flatten at about twice that
MAX_EXPANSION = 1024 * 1024  # characters that the repair of misnested elements may add

TAGS = frozenset(nh3.ALLOWED_TAGS)
VOID = frozenset({"area", "br", "col", "hr", "img", "wbr"})
DROPPED = frozenset(
    {"script", "style", "template", "noscript", "iframe", "object", "embed", "head", "textarea", "select"}
)
# Elements that an HTML parser opens again after it had to close them.
FORMATTING = frozenset({"a", "b", "code", "em", "i", "s", "small", "strike", "strong", "tt", "u"})
INLINE = FORMATTING | {
    *("abbr", "acronym", "bdi", "bdo", "cite", "data", "del", "dfn", "ins", "kbd", "mark", "q", "rp", "rt", "samp"),
    *("span", "sub", "sup", "time", "var", "wbr"),
}
ATTRIBUTES = frozenset({"lang", "rel", "title"}.union(*nh3.ALLOWED_ATTRIBUTES.values()))
# Elements whose end tag HTML lets one leave out, with those whose start ends them.
_ENDED_BY: dict[str, frozenset[str]] = {
    "p": TAGS - INLINE - VOID | {"hr"},
    "li": frozenset({"li"}),
    "dt": frozenset({"dt", "dd"}),
    "dd": frozenset({"dt", "dd"}),
    "tr": frozenset({"tr"}),
    "td": frozenset({"td", "th", "tr"}),
    "th": frozenset({"td", "th", "tr"}),
}

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)|<[!?][^<>]*>", re.DOTALL)
_STRAY = re.compile(r"""<(?!/?[a-zA-Z](?:[^<>"']|"[^<"]*"|'[^<']*')*+>)""")
_SPACE = re.compile(r"\s+")

Token = tuple[Literal["start", "end", "text"], str, Mapping[str, str]]


class Rich(NamedTuple):
    """Marked up content: its plain `text`, and `xhtml` that is safe to show; None where there is none."""

    text: str | None
    xhtml: str | None


class _TreeBuilder(HTMLParser):
    """Builds a balanced tree from tag soup. Its effort is linear in the length of what it is fed."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("div")
        self._stack = [self.root]
        self._open: Counter[str] = Counter()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        while tag in _ENDED_BY.get(self._stack[-1].tag, ()):
            self._pop()
        element = SubElement(self._stack[-1], tag, {name: value or "" for name, value in attrs})
        if tag not in VOID:
            self._stack.append(element)
            self._open[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        if not self._open[tag]:
            return
        while self._pop() != tag:
            continue

    def handle_data(self, data: str) -> None:
        parent = self._stack[-1]
        if len(parent):
            parent[-1].tail = (parent[-1].tail or "") + data
        else:
            parent.text = (parent.text or "") + data

    def _pop(self) -> str:
        tag = self._stack.pop().tag
        self._open[tag] -= 1
        return tag


def parse(html: str) -> Element:
    """Return the tree of an HTML fragment, under a `<div/>` of its own. Never raises, whatever the text."""
    builder = _TreeBuilder()
    # The standard library's parser is slow, or gives up, on unfinished comments, declarations and tags.
    builder.feed(_STRAY.sub("&lt;", _COMMENT.sub("", storable(html))))
    builder.close()
    return builder.root


def _name(element: Element) -> str:
    """Return the HTML name of an element, "" when it is not one that may be shown.

    Atom's namespace counts as XHTML's, for those who forgot to declare it.
    """
    if not isinstance(element.tag, str):  # a comment or processing instruction
        return "script"
    namespace, name = split_tag(element.tag)
    name = name.lower()
    return name if namespace in {XHTML, ATOM, ""} and (name in TAGS or name in DROPPED) else ""


def _tokens(root: Element) -> Iterator[Token]:
    """Yield what is inside `root`, in document order, without the elements of `DROPPED`."""
    yield "text", root.text or "", {}
    stack = [("", iter(root), "")]
    while stack:
        name, children, tail = stack[-1]
        child = next(children, None)
        if child is None:
            stack.pop()
            if stack:
                yield "end", name, {}
                yield "text", tail, {}
            continue
        name = _name(child)
        if name in DROPPED:
            yield "text", child.tail or "", {}
            continue
        yield "start", name, child.attrib
        yield "text", child.text or "", {}
        stack.append((name, iter(child), child.tail or ""))


def _start_tag(name: str, attributes: Mapping[str, str]) -> str:
    written = "".join(f' {key}="{escape(storable(value))}"' for key, value in attributes.items() if key in ATTRIBUTES)
    return f"<{name}{written}{'/' if name in VOID else ''}>"


def serialise(root: Element) -> str:
    """Return what is inside `root` as markup that reads the same as HTML and as XML, without namespaces.

    Elements that can't be shown give way to their content. The values of attributes are not judged: the result is
    well-formed, not safe.
    """
    pieces: list[str] = []
    for kind, value, attributes in _tokens(root):
        if kind == "text":
            pieces.append(escape(storable(value), quote=False))
        elif kind == "start" and value:
            pieces.append(_start_tag(value, attributes))
        elif value and value not in VOID:
            pieces.append(f"</{value}>")
    return "".join(pieces)


def to_text(root: Element) -> str | None:
    """Return the words inside `root`: a line for each block, white space folded, images by their `alt`."""
    pieces: list[str] = []
    for kind, value, attributes in _tokens(root):
        if kind == "text":
            pieces.append(_SPACE.sub(" ", value))
        elif value == "img":
            pieces.append(f" {attributes.get('alt', '')} " if kind == "start" else "")
        elif value and value not in INLINE:
            pieces.append("\n")
    lines = (" ".join(line.split()) for line in "".join(pieces).split("\n"))
    return clean("\n".join(line for line in lines if line))


def _is_affordable(root: Element) -> bool:
    """Say whether an HTML parser may be given this tree.

    A parser that closes formatting elements too early opens them again, at worst all that are open at each
    start tag; since the tree is balanced, those open in the tree are all there can be.
    """
    depth = expansion = 0
    open_sizes: list[int] = [0]
    for kind, value, attributes in _tokens(root):
        if kind == "start":
            depth += 1
            expansion += open_sizes[-1]
            size = len(_start_tag(value, attributes)) if value in FORMATTING else 0
            open_sizes.append(open_sizes[-1] + size)
        elif kind == "end":
            depth -= 1
            open_sizes.pop()
        if depth > MAX_DEPTH or expansion > MAX_EXPANSION:
            return False
    return True


def sanitise(root: Element) -> str | None:
    """Return what is inside `root` as one XHTML `<div>` that is safe to show in a page.

    No scripts, styles, forms, frames, event handlers, `data:` or relative addresses; links get `rel="nofollow ..."`.
    None when nothing is left to see, or when the markup is nested so badly that showing it is not worth its cost.
    """
    if not _is_affordable(root):
        return None
    cleaned = nh3.clean(
        serialise(root),
        tags=set(TAGS),
        url_schemes=set(SCHEMES),
        url_relative="deny",
        link_rel="nofollow noopener noreferrer",
    )
    tree = parse(cleaned)
    if to_text(tree) is None and tree.find(".//img") is None:
        return None
    return f"<div>{storable(serialise(tree)).strip()}</div>"


def from_tree(root: Element) -> Rich:
    """Return the text and the safe markup of what is inside `root`, XHTML elements or none."""
    elements = [child for child in root if isinstance(child.tag, str)]
    words = [root.text, *(child.tail for child in root)]
    is_wrapped = len(elements) == 1 and _name(elements[0]) == "div" and not any(text and text.strip() for text in words)
    inner = elements[0] if is_wrapped else root
    return Rich(to_text(inner), sanitise(inner))


def from_html(html: str) -> Rich:
    """Return the text and the safe markup of an HTML fragment."""
    return from_tree(parse(html))
