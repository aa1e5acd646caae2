"""Conversion of any XML to JSON of bounded size.

An element becomes `{namespace, name, attributes, text, children}`. `attributes` is an object of strings; attributes in
a namespace are named `{namespace}name`. `text` is the character data between the children, or null. `children` is a
list of elements. The result has at most `MAX_NODES` elements, `MAX_DEPTH` levels, `MAX_ATTRIBUTES` attributes per
element and `MAX_TEXT` characters per text.
"""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers.elements import MAX_NAME, name_of, namespace_of
from pubsubcache.parsers.text import clean, storable

MAX_DEPTH = 20
MAX_NODES = 2000
MAX_ATTRIBUTES = 50
MAX_TEXT = 10_000


class Converter:
    """Converts elements level by level, and counts them.

    Attributes:
        truncated: Whether a bound cut something off.
    """

    def __init__(self) -> None:
        self._taken = 0
        self.truncated = False

    def convert(self, element: Element) -> dict[str, Any] | None:
        """Convert an element with its content; None if there is no room left."""
        if not self._has_room():
            return None
        converted = self._convert(element)
        converted["children"] = self.convert_children(element)
        return converted

    def convert_children(self, root: Element) -> list[dict[str, Any]]:
        """Convert the content of `root` breadth first, so that deep elements don't use up the limit."""
        found: list[dict[str, Any]] = []
        level = [(root, found)]
        for _ in range(MAX_DEPTH):
            deeper: list[tuple[Element, list[dict[str, Any]]]] = []
            for parent, into in level:
                for child in parent:
                    if isinstance(child.tag, str) and self._has_room():
                        into.append(self._convert(child))
                        deeper.append((child, into[-1]["children"]))
            level = deeper
        self.truncated = self.truncated or any(len(parent) for parent, _ in level)
        return found

    def _has_room(self) -> bool:
        self._taken += 1
        self.truncated = self.truncated or self._taken > MAX_NODES
        return self._taken <= MAX_NODES

    def _convert(self, element: Element) -> dict[str, Any]:
        pieces = [element.text, *(child.tail for child in element)]
        words = clean(" ".join(piece.strip() for piece in pieces if piece and piece.strip()))
        return {
            "namespace": storable(namespace_of(element)),
            "name": name_of(element),
            "attributes": self._attributes(element),
            "text": None if words is None else self._bounded(words),
            "children": [],
        }

    def _attributes(self, element: Element) -> dict[str, str]:
        pairs = list(element.attrib.items())
        self.truncated = self.truncated or len(pairs) > MAX_ATTRIBUTES
        return {storable(name)[:MAX_NAME]: self._bounded(storable(value)) for name, value in pairs[:MAX_ATTRIBUTES]}

    def _bounded(self, text: str) -> str:
        self.truncated = self.truncated or len(text) > MAX_TEXT
        return text[:MAX_TEXT]
