"""Helpers for Atom constructs (RFC 4287), shared by several parsers."""

from collections.abc import Iterator
from typing import NamedTuple
from xml.etree.ElementTree import Element

from pubsubcache.parsers import elements, html
from pubsubcache.parsers.elements import text_of
from pubsubcache.parsers.html import ATOM, XHTML, Rich
from pubsubcache.parsers.text import clean
from pubsubcache.parsers.uris import bare_jid
from pubsubcache.utils.xmlform import split_tag

_MARKUP_TYPES = frozenset({"html", "text/html"})
_TREE_TYPES = frozenset({"xhtml", "application/xhtml+xml", "xhtml+xml", "application/xhtml", "text/xhtml"})


class Person(NamedTuple):
    """An atom:author: `name`, `email` and the bare JID of its `xmpp:` URI. Missing or unreadable values are None."""

    name: str | None
    email: str | None
    jid: str | None


def children(parent: Element, name: str) -> Iterator[Element]:
    """Yield the direct children called `name` in Atom's namespace, at most `elements.MAX_ELEMENTS`."""
    return elements.children(parent, name, ATOM)


def child_text(parent: Element, name: str) -> str | None:
    """Return the text of the first non-empty child called `name` in Atom's namespace, or None."""
    return elements.child_text(parent, name, ATOM)


def _has_markup(element: Element) -> bool:
    return any(isinstance(child.tag, str) and split_tag(child.tag)[0] == XHTML for child in element)


def _read(element: Element) -> tuple[bool, Rich]:
    """Return whether a text construct contains markup, and its content."""
    kind = (element.get("type") or "").partition(";")[0].strip().lower()
    if kind in _MARKUP_TYPES and not len(element):
        return True, html.from_html(element.text or "")
    if kind in _TREE_TYPES or kind in _MARKUP_TYPES or (not kind and _has_markup(element)):
        return True, html.from_tree(element)
    if "/" in kind and not kind.startswith("text/"):  # an image, or some other XML
        return False, Rich(None, None)
    return False, Rich(text_of(element), None)


def text_construct(entry: Element, name: str, namespace: str = ATOM) -> Rich:
    """Return the content of the text constructs called `name` (RFC 4287, 3.1 and 4.1.3).

    Publishers often give the same content twice, as plain text and as markup. Both are combined; of several elements
    of the same kind, the first that is not empty is used. Without plain text, the text is extracted from the markup.

    Args:
        entry: The parent element.
        name: The local name of the text constructs.
        namespace: Their namespace. XEPs use text constructs in their own namespaces.
    """
    text: str | None = None
    rich = Rich(None, None)
    for element in elements.children(entry, name, namespace):
        is_markup, found = _read(element)
        if not is_markup:
            text = text or found.text
        elif rich == (None, None):
            rich = found
        if text and rich != (None, None):
            break
    return Rich(text or rich.text, rich.xhtml)


def person(element: Element) -> Person:
    """Parse an Atom person construct (RFC 4287, 3.2)."""
    jids = (bare_jid(text_of(uri)) for uri in children(element, "uri"))
    return Person(
        name=child_text(element, "name"),
        email=child_text(element, "email"),
        jid=next((jid for jid in jids if jid is not None), None),
    )


def author(entry: Element) -> Person:
    """Return the author of an entry: the first one with a JID, else the first one, else that of atom:source."""
    people = [person(element) for element in children(entry, "author")]
    if not people:
        source = entry.find(f"{{{ATOM}}}source")
        people = [] if source is None else [person(element) for element in children(source, "author")]
    nobody = Person(None, None, None)
    return next((one for one in people if one.jid), people[0] if people else nobody)


def tags(entry: Element) -> list[str]:
    """Return the terms of the categories (RFC 4287, 4.2.2) in order, trimmed and without duplicates."""
    found = (clean(element.get("term")) or clean(element.get("label")) for element in children(entry, "category"))
    return list(dict.fromkeys(tag for tag in found if tag))
