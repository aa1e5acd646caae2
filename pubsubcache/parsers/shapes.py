"""Shapes describe which elements and attributes of a payload a parser reads, so that nothing is lost silently.

What a shape does not mention, and what is mentioned but unreadable, is what `rest_of` returns. It becomes the keys
`rest` and `rest_truncated` of the parsed item. A `Schema` has the shapes of all payloads that a parser reads, and
documents the keys that it returns.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from pubsubcache.parsers import dates, uris
from pubsubcache.parsers.conversion import Converter
from pubsubcache.parsers.elements import MAX_ELEMENTS, integer, name_of, namespace_of, number
from pubsubcache.parsers.text import clean, from_base64
from pubsubcache.utils.xmlform import XML

ANY = "*"
OTHER = "##other"
LANG = "xml:lang"
BASE = "xml:base"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a text or an attribute holds.

    Args:
        name: Name of the kind.
        read: Returns None for text that is not of this kind; the text then belongs to the rest.
        left_out: Why a value is not in the JSON, as a sentence; "" if it is.
        has_base: Whether it is a link that the parser resolves against `xml:base`.
    """

    name: str
    read: Callable[[str], object | None]
    left_out: str = ""
    has_base: bool = False

    def omitted(self, why: str) -> "Kind":
        """Return a kind whose values are not in the JSON, for the reason `why`."""
        return replace(self, left_out=why)


def _bare(text: str) -> str | None:
    """Return a bare JID. One with a resource belongs to the rest, because the JSON has the bare JID only."""
    found = uris.full(text)
    return None if found is None or "/" in found else found


WORDS = Kind("words", clean)
DATE = Kind("date", dates.parse)
INTEGER = Kind("integer", integer)
NUMBER = Kind("number", number)
FLAG = Kind("flag", lambda text: text.strip().lower() in {"0", "1", "true", "false", "yes", "no"} or None)
LINK = Kind("link", uris.link)
ABSOLUTE_LINK = Kind("absolute link", uris.absolute, has_base=True)
JID = Kind("jid", _bare)
FULL_JID = Kind("full jid", uris.full)
BASE64 = Kind("base64", from_base64)


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """An element that a parser reads. Shapes are compared by identity.

    Args:
        name: Local name; `ANY` for every name that no other shape has.
        namespace: Namespace; "" for that of the parent, `OTHER` for every other one, `ANY` for every one. A shape with
            the namespace itself has precedence.
        text: What its text holds; None if it is not read.
        attributes: What its attributes hold, by name; `LANG` and `BASE` for those of XML.
        children: Shapes of the child elements.
        needs: Names of attributes without which the element is not read. All of it belongs to the rest.
        once: Whether only the first element of this name is read. The others belong to the rest.
        whole: Whether all of its content is read, whatever it is, such as markup.
        left_out: Why neither the element nor its content is in the JSON, as a sentence; "" if it is.
        former: Former namespaces of the element, in which it is read too.
        when: Only elements for which this returns True have this shape. The shape goes before that of the others.
    """

    name: str
    namespace: str = ""
    text: Kind | None = None
    attributes: Mapping[str, Kind] = field(default_factory=dict)
    children: tuple["Shape", ...] = ()
    needs: tuple[str, ...] = ()
    once: bool = False
    whole: bool = False
    left_out: str = ""
    former: tuple[str, ...] = ()
    when: Callable[[Element], bool] | None = None

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


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the parsed JSON: its name, its type and its meaning, both in words."""

    name: str
    type: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What a parser reads and what it returns.

    Args:
        title: Heading of the documentation, such as "Moods".
        about: What the payload is, with the number of the XEP.
        payloads: Shapes of the payloads, each with its namespace. The first one is the current one.
        keys: The keys of the result, without `rest` and `rest_truncated`.
        notes: Further paragraphs of the documentation, in Markdown.
        several: Whether all payloads of an item are read, rather than the first one that fits.
    """

    title: str
    about: str
    payloads: tuple[Shape, ...]
    keys: tuple[Key, ...]
    notes: str = ""
    several: bool = False

    def fits(self, payload: Element) -> bool:
        """Return whether an element is a payload of this schema."""
        return _shape_of(payload, self.payloads, "") is not None

    def rest(self, item: Element) -> dict[str, Any]:
        """Return what a parser with this schema does not read of an item, see `rest_of`."""
        return rest_of(item, self.payloads, self.several)

    def left_out(self, item: Element) -> list[tuple[str, str]]:
        """Return what a parser with this schema leaves out of the JSON of an item, see `left_out_of`."""
        return left_out_of(item, self.payloads)

    def omissions(self) -> list[tuple[str, str]]:
        """Return the path and the reason of everything that is left out of the JSON, each once."""
        return list(dict.fromkeys(found for shape in self.payloads for found in shape.omissions()))


