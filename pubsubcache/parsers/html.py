"""Converts markup in payloads to sanitised XHTML and to plain text.

HTML and XHTML take the same path: parse to a tree, extract the text from the tree, and serialise the tree for `nh3` to
sanitise. The tree is balanced and its cost estimated before an HTML parser sees it, because the browser rules for
misnested elements can turn 30 KB of hostile markup into 40 MB. Nothing recurses.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape
from typing import Literal, NamedTuple
from xml.etree.ElementTree import Element, SubElement

import nh3

from pubsubcache.parsers import uris
from pubsubcache.parsers.text import clean, storable
from pubsubcache.parsers.uris import SCHEMES
from pubsubcache.utils.texts import unescape
from pubsubcache.utils.xmlform import XML, split_tag

XHTML = "http://www.w3.org/1999/xhtml"
ATOM = "http://www.w3.org/2005/Atom"

MAX_DEPTH = 250  # browsers flatten at about twice this depth
MAX_EXPANSION = 1024 * 1024  # characters that an HTML parser may add to repair misnested elements
MAX_GROWTH = 10  # the same, as a multiple of the size of the markup; an item may have many pieces of markup
# Nodes in a table but outside its cells. Each takes an HTML parser time linear in the number of its siblings.
MAX_MISPLACED = 100

TAGS = frozenset(nh3.ALLOWED_TAGS)
VOID = frozenset({"area", "br", "col", "hr", "img", "wbr"})
DROPPED = frozenset(
    {"script", "style", "template", "noscript", "iframe", "object", "embed", "head", "textarea", "select"}
)
# Elements that an HTML parser reopens after it had to close them.
FORMATTING = frozenset({"a", "b", "code", "em", "i", "s", "small", "strike", "strong", "tt", "u"})
INLINE = FORMATTING | {
    *("abbr", "acronym", "bdi", "bdo", "cite", "data", "del", "dfn", "ins", "kbd", "mark", "q", "rp", "rt", "samp"),
    *("span", "sub", "sup", "time", "var", "wbr"),
}
ATTRIBUTES = frozenset({"lang", "rel", "title"}.union(*nh3.ALLOWED_ATTRIBUTES.values()))
_LINKS = frozenset({"cite", "href", "src"})
_LANG, _BASE = f"{{{XML}}}lang", f"{{{XML}}}base"
# Elements whose end tag is optional in HTML, with the elements whose start tag closes them.
_ENDED_BY: dict[str, frozenset[str]] = {
    "p": TAGS - INLINE - VOID | {"hr"},
    "li": frozenset({"li"}),
    "dt": frozenset({"dt", "dd"}),
    "dd": frozenset({"dt", "dd"}),
    "tr": frozenset({"tr"}),
    "td": frozenset({"td", "th", "tr"}),
    "th": frozenset({"td", "th", "tr"}),
}

# Parts of tables, with the parents that each may have.
_ROW_GROUPS = frozenset({"table", "thead", "tbody", "tfoot"})
_TABLE_PARTS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("caption", "colgroup", "thead", "tbody", "tfoot"), frozenset({"table"})),
    "col": frozenset({"table", "colgroup"}),
    "tr": _ROW_GROUPS,
    **dict.fromkeys(("td", "th"), _ROW_GROUPS | {"tr"}),
}
_TABLE_PARENTS = frozenset[str]().union(*_TABLE_PARTS.values())

# A comment, a declaration or a tag. Only a comment may contain `<`.
_MARKUP = re.compile(
    r"""<(?: !--.*?(?:-->|\Z)
        | [!?][^<>]*+>
        | (?P<end>/)?+ (?P<name>[a-zA-Z][^\s/<>"']*+) (?P<attributes>(?:[^<>"']|"[^<"]*+"|'[^<']*+')*+) >
    )""",
    re.DOTALL | re.VERBOSE,
)
_ATTRIBUTE = re.compile(
    r"""(?P<name>[^\s/=]++)
    (?: \s*+ = \s*+ (?: "(?P<double>[^"]*+)" | '(?P<single>[^']*+)' | (?P<bare>[^\s"'][^\s]*+) )?+ )?+""",
    re.VERBOSE,
)
# Elements whose content is not markup, with their end tags.
_RAW = {name: re.compile(rf"</{name}\s*+>", re.IGNORECASE) for name in ("script", "style")}
_SPACE = re.compile(r"\s+")

Token = tuple[Literal["start", "end", "text"], str, Mapping[str, str]]


