"""Elements and their parts, read as payloads of all kinds are read: tolerantly, and never without a bound.

What cannot be read is None, so that one broken field spoils no other.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from xml.etree.ElementTree import Element

from pubsubcache.exceptions import ParseError
from pubsubcache.parsers.text import clean, storable
from pubsubcache.utils.xmlform import PUBSUB, PUBSUB_EVENT, XML, split_tag

MAX_ELEMENTS = 1000  # of one name that are looked at in one element
MAX_NUMBER = 2**63 - 1  # what a database holds
MAX_NAME = 255  # characters of a name that a payload makes up: an element's, a field's, a key's

_MAX_DIGITS = 50


def payload(item: Element, name: str, *namespaces: str) -> Element:
    """Return the first child of an `<item/>` with that name in one of the namespaces.

    One in the namespace of the item itself counts as well, if there is none better: publishers forget to declare it,
    and so do examples of XEPs. Raises `ParseError` when there is none.
    """
    candidates = [child for child in item if isinstance(child.tag, str) and split_tag(child.tag)[1] == name]
    for allowed in (namespaces, ("", PUBSUB, PUBSUB_EVENT)):
        for child in candidates:
            if split_tag(child.tag)[0] in allowed:
                return child
    if not len(item):
        raise ParseError("The item has no payload.")
    raise ParseError(f"There is no <{name}/> of {namespaces[0]} in the item.")


def namespace_of(element: Element) -> str:
    """Return the namespace of an element, "" without one."""
    return split_tag(element.tag)[0] if isinstance(element.tag, str) else ""


def name_of(element: Element) -> str:
    """Return the name of an element without its namespace, storable and of bounded length; "" of a comment."""
    return storable(split_tag(element.tag)[1])[:MAX_NAME] if isinstance(element.tag, str) else ""


def elements_of(parent: Element) -> Iterator[Element]:
    """Yield the direct children that are elements, `MAX_ELEMENTS` at most."""
    return islice((child for child in parent if isinstance(child.tag, str)), MAX_ELEMENTS)


def children(parent: Element, name: str, namespace: str) -> Iterator[Element]:
    """Yield the direct children of that name, `MAX_ELEMENTS` at most."""
    return islice(parent.iterfind(f"{{{namespace}}}{name}"), MAX_ELEMENTS)


def child(parent: Element, name: str, namespace: str) -> Element | None:
    """Return the first direct child of that name, or None."""
    return parent.find(f"{{{namespace}}}{name}")


def text_of(element: Element) -> str | None:
    """Return the character data inside an element, elements in it included, or None."""
    return clean("".join(element.itertext()))


def texts(elements: Iterable[Element]) -> list[str]:
    """Return the texts of elements, each once, in their order."""
    return list(dict.fromkeys(text for element in elements if (text := text_of(element)) is not None))


def child_text(parent: Element, name: str, namespace: str) -> str | None:
    """Return the text of the first child of that name that has some, or None."""
    found = (text_of(element) for element in children(parent, name, namespace))
    return next((text for text in found if text is not None), None)


def language(*elements: Element) -> str | None:
    """Return the first `xml:lang` among the elements, or None."""
    values = (clean(element.get(f"{{{XML}}}lang")) for element in elements)
    return next((value for value in values if value is not None), None)


def translations(elements: Iterable[Element]) -> list[dict[str, str | None]]:
    """Return `{language, text}` of elements that say the same in several languages, without those that say nothing."""
    return [{"language": language(element), "text": text} for element in elements if (text := text_of(element))]


def attribute(element: Element, name: str) -> str | None:
    """Return an attribute's value trimmed, None when it is absent or empty."""
    return clean(element.get(name))


def raw_attribute(element: Element, name: str) -> str | None:
    """Return an attribute's value with its white space, which counts in item ids; None when it is absent or empty."""
    return storable(element.get(name) or "") or None


def flag(text: str | None) -> bool:
    """Return a boolean (XML Schema, and the spellings found in the wild): false when missing or unreadable."""
    return (text or "").strip().lower() in {"1", "true", "yes"}


def integer(text: str | None) -> int | None:
    """Return a whole number from 0 up that a database can hold, or None."""
    text = (text or "").strip()
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(MAX_NUMBER)):
        return None
    return int(text) if int(text) <= MAX_NUMBER else None


def number(text: str | None) -> float | None:
    """Return a finite number, or None."""
    try:
        found = float(text) if text and len(text) <= _MAX_DIGITS else None
    except ValueError:
        return None
    return found if found is not None and abs(found) < float("inf") else None