def matches(element: Element, shape: Shape) -> Iterator[tuple[Element, Shape | None]]:
    """Yield the child elements of `element`, each with the shape by which it is read, or None."""
    return ((child, found if is_read else None) for child, found, is_read in _matches(element, shape))


def rest_of(item: Element, payloads: Sequence[Shape], several: bool = False) -> dict[str, Any]:
    """Return what a parser does not read of an item.

    Args:
        item: The `<item/>` element.
        payloads: The shapes of the payloads that the parser reads.
        several: Whether it reads all of them, rather than the first one that fits.

    Returns:
        `rest`, a list of elements as `conversion` makes them, each with the `path` of its parent; an element that is
        read in part is listed without what is read. `rest_truncated` says whether a bound cut something off.
    """
    walk = _Walk()
    walk.element(item, _item(payloads), None, not several)
    return {"rest": walk.found, "rest_truncated": walk.converter.truncated}


def left_out_of(item: Element, payloads: Sequence[Shape]) -> list[tuple[str, str]]:
    """Return the path and the reason of everything in an item that is left out of the JSON, each once.

    Args:
        item: The `<item/>` element.
        payloads: The shapes of the payloads that the parser reads.
    """
    return list(dict.fromkeys(_omissions_in(item, _item(payloads), "")))


def _omissions_in(element: Element, shape: Shape, path: str) -> Iterator[tuple[str, str]]:
    if shape.left_out:
        yield path, shape.left_out
    if shape.left_out or shape.whole:
        return
    for name, value in element.attrib.items():
        kind = shape.attributes.get(_short(name))
        if kind is not None and kind.left_out and value.strip():
            yield f"{path}@{_short(name)}", kind.left_out
    if shape.text is not None and shape.text.left_out and "".join(element.itertext()).strip():
        yield path, shape.text.left_out
    for child, found, _ in _matches(element, shape):
        if found is not None:
            yield from _omissions_in(child, found, f"{path}/{name_of(child)}".lstrip("/"))


def _item(payloads: Sequence[Shape]) -> Shape:
    return Shape("item", attributes={"id": WORDS, "publisher": WORDS}, children=tuple(payloads))


class _Walk:
    """Compares elements with shapes. The depth of the recursion is that of the shapes, not that of the payload."""

    def __init__(self) -> None:
        self.converter = Converter()
        self.found: list[dict[str, Any]] = []

    def element(
        self, element: Element, shape: Shape, path: str | None, first_only: bool = False, base: str | None = None
    ) -> None:
        if shape.left_out or shape.whole:
            return
        base = uris.base_of(element.get(f"{{{XML}}}base"), base)
        self._own(element, shape, path, base)
        inner = "" if path is None else f"{path}/{name_of(element)}".lstrip("/")
        for child, found, is_read in _matches(element, shape, first_only):
            if found is None:
                self._add(inner, self.converter.convert(child))
            elif is_read:
                self.element(child, found, inner, base=base)
            else:
                self._add(inner, self.converter.convert(_without_omissions(child, found)))

    def _own(self, element: Element, shape: Shape, path: str | None, base: str | None) -> None:
        """Add the attributes and the text of an element that are not read."""
        unread = Element(element.tag)
        text = "" if shape.text is None else "".join(element.itertext())
        is_read = shape.text is not None and _reads(shape.text, text, base)
        for name, value in element.attrib.items():
            # The language of a text belongs to it.
            without_text = _short(name) == LANG and shape.text is not None and not (text.strip() and is_read)
            if without_text or not _reads(shape.attributes.get(_short(name)), value, base):
                unread.set(name, value)
        if not is_read:
            unread.text = _own_text(element)
        if unread.attrib or unread.text:
            self._add(path or "", self.converter.convert(unread))

    def _add(self, path: str, converted: dict[str, Any] | None) -> None:
        if converted is not None:
            self.found.append({"path": path, **converted})