class Rich(NamedTuple):
    """Content as plain `text` and as sanitised `xhtml`; either may be None."""

    text: str | None
    xhtml: str | None


class _TreeBuilder:
    """Builds a balanced tree from tag soup in linear time."""

    def __init__(self) -> None:
        self.root = Element("div")
        self._stack = [self.root]
        self._open: Counter[str] = Counter()
        self._texts: list[str] = []  # since the last start or end tag

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Open an element. First close elements whose end tag is optional before it."""
        self._add_text()
        while tag in _ENDED_BY.get(self._stack[-1].tag, ()):
            self._pop()
        element = SubElement(self._stack[-1], tag, attributes)
        if tag not in VOID:
            self._stack.append(element)
            self._open[tag] += 1

    def end(self, tag: str) -> None:
        """Close the innermost element with this name and all its descendants; do nothing if none is open."""
        if self._open[tag]:
            self._add_text()
            while self._pop() != tag:
                continue

    def text(self, text: str) -> None:
        """Add text that may contain character references."""
        self._texts.append(text)

    def finish(self) -> Element:
        """Return the tree."""
        self._add_text()
        return self.root

    def _add_text(self) -> None:
        text, self._texts = unescape("".join(self._texts)), []
        if text:
            parent = self._stack[-1]
            if len(parent):
                parent[-1].tail = text
            else:
                parent.text = text

    def _pop(self) -> str:
        tag = self._stack.pop().tag
        self._open[tag] -= 1
        return tag


def parse(html: str) -> Element:
    """Parse an HTML fragment to a tree with a new `<div/>` as its root. Never raises.

    The parser of the standard library is not used: it takes quadratic time on tags with unbalanced quotes.
    """
    html, place = storable(html), 0
    builder = _TreeBuilder()
    while (found := _MARKUP.search(html, place)) is not None:
        builder.text(html[place : found.start()])
        place = found.end()
        if (tag := (found["name"] or "").lower()) and found["end"]:
            builder.end(tag)
        elif tag:
            attributes, is_closed = _attributes(found["attributes"])
            builder.start(tag, attributes)
            if is_closed:
                builder.end(tag)
            elif tag in _RAW:
                end = _RAW[tag].search(html, place)
                place = len(html) if end is None else end.start()
    builder.text(html[place:])
    return builder.finish()


def _attributes(text: str) -> tuple[dict[str, str], bool]:
    """Return the attributes of a start tag, and whether the tag is self-closing."""
    attributes: dict[str, str] = {}
    end = 0
    for found in _ATTRIBUTE.finditer(text):
        attributes[found["name"].lower()] = unescape(found["double"] or found["single"] or found["bare"] or "")
        end = found.end()
    return attributes, text.endswith("/") and end < len(text)


def _name(element: Element) -> str:
    """Return the HTML name of an element, or "" if it must not be shown.

    Elements in Atom's namespace are treated as XHTML, because some publishers omit the declaration.
    """
    if not isinstance(element.tag, str):  # a comment or processing instruction
        return "script"
    namespace, name = split_tag(element.tag)
    name = name.lower()
    return name if namespace in {XHTML, ATOM, ""} and (name in TAGS or name in DROPPED) else ""


def _tokens(root: Element, base: str | None = None) -> Iterator[Token]:
    """Yield the content of `root` in document order, without the elements in `DROPPED`.

    The attribute `xml:base` of an element is the base URI in effect within it.
    """
    yield "text", root.text or "", {}
    stack = [("", iter(root), "", base)]
    while stack:
        name, children, tail, base = stack[-1]
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
        base = uris.base_of(child.get(_BASE), base)
        yield "start", name, child.attrib if base is None else {**child.attrib, _BASE: base}
        yield "text", child.text or "", {}
        stack.append((name, iter(child), child.tail or "", base))


def _placed(root: Element, base: str | None = None) -> Iterator[tuple[Token, str]]:
    """Yield the tokens of `root`, each with the name of its parent or "".

    Misplaced parts of tables have the name "".
    """
    around, names = [""], []
    for kind, value, attributes in _tokens(root, base):
        if kind == "start":
            parent = around[-1]
            name = "" if parent not in _TABLE_PARTS.get(value, (parent,)) else value
            names.append(name)
            around.append(parent if not name or name in VOID else name)
            yield (kind, name, attributes), parent
        elif kind == "end":
            around.pop()
            yield (kind, names.pop(), attributes), around[-1]
        else:
            yield (kind, value, attributes), around[-1]


def _start_tag(name: str, attributes: Mapping[str, str]) -> str:
    """Return a start tag. Links are resolved against `xml:base`, and left out if they are still not absolute."""
    base = uris.base_of(attributes.get(_BASE))
    given: dict[str, str | None] = {"lang": attributes[_LANG]} if _LANG in attributes else {}
    for key, value in attributes.items():
        if key in ATTRIBUTES:
            given[key] = uris.absolute(value, base) if key in _LINKS else value
    written = "".join(f' {key}="{escape(storable(value))}"' for key, value in given.items() if value is not None)
    return f"<{name}{written}{'/' if name in VOID else ''}>"


def serialise(root: Element, base: str | None = None) -> str:
    """Serialise the content of `root` to markup that is valid as both HTML and XML, without namespaces.

    Elements that must not be shown are replaced by their content. Links are absolute. The result is well-formed, but
    not safe.

    Args:
        root: The element.
        base: The base URI within it, see `uris.base_of`.
    """
    pieces: list[str] = []
    for (kind, value, attributes), _ in _placed(root, base):
        if kind == "text":
            pieces.append(escape(storable(value), quote=False))
        elif kind == "start" and value:
            pieces.append(_start_tag(value, attributes))
        elif value and value not in VOID:
            pieces.append(f"</{value}>")
    return "".join(pieces)


def to_text(root: Element) -> str | None:
    """Return the text of `root`: one line per block, white space collapsed, images replaced by their `alt`."""
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


def _is_affordable(root: Element, base: str | None) -> bool:
    """Return whether an HTML parser can process this tree at a reasonable cost.

    A parser that closes formatting elements too early reopens them. In the worst case it reopens all that are open at
    each start tag; the tree is balanced, so these are the ancestors. The parser moves content in a table but outside
    its cells in front of the table, in time linear in the content already moved.
    """
    depth = expansion = misplaced = written = 0
    open_sizes: list[int] = [0]
    for (kind, value, attributes), parent in _placed(root, base):
        if parent in _TABLE_PARENTS and kind != "end":
            misplaced += bool(value.strip()) if kind == "text" else value not in ("", *_TABLE_PARTS)
        size = len(_start_tag(value, attributes)) if kind == "start" and value else len(value)
        written += size
        if kind == "start":
            depth += 1
            expansion += open_sizes[-1]
            open_sizes.append(open_sizes[-1] + (size if value in FORMATTING else 0))
        elif kind == "end":
            depth -= 1
            open_sizes.pop()
        if depth > MAX_DEPTH or expansion > MAX_EXPANSION or misplaced > MAX_MISPLACED:
            return False
    return expansion <= MAX_GROWTH * written + 1000


def sanitise(root: Element, base: str | None = None) -> str | None:
    """Return the content of `root` as one XHTML `<div>` that is safe to show in a page.

    Removes scripts, styles, forms, frames, event handlers, `data:` URLs, and URLs that are still relative. Links get
    `rel="nofollow noopener noreferrer"`.

    Args:
        root: The element. If it is a `<div/>`, the result has its language.
        base: The base URI within it, see `uris.base_of`.

    Returns:
        The markup, or None if nothing visible remains or the markup is nested so badly that it costs too much.
    """
    if not _is_affordable(root, base):
        return None
    cleaned = nh3.clean(
        serialise(root, base),
        tags=set(TAGS),
        url_schemes=set(SCHEMES),
        url_relative="deny",
        link_rel="nofollow noopener noreferrer",
    )
    tree = parse(cleaned)
    if to_text(tree) is None and tree.find(".//img") is None:
        return None
    own = {key: value for key, value in root.items() if key in ("lang", _LANG) and _name(root) == "div"}
    return f"{_start_tag('div', own)}{serialise(tree).strip()}</div>"


def from_tree(root: Element, base: str | None = None) -> Rich:
    """Return the text and the sanitised markup of the content of `root`.

    Args:
        root: The element. A single `<div/>` in it is taken for the content.
        base: The base URI within it, see `uris.base_of`.
    """
    elements = [child for child in root if isinstance(child.tag, str)]
    words = [root.text, *(child.tail for child in root)]
    is_wrapped = len(elements) == 1 and _name(elements[0]) == "div" and not any(text and text.strip() for text in words)
    if is_wrapped:
        root = elements[0]
        base = uris.base_of(root.get(_BASE), base)
    return Rich(to_text(root), sanitise(root, base))


def from_html(html: str, base: str | None = None) -> Rich:
    """Return the text and the sanitised markup of an HTML fragment with this base URI."""
    return from_tree(parse(html), base)
