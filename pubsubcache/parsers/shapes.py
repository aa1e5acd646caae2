"""Shapes describe which elements and attributes of a payload a parser reads, so that nothing is lost silently.

What a shape does not mention, and what is mentioned but unreadable, is what `rest_of` returns. It becomes the keys
`rest` and `rest_truncated` of the parsed item.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import dates, uris
from pubsubcache.parsers.elements import MAX_ELEMENTS, integer, name_of, namespace_of, number
from pubsubcache.parsers.generic import Converter
from pubsubcache.parsers.text import clean, from_base64
from pubsubcache.utils.xmlform import XML

ANY = "*"
LANG = "xml:lang"
BASE = "xml:base"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a text or an attribute holds.

    Args:
        name: Name of the kind.
        read: Returns None for text that is not of this kind; the text then belongs to the rest.
        left_out: Why a value is not in the JSON, as a sentence; "" if it is.
    """

    name: str
    read: Callable[[str], object | None]
    left_out: str = ""

    def omitted(self, why: str) -> "Kind":
        """Return a kind whose values are not in the JSON, for the reason `why`."""
        return replace(self, left_out=why)


WORDS = Kind("words", clean)
DATE = Kind("date", dates.parse)
INTEGER = Kind("integer", integer)
NUMBER = Kind("number", number)
FLAG = Kind("flag", lambda text: text.strip().lower() in {"0", "1", "true", "false", "yes", "no"} or None)
LINK = Kind("link", uris.link)
JID = Kind("jid", uris.bare)
BASE64 = Kind("base64", from_base64)


@dataclass(frozen=True, slots=True)
class Shape:
    """An element that a parser reads.

    Args:
        name: Local name; `ANY` for every name that no other shape has.
        namespace: Namespace; "" for that of the parent, `ANY` for every namespace that no other shape has.
        text: What its text holds; None if it is not read.
        attributes: What its attributes hold, by name; `LANG` and `BASE` for those of XML.
        children: Shapes of the child elements.
        once: Whether only the first element of this name is read. The others belong to the rest.
        whole: Whether all of its content is read, whatever it is, such as markup.
        left_out: Why neither the element nor its content is in the JSON, as a sentence; "" if it is.
    """

    name: str
    namespace: str = ""
    text: Kind | None = None
    attributes: Mapping[str, Kind] = field(default_factory=dict)
    children: tuple["Shape", ...] = ()
    once: bool = False
    whole: bool = False
    left_out: str = ""

    def omissions(self, path: str = "") -> Iterator[tuple[str, str]]:
        """Yield the path and the reason of everything that is left out, in order."""
        path = f"{path}/{self.name}" if path else self.name
        if self.left_out:
            yield path, self.left_out
            return
        if self.text is not None and self.text.left_out:
            yield path, self.text.left_out
        for name, kind in self.attributes.items():
            if kind.left_out:
                yield f"{path}@{name}", kind.left_out
        for shape in self.children:
            yield from shape.omissions(path)


def words(*names: str, once: bool = False, **attributes: Kind) -> tuple[Shape, ...]:
    """Return shapes of elements that contain plain text."""
    return tuple(Shape(name, text=WORDS, attributes=attributes, once=once) for name in names)


def rest_of(item: Element, payloads: Sequence[Shape]) -> dict[str, Any]:
    """Return what a parser does not read of an item.

    Args:
        item: The `<item/>` element.
        payloads: The shapes of the payloads that the parser reads.

    Returns:
        `rest`, a list of elements in the schema of `generic.parse_any`, each with the `path` of its parent; an element
        that is read in part is listed without what is read. `rest_truncated` says whether a bound cut something off.
    """
    walk = _walked(item, payloads)
    return {"rest": walk.found, "rest_truncated": walk.converter.truncated}


def left_out_of(item: Element, payloads: Sequence[Shape]) -> list[tuple[str, str]]:
    """Return the path and the reason of everything in an item that is left out of the JSON, each once.

    Args:
        item: The `<item/>` element.
        payloads: The shapes of the payloads that the parser reads.
    """
    return list(_walked(item, payloads).left_out.items())


def _walked(item: Element, payloads: Sequence[Shape]) -> "_Walk":
    walk = _Walk()
    id_and_publisher = {"id": WORDS, "publisher": WORDS}
    walk.element(item, Shape("item", attributes=id_and_publisher, children=tuple(payloads)), None)
    return walk


class _Walk:
    """Compares elements with shapes. The depth of the recursion is that of the shapes, not that of the payload."""

    def __init__(self) -> None:
        self.converter = Converter()
        self.found: list[dict[str, Any]] = []
        self.left_out: dict[str, str] = {}

    def element(self, element: Element, shape: Shape, path: str | None) -> None:
        inner = "" if path is None else f"{path}/{name_of(element)}".lstrip("/")
        if shape.left_out:
            self.left_out[inner] = shape.left_out
        if shape.left_out or shape.whole:
            return
        self._own(element, shape, path)
        self._own_left_out(element, shape, inner)
        seen: dict[int, int] = {}
        for child in element:
            if not isinstance(child.tag, str):
                continue
            found = _shape_of(child, shape, namespace_of(element))
            if found is not None:
                seen[id(found)] = seen.get(id(found), 0) + 1
                if seen[id(found)] > (1 if found.once else MAX_ELEMENTS):
                    found = None
            if found is None:
                self._add(inner, self.converter.convert(child))
            else:
                self.element(child, found, inner)

    def _own(self, element: Element, shape: Shape, path: str | None) -> None:
        """Add the attributes and the text of an element that are not read."""
        unread = Element(element.tag)
        for name, value in element.attrib.items():
            if not _reads(shape.attributes.get(_short(name)), value):
                unread.set(name, value)
        pieces = (element.text, *(child.tail for child in element))
        own = " ".join(piece.strip() for piece in pieces if piece and piece.strip())
        if own and not _reads(shape.text, "".join(element.itertext())):
            unread.text = own
        if unread.attrib or unread.text:
            self._add(path or "", self.converter.convert(unread))

    def _own_left_out(self, element: Element, shape: Shape, path: str) -> None:
        for name, value in element.attrib.items():
            kind = shape.attributes.get(_short(name))
            if kind is not None and kind.left_out and value.strip():
                self.left_out[f"{path}@{_short(name)}"] = kind.left_out
        if shape.text is not None and shape.text.left_out and "".join(element.itertext()).strip():
            self.left_out[path] = shape.text.left_out

    def _add(self, path: str, converted: dict[str, Any] | None) -> None:
        if converted is not None:
            self.found.append({"path": path, **converted})


def _short(name: str) -> str:
    return name.replace(f"{{{XML}}}", "xml:")


def _reads(kind: Kind | None, text: str) -> bool:
    """Whether a parser reads `text`. There is nothing to read in blank text."""
    return not text.strip() or (kind is not None and (bool(kind.left_out) or kind.read(text) is not None))


def _shape_of(child: Element, parent: Shape, inherited: str) -> Shape | None:
    namespace, name = namespace_of(child), name_of(child)
    fallback = None
    for shape in parent.children:
        if shape.namespace == ANY or (shape.namespace or inherited) == namespace:
            if shape.name == name:
                return shape
            if shape.name == ANY and (fallback is None or fallback.namespace == ANY):
                fallback = shape
    return fallback