def _short(name: str) -> str:
    return name.replace(f"{{{XML}}}", "xml:")


def _reads(kind: Kind | None, text: str, base: str | None = None) -> bool:
    """Whether a parser reads `text` within `base`. There is nothing to read in blank text."""
    if kind is not None and kind.has_base:
        text = uris.link(text, base) or text
    return not text.strip() or (kind is not None and (bool(kind.left_out) or kind.read(text) is not None))


def _reads_attribute(shape: Shape, element: Element, name: str) -> bool:
    value = element.get(name, "")
    return bool(value.strip()) and _reads(shape.attributes.get(name), value)


def _matches(element: Element, shape: Shape, first_only: bool = False) -> Iterator[tuple[Element, Shape | None, bool]]:
    """Yield the child elements, each with its shape or None, and whether it is read; at most one if `first_only`."""
    counts: dict[tuple[str, str] | Shape, int] = {}
    namespace = namespace_of(element)
    for child in element:
        if not isinstance(child.tag, str):
            continue
        found = _shape_of(child, shape.children, namespace)
        is_read = found is not None
        if found is not None:
            is_read = bool(found.left_out) or all(_reads_attribute(found, child, name) for name in found.needs)
            if is_read:
                alike = ("", "") if first_only else (found.name, found.namespace)
                for key in (alike, found):
                    counts[key] = counts.get(key, 0) + 1
                is_within = counts[alike] <= (1 if first_only else MAX_ELEMENTS)
                is_read = bool(found.left_out) or (is_within and not (found.once and counts[found] > 1))
        yield child, found, is_read


def _without_omissions(element: Element, shape: Shape) -> Element:
    """Return an element that is not read without what its shape leaves out, such as passwords, but with `xml:base`."""
    if next(shape.omissions(), None) is None:
        return element
    copy = Element(element.tag)
    for name, value in element.attrib.items():
        kind = shape.attributes.get(_short(name))
        if kind is None or not kind.left_out or _short(name) == BASE:
            copy.set(name, value)
    if shape.text is None or not shape.text.left_out:
        copy.text = _own_text(element)
    for child in element:
        found = _shape_of(child, shape.children, namespace_of(element))
        if found is None or not found.left_out:
            kept = child if found is None else _without_omissions(child, found)
            without_tail = SubElement(copy, kept.tag, kept.attrib)
            without_tail.text = kept.text
            without_tail.extend(kept)
    return copy


def _own_text(element: Element) -> str:
    """Return the text between the children of an element."""
    pieces = (element.text, *(child.tail for child in element))
    return " ".join(piece.strip() for piece in pieces if piece and piece.strip())


@lru_cache(maxsize=1000)
def _by_name(shapes: tuple[Shape, ...]) -> dict[str, tuple[Shape, ...]]:
    """Return the shapes that an element may have by its name, in order; `ANY` stands for all other names."""
    names = {ANY, *(shape.name for shape in shapes)}
    return {name: tuple(shape for shape in shapes if shape.name in (name, ANY)) for name in names}


def _shape_of(child: Element, shapes: tuple[Shape, ...], inherited: str) -> Shape | None:
    """Return the shape of an element whose parent is in the namespace `inherited`; the most specific one."""
    if not shapes or not isinstance(child.tag, str):
        return None
    namespace, by_name = namespace_of(child), _by_name(shapes)
    best, rank = None, (False, False)
    for shape in by_name.get(name_of(child), by_name[ANY]):
        if shape.namespace == OTHER:
            fits, exact = namespace != inherited, False
        else:
            exact = shape.namespace != ANY
            fits = not exact or (shape.namespace or inherited) == namespace or namespace in shape.former
        if fits and (shape.when is None or shape.when(child)) and (best is None or (shape.name != ANY, exact) > rank):
            best, rank = shape, (shape.name != ANY, exact)
    return best
