"""The one form in which items are kept as text, whichever way they came.

Servers and parsers differ in prefixes, quoting and attribute order, and an item that came in a
notification stands in another namespace than the same item fetched. Here equal content gives equal
text: default namespaces, attributes sorted, `pubsub` as the namespace of the item. Nothing here
recurses, so that depth is bounded by `MAX_DEPTH` and not by Python's stack.
"""

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
MAX_DEPTH = 5_000  # elements of an item within each other
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

_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_ATTRIBUTE = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;", "\n": "&#10;", "\t": "&#9;"}
)


def split_tag(tag: str) -> tuple[str, str]:
    """Return (namespace, local name) of a tag in ElementTree's notation. A namespace may contain `}`, a name not."""
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
    """Return the normal form of `root` as text.

    Raises `TooLarge` when it is nested deeper than `MAX_DEPTH`, longer than `MAX_ITEM_SIZE`, or has a name longer
    than `MAX_TAG`.
    """
    out: list[str] = []
    namespaces = [""]
    size = 0
    max_size = settings.MAX_ITEM_SIZE
    for kind, element in _events(root):
        _check_name(element.tag)
        namespace, name = split_tag(element.tag)
        if namespace == XML:  # may not be declared, only be used by its prefix
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
    """Return the root element of XML text. Namespaces are read as in a stream; see `pubsubcache.utils.xmlparse`.

    Raises `ParseError` for XML that is not well-formed, and for any document type definition.
    """
    try:
        return parse(text, settings.MAX_STANZA_SIZE)
    except (XmlError, UnicodeError) as error:
        raise ParseError(f"Not well-formed XML: {error}.") from error
    except Refused as error:
        raise ParseError(f"XML with {error} is refused.") from error


def normal_item(item: Element) -> Element:
    """Return a copy of an `<item/>` as it came, by IQ or notification, in the pubsub namespace.

    Elements that merely inherit the notification's namespace move along; what stands around the item is left, and so
    is white space around its payload, which services pass on in notifications and don't keep.
    """
    namespace, _ = split_tag(item.tag)
    copy = Element(f"{{{PUBSUB}}}item", dict(item.attrib))
    copy.text = _unless_blank(item.text)
    stack = [(item, copy)]
    while stack:
        source, target = stack.pop()
        inherits = namespace == PUBSUB_EVENT and target.tag.startswith(f"{{{PUBSUB}}}")
        for child in source:
            tag = child.tag
            if inherits and split_tag(tag)[0] == PUBSUB_EVENT:
                tag = f"{{{PUBSUB}}}{split_tag(tag)[1]}"
            child_copy = ET.SubElement(target, tag, dict(child.attrib))
            child_copy.text = child.text
            child_copy.tail = _unless_blank(child.tail) if source is item else child.tail
            stack.append((child, child_copy))
    return copy


def _unless_blank(text: str | None) -> str | None:
    return text if text and text.strip() else None


def first_payload(item: Element) -> Element | None:
    """Return the first child of an item, or None."""
    return next(iter(item), None)


def payload_namespace(item: Element) -> str | None:
    """Return the namespace of an item's first payload element, or None without a payload."""
    payload = first_payload(item)
    return None if payload is None else split_tag(payload.tag)[0]


def words(item: Element) -> str:
    """Return the words of an item's content: character data only, in NFC, white space folded.

    An element with nothing but a time or a URN has no words, with nothing but an XMPP URI only the JID in it.

    Tags within character data are no words either (the `type="html"` of RFC 4287, 3.1), nor is what is as long as only
    encoded data can be. Emphasis and the like doesn't cut a word in two.
    """
    pieces: list[str] = []
    for kind, element in _events(item):
        if element is item:
            continue
        if element.tag not in _WITHIN_WORDS:
            pieces.append(" ")
        piece = element.text if kind == "start" else element.tail
        if piece and kind == "start" and element.get("type") in _HTML_TYPES:
            piece = unescape(_MARKUP.sub(_space, piece))
        if piece:
            pieces.append(_FOR_PROGRAMS.sub(r"\g<jid>", piece) if kind == "start" else piece)
    found = normalise("NFC", shorten_runs("".join(pieces))).split()
    return " ".join(word for word in found if len(word) <= MAX_WORD or not word.isascii())


def _space(match: re.Match[str]) -> str:
    return "" if (match["name"] or "").lower() in _INLINE else " "


def indented(text: str) -> str:
    """Return XML text with one element a line, for people's eyes."""
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
