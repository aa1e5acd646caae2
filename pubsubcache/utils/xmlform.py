"""Converts items to and from their normal form, in which the cache stores them.

Servers and parsers differ in prefixes, quoting and the order of attributes, and items in notifications have a different
namespace than fetched items. In the normal form, equal content is equal text: it uses default namespaces, sorted
attributes and the pubsub namespace for the item. Nothing here recurses, so depth is limited by `MAX_DEPTH` rather
than by Python's stack.
"""

import html
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from pubsubcache.conf import settings
from pubsubcache.exceptions import ParseError, TooLarge
from pubsubcache.utils.texts import normalise, shorten_runs, unescape
from pubsubcache.utils.xmlparse import XML as XML
from pubsubcache.utils.xmlparse import Refused, XmlError, parse

PUBSUB = "http://jabber.org/protocol/pubsub"
PUBSUB_EVENT = "http://jabber.org/protocol/pubsub#event"
XHTML = "http://www.w3.org/1999/xhtml"
MAX_DEPTH = 5_000  # nested elements of an item
MAX_WORD = 500  # characters of ASCII
# Characters of a name with its namespace, which counts for each element and attribute in it.
MAX_TAG = 2000

_INLINE = frozenset(
    (
        "a", "abbr", "b", "big", "bdi", "bdo", "cite", "code", "del", "em", "font", "i", "ins", "kbd", "mark", "q", "s",
        "small", "span", "strong", "sub", "sup", "u",
    )
)  # fmt: skip
_WITHIN_WORDS = frozenset(f"{{{XHTML}}}{name}" for name in _INLINE)
# Attributes with text for people: tags, labels of fields, names of rooms, files and bookmarks, titles of links.
_READ_ATTRIBUTES = ("title", "name", "label", "term", "alt")
_READ_ATTRIBUTES_OF_XHTML = ("title", "alt")  # other names are anchors
_HTML_TYPES = frozenset({"html", "text/html"})
_MARKUP = re.compile(
    r"<(?:!--.*?(?:-->|\Z)|(?P<raw>script|style)\b.*?(?:</(?P=raw)\b[^>]*>?|\Z)|[/!?]?(?P<name>[a-z][\w:-]*)[^>]*>?)",
    re.DOTALL | re.IGNORECASE,
)

_FOR_PROGRAMS = re.compile(
    r"""\A\s* (?:
        \d{4}-\d\d-\d\dT\d\d:\d\d\S*
        | (?:urn|tag|uuid|data):\S+
        | xmpp:(?://[^\s/?]*+/)?(?P<jid>[^\s?/]*+)\S*
    ) \s*\Z""",
    re.VERBOSE | re.IGNORECASE,
)
_PAYLOAD = re.compile(r'<item xmlns="[^"]*"[^>]*>[^<]*<[^\s/>]+(?: xmlns="([^"]*)")?[\s/>]')

_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_ATTRIBUTE = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}
)


def split_tag(tag: str) -> tuple[str, str]:
    """Split a tag in ElementTree's notation into (namespace, local name). Only the namespace may contain `}`."""
    if tag.startswith("{"):
        namespace, _, name = tag[1:].rpartition("}")
        return namespace, name
    return "", tag


def _check_name(tag: str) -> None:
    if len(tag) > MAX_TAG:
        raise TooLarge(f"The item has a name longer than {MAX_TAG} characters.")


def _attributes(element: Element) -> str:
    parts = []
    prefixes: dict[str, str] = {}
    for key in sorted(element.keys()):
        _check_name(key)
        namespace, name = split_tag(key)
        if namespace == XML:
            name = f"xml:{name}"
        elif namespace:
            if namespace not in prefixes:
                prefixes[namespace] = f"ns{len(prefixes)}"
                parts.append(f' xmlns:{prefixes[namespace]}="{namespace.translate(_ATTRIBUTE)}"')
            name = f"{prefixes[namespace]}:{name}"
        parts.append(f' {name}="{(element.get(key) or "").translate(_ATTRIBUTE)}"')
    return "".join(parts)


def _events(root: Element) -> Iterator[tuple[str, Element]]:
    """Yield ("start", element) and ("end", element) in document order."""
    stack: list[tuple[Element, Iterator[Element]]] = []
    yield "start", root
    stack.append((root, iter(root)))
    while stack:
        element, children = stack[-1]
        child = next(children, None)
        if child is None:
            stack.pop()
            yield "end", element
        else:
            yield "start", child
            stack.append((child, iter(child)))


def to_text(root: Element) -> str:
    """Serialise `root` to the normal form.

    Raises:
        TooLarge: The result is nested deeper than `MAX_DEPTH`, longer than `MAX_ITEM_SIZE` bytes, or has a name
            longer than `MAX_TAG` characters.
    """
    out: list[str] = []
    namespaces = [""]
    size = 0
    max_size = settings.MAX_ITEM_SIZE
    for kind, element in _events(root):
        _check_name(element.tag)
        namespace, name = split_tag(element.tag)
        if namespace == XML:  # must not be declared, only used with its prefix
            namespace, name = namespaces[-1], f"xml:{name}"
        if kind == "start":
            declaration = "" if namespace == namespaces[-1] else f' xmlns="{namespace.translate(_ATTRIBUTE)}"'
            text = (element.text or "").translate(_TEXT)
            end = ">" if text or len(element) else "/>"
            piece = f"<{name}{declaration}{_attributes(element)}{end}{text}"
            namespaces.append(namespace)
            if len(namespaces) - 1 > MAX_DEPTH:
                raise TooLarge(f"The item is nested deeper than {MAX_DEPTH} elements.")
        else:
            namespaces.pop()
            piece = f"</{name}>" if element.text or len(element) else ""
            if element is not root and element.tail:
                piece += element.tail.translate(_TEXT)
        size += len(piece) if piece.isascii() else len(piece.encode(errors="replace"))
        if size > max_size:
            raise TooLarge(f"The item is longer than {max_size} bytes.")
        out.append(piece)
    return "".join(out)


