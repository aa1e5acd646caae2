"""The constructs of Atom (RFC 4287) that parsers have in common."""

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
    """An atom:author: `name`, `email`, and the bare JID of its `xmpp:` URI; None where not given or not readable."""

    name: str | None
    email: str | None
    jid: str | None


def children(parent: Element, name: str) -> Iterator[Element]:
    """Yield the direct children of that name in Atom's namespace, so many at most."""
    return elements.children(parent, name, ATOM)


def child_text(parent: Element, name: str) -> str | None:
    """Return the text of the first child of that name in Atom's namespace that has some, or None."""
    return elements.child_text(parent, name, ATOM)


def _has_markup(element: Element) -> bool:
    return any(isinstance(child.tag, str) and split_tag(child.tag)[0] == XHTML for child in element)


def _read(element: Element) -> tuple[bool, Rich]:
    """Return whether a text construct is marked up, and what it holds."""
    kind = (element.get("type") or "").partition(";")[0].strip().lower()
    if kind in _MARKUP_TYPES and not len(element):
        return True, html.from_html(element.text or "")
    if kind in _TREE_TYPES or kind in _MARKUP_TYPES or (not kind and _has_markup(element)):
        return True, html.from_tree(element)
    if "/" in kind and not kind.startswith("text/"):  # an image, or XML of another kind
        return False, Rich(None, None)
    return False, Rich(text_of(element), None)


def text_construct(entry: Element, name: str, namespace: str = ATOM) -> Rich:
    """Return what the children of that name say (RFC 4287, 3.1 and 4.1.3; XEPs took it over into their namespaces).

    Publishers give the same content twice, plain and marked up; the two are combined. Of several of a kind the first
    that is not empty counts. Without a plain one the text is taken from the markup.
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
    """Return what an atom:author holds (RFC 4287, 3.2)."""
    jids = (bare_jid(text_of(uri)) for uri in children(element, "uri"))
    return Person(
        name=child_text(element, "name"),
        email=child_text(element, "email"),
        jid=next((jid for jid in jids if jid is not None), None),
    )


def author(entry: Element) -> Person:
    """Return the author of an entry: the first with a JID, else the first; the source's when there is none."""
    people = [person(element) for element in children(entry, "author")]
    if not people:
        source = entry.find(f"{{{ATOM}}}source")
        people = [] if source is None else [person(element) for element in children(source, "author")]
    nobody = Person(None, None, None)
    return next((one for one in people if one.jid), people[0] if people else nobody)


def tags(entry: Element) -> list[str]:
    """Return the terms of the categories (RFC 4287, 4.2.2), trimmed, each once, in their order."""
    found = (clean(element.get("term")) or clean(element.get("label")) for element in children(entry, "category"))
    return list(dict.fromkeys(tag for tag in found if tag))
