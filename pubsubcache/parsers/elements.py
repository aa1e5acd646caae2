"""Helpers to read XML elements, shared by all parsers. They are tolerant, and bounded in what they read.

Values that cannot be read are None, so that one broken field does not affect the others.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from xml.etree.ElementTree import Element

from pubsubcache.exceptions import ParseError
from pubsubcache.parsers.text import clean, storable
from pubsubcache.utils.xmlform import PUBSUB, PUBSUB_EVENT, XML, split_tag

MAX_ELEMENTS = 1000  # children with the same name that are read from one element
MAX_NUMBER = 2**63 - 1  # the largest integer that both databases store
MAX_NAME = 255  # characters of a name that a payload chooses: of an element, a field or a key

_MAX_DIGITS = 50


def payload(item: Element, name: str, *namespaces: str) -> Element:
    """Return the payload of an item.

    An element in the namespace of the item itself is accepted as a fallback: some publishers, and some examples in
    XEPs, omit the declaration of the namespace.

    Args:
        item: The `<item/>` element.
        name: Local name of the payload.
        namespaces: Accepted namespaces of the payload.

    Raises:
        ParseError: The item has no such payload.
    """
    candidates = [child for child in item if isinstance(child.tag, str) and split_tag(child.tag)[1] == name]
    for allowed in (namespaces, ("", PUBSUB, PUBSUB_EVENT)):
        for child in candidates:
            if split_tag(child.tag)[0] in allowed:
                return child
    if not len(item):
        raise ParseError("The item has no payload.")
    raise ParseError(f"The item does not contain <{name}/> in the namespace {namespaces[0]}.")


def namespace_of(element: Element) -> str:
    """Return the namespace of an element, or ""."""
    return split_tag(element.tag)[0] if isinstance(element.tag, str) else ""


def name_of(element: Element) -> str:
    """Return the local name of an element, storable and of bounded length; "" for a comment."""
    return storable(split_tag(element.tag)[1])[:MAX_NAME] if isinstance(element.tag, str) else ""


def qualified(element: Element) -> dict[str, str]:
    """Return `{namespace, name}` of an element."""
    return {"namespace": namespace_of(element), "name": name_of(element)}


def elements_of(parent: Element) -> Iterator[Element]:
    """Yield the child elements, at most `MAX_ELEMENTS`."""
    return islice((child for child in parent if isinstance(child.tag, str)), MAX_ELEMENTS)


def children(parent: Element, name: str, namespace: str) -> Iterator[Element]:
    """Yield the child elements with this name and namespace, at most `MAX_ELEMENTS`."""
    return islice(parent.iterfind(f"{{{namespace}}}{name}"), MAX_ELEMENTS)


def child(parent: Element, name: str, namespace: str) -> Element | None:
    """Return the first child element with this name and namespace, or None."""
    return parent.find(f"{{{namespace}}}{name}")


def text_of(element: Element) -> str | None:
    """Return the character data of an element and its descendants, or None."""
    return clean("".join(element.itertext()))


def texts(elements: Iterable[Element]) -> list[str]:
    """Return the texts of elements in order, without duplicates."""
    return list(dict.fromkeys(text for element in elements if (text := text_of(element)) is not None))


def child_text(parent: Element, name: str, namespace: str) -> str | None:
    """Return the text of the first non-empty child with this name and namespace, or None."""
    found = (text_of(element) for element in children(parent, name, namespace))
    return next((text for text in found if text is not None), None)


def language(*elements: Element) -> str | None:
    """Return the first `xml:lang` among the elements, or None."""
    values = (clean(element.get(f"{{{XML}}}lang")) for element in elements)
    return next((value for value in values if value is not None), None)


def translations(elements: Iterable[Element], *parents: Element) -> list[dict[str, str | None]]:
    """Return `{language, text}` for each non-empty element; those without a language have that of the parents."""
    found = ((language(element, *parents), text_of(element)) for element in elements)
    return [{"language": spoken, "text": text} for spoken, text in found if text]


def attribute(element: Element, name: str) -> str | None:
    """Return the trimmed value of an attribute, or None if it is missing or empty."""
    return clean(element.get(name))


def raw_attribute(element: Element, name: str) -> str | None:
    """Return the value of an attribute with its white space, which is significant in item ids.

    Returns None if it is missing or empty.
    """
    return storable(element.get(name) or "") or None


def flag(text: str | None) -> bool:
    """Parse a boolean, in the spellings of XML Schema and others in use. False if missing or unreadable."""
    return (text or "").strip().lower() in {"1", "true", "yes"}


def integer(text: str | None) -> int | None:
    """Parse an integer from 0 to `MAX_NUMBER`; return None for anything else."""
    text = (text or "").strip()
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MAX_NUMBER)):
        return None
    return int(text) if int(text) <= MAX_NUMBER else None


def number(text: str | None) -> float | None:
    """Parse a finite number; return None for anything else."""
    try:
        found = float(text) if text and len(text) <= _MAX_DIGITS else None
    except ValueError:
        return None
    return found if found is not None and abs(found) < float("inf") else None