def from_text(text: str) -> Element:
    """Parse XML text. Namespaces are resolved leniently, as in a stream; see `pubsubcache.utils.xmlparse`.

    Raises:
        ParseError: The text is not well-formed or has a document type definition.
    """
    try:
        return parse(text, settings.MAX_STANZA_SIZE)
    except (XmlError, UnicodeError) as error:
        raise ParseError(f"Not well-formed XML: {error}.") from error
    except Refused as error:
        raise ParseError(f"XML with {error} is refused.") from error


def normal_item(item: Element) -> Element:
    """Return a copy of an `<item/>` from an IQ or a notification, in the pubsub namespace.

    Elements that inherit the namespace of the notification move to the pubsub namespace too. White space around the
    payload is dropped, because services forward it in notifications but do not store it.
    """
    namespace, _ = split_tag(item.tag)
    copy = Element(f"{{{PUBSUB}}}item", dict(item.attrib))
    copy.text = _unless_blank(item.text)
    stack = [(item, copy)]
    while stack:
        source, target = stack.pop()
        inherits = namespace == PUBSUB_EVENT and str(target.tag).startswith(f"{{{PUBSUB}}}")
        for child in source:
            tag = child.tag
            if inherits and isinstance(tag, str) and split_tag(tag)[0] == PUBSUB_EVENT:
                tag = f"{{{PUBSUB}}}{split_tag(tag)[1]}"
            child_copy = ET.SubElement(target, tag, dict(child.attrib))
            child_copy.text = child.text
            child_copy.tail = _unless_blank(child.tail) if source is item else child.tail
            stack.append((child, child_copy))
    return copy


def with_namespace(element: Element, old: str, new: str) -> Element:
    """Return a copy of an element in which all elements of the namespace `old` are in the namespace `new`."""
    copy = Element("copy")
    stack = [(element, copy)]
    while stack:
        source, parent = stack.pop()
        tag = source.tag
        if isinstance(tag, str) and split_tag(tag)[0] == old:
            tag = f"{{{new}}}{split_tag(tag)[1]}"
        target = ET.SubElement(parent, tag, dict(source.attrib))
        target.text, target.tail = source.text, source.tail
        stack.extend((child, target) for child in reversed(source))
    return copy[0]


def _unless_blank(text: str | None) -> str | None:
    return text if text and text.strip() else None


def first_payload(item: Element) -> Element | None:
    """Return the first child element of an item, or None."""
    return next(iter(item), None)


def payload_namespace(item: Element) -> str | None:
    """Return the namespace of the first payload element of an item, or None."""
    payload = first_payload(item)
    return None if payload is None else split_tag(payload.tag)[0]


def namespace_in(text: str) -> str | None:
    """Return the namespace of the first payload element, given the beginning of an item in normal form, or None."""
    found = _PAYLOAD.match(text)
    if found is None:
        return None
    return PUBSUB if found[1] is None else html.unescape(found[1])


def words(item: Element) -> str:
    """Extract the text of an item for full text search, in NFC and with white space collapsed.

    It consists of character data, followed by the attributes that people read, such as tags and names. An element or
    attribute that contains only a date or a URN is skipped. One that contains only an XMPP URI yields its JID. Tags in
    character data (`type="html"`, RFC 4287, 3.1) and ASCII words longer than `MAX_WORD` are removed. Inline elements
    such as emphasis do not split words.
    """
    pieces: list[str] = []
    read: list[str] = []
    for kind, element in _events(item):
        if element is item:
            continue
        if kind == "start" and element.attrib:
            read += _read_attributes(element)
        if element.tag not in _WITHIN_WORDS:
            pieces.append(" ")
        piece = element.text if kind == "start" else element.tail
        if piece and kind == "start" and element.get("type") in _HTML_TYPES:
            piece = unescape(_MARKUP.sub(_space, piece))
        if piece:
            pieces.append(_FOR_PROGRAMS.sub(r"\g<jid>", piece) if kind == "start" else piece)
    found = normalise("NFC", shorten_runs(" ".join(["".join(pieces), *read]))).split()
    return " ".join(word for word in found if len(word) <= MAX_WORD or not word.isascii())


def _read_attributes(element: Element) -> Iterator[str]:
    """Yield the texts of the attributes that people read. Equal ones, such as a term and its label, count once."""
    is_xhtml = isinstance(element.tag, str) and split_tag(element.tag)[0] == XHTML
    names = _READ_ATTRIBUTES_OF_XHTML if is_xhtml else _READ_ATTRIBUTES
    for text in dict.fromkeys(element.get(name, "") for name in names):
        if text:
            yield _FOR_PROGRAMS.sub(r"\g<jid>", text)


def _space(match: re.Match[str]) -> str:
    return "" if (match["name"] or "").lower() in _INLINE else " "


def indented(text: str) -> str:
    """Return XML text with one element per line, for display."""
    root = from_text(text)
    if _depth(root) < 200:  # ET.indent recurses
        ET.indent(root)
    return to_text(root)


def _depth(root: Element) -> int:
    depth = deepest = 0
    for kind, _ in _events(root):
        depth += 1 if kind == "start" else -1
        deepest = max(deepest, depth)
    return deepest
