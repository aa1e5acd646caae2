"""Markup of payloads: sanitised for display, and as plain text.

HTML and XHTML take the same way: a tree, from the tree the text, and from the tree markup that `nh3` cleans. The tree
is always balanced and measured before it reaches an HTML parser: a browser's rules for misnested
elements turn 30 KB of hostile markup into 40 MB. Nothing recurses.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from html import escape
from typing import Literal, NamedTuple
from xml.etree.ElementTree import Element, SubElement

import nh3

from pubsubcache.parsers.text import clean, storable
from pubsubcache.parsers.uris import SCHEMES
from pubsubcache.utils.texts import unescape
from pubsubcache.utils.xmlform import split_tag

XHTML = "http://www.w3.org/1999/xhtml"
ATOM = "http://www.w3.org/2005/Atom"

MAX_DEPTH = 250  # browsers flatten at about twice that
MAX_EXPANSION = 1024 * 1024  # characters that the repair of misnested elements may add
MAX_MISPLACED = (
    100  # pieces within a table but outside its cells; each takes an HTML parser time linear in its siblings
)

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

# Parts of tables, and the elements each may stand in.
_ROW_GROUPS = frozenset({"table", "thead", "tbody", "tfoot"})
_TABLE_PARTS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("caption", "colgroup", "thead", "tbody", "tfoot"), frozenset({"table"})),
    "col": frozenset({"table", "colgroup"}),
    "tr": _ROW_GROUPS,
    **dict.fromkeys(("td", "th"), _ROW_GROUPS | {"tr"}),
}
_TABLE_PARENTS = frozenset[str]().union(*_TABLE_PARTS.values())

# A comment or declaration, or a whole tag. None goes on past the next `<` but a comment, which is taken whole.
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
# Elements whose content is no markup, with what ends it.
_RAW = {name: re.compile(rf"</{name}\s*+>", re.IGNORECASE) for name in ("script", "style")}
_SPACE = re.compile(r"\s+")

Token = tuple[Literal["start", "end", "text"], str, Mapping[str, str]]


class Rich(NamedTuple):
    """Marked up content: its plain `text`, and `xhtml` that is safe to show; None where there is none."""

    text: str | None
    xhtml: str | None


class _TreeBuilder:
    """Builds a balanced tree from tag soup. Its effort is linear in the length of what it is given."""

    def __init__(self) -> None:
        self.root = Element("div")
        self._stack = [self.root]
        self._open: Counter[str] = Counter()
        self._texts: list[str] = []  # since the last element began or ended

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Open an element, closing first those whose end tag may be missing before it."""
        self._add_text()
        while tag in _ENDED_BY.get(self._stack[-1].tag, ()):
            self._pop()
        element = SubElement(self._stack[-1], tag, attributes)
        if tag not in VOID:
            self._stack.append(element)
            self._open[tag] += 1

    def end(self, tag: str) -> None:
        """Close the innermost element of that name with all in it; nothing when none is open."""
        if self._open[tag]:
            self._add_text()
            while self._pop() != tag:
                continue

    def text(self, text: str) -> None:
        """Take text with character references."""
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
    """Return the tree of an HTML fragment, under a `<div/>` of its own. Never raises, whatever the text.

    Not by the standard library's parser, whose effort is quadratic for tags with unbalanced quotes.
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
    """Return what stands in a start tag after its name, and whether a slash that is part of no value ends it."""
    attributes: dict[str, str] = {}
    end = 0
    for found in _ATTRIBUTE.finditer(text):
        attributes[found["name"].lower()] = unescape(found["double"] or found["single"] or found["bare"] or "")
        end = found.end()
    return attributes, text.endswith("/") and end < len(text)


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


def _placed(root: Element) -> Iterator[tuple[Token, str]]:
    """Yield the tokens of `root`, each with the name of the element around it, "" for none.

    Parts of tables that stand where they don't belong have no name.
    """
    around, names = [""], []
    for kind, value, attributes in _tokens(root):
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
    written = "".join(f' {key}="{escape(storable(value))}"' for key, value in attributes.items() if key in ATTRIBUTES)
    return f"<{name}{written}{'/' if name in VOID else ''}>"


def serialise(root: Element) -> str:
    """Return what is inside `root` as markup that reads the same as HTML and as XML, without namespaces.

    Elements that can't be shown give way to their content. The values of attributes are not judged: the result is
    well-formed, not safe.
    """
    pieces: list[str] = []
    for (kind, value, attributes), _ in _placed(root):
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
    start tag; since the tree is balanced, those open in the tree are all there can be. What stands in a table outside
    its cells it moves before the table, and counts what stands there each time.
    """
    depth = expansion = misplaced = 0
    open_sizes: list[int] = [0]
    for (kind, value, attributes), parent in _placed(root):
        if parent in _TABLE_PARENTS and kind != "end":
            misplaced += bool(value.strip()) if kind == "text" else value not in ("", *_TABLE_PARTS)
        if kind == "start":
            depth += 1
            expansion += open_sizes[-1]
            size = len(_start_tag(value, attributes)) if value in FORMATTING else 0
            open_sizes.append(open_sizes[-1] + size)
        elif kind == "end":
            depth -= 1
            open_sizes.pop()
        if depth > MAX_DEPTH or expansion > MAX_EXPANSION or misplaced > MAX_MISPLACED:
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
