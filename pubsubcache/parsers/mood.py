"""Parser for user moods (XEP-0107)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import child, child_text, elements_of, language, name_of, namespace_of, payload
from pubsubcache.parsers.encrypted import unless_encrypted

MOOD = "http://jabber.org/protocol/mood"


@unless_encrypted
def parse_mood(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a user mood (XEP-0107).

    Raises:
        ParseError: The item does not contain a mood.
    """
    element = payload(item, "mood", MOOD)
    chosen = next(inner(element, MOOD), None)
    text = child(element, "text", MOOD)
    return {
        "mood": name_of(chosen) if chosen is not None else None,
        "detail": detail(chosen, MOOD),
        "text": child_text(element, "text", MOOD),
        "language": language(*([] if text is None else [text]), element),
    }


def inner(element: Element, space: str) -> Any:
    """Yield the children in namespace `space` that name a value, i.e. all but `<text/>`."""
    return (one for one in elements_of(element) if namespace_of(one) == space and name_of(one) != "text")


def detail(element: Element | None, space: str) -> dict[str, str] | None:
    """Return the first child in a namespace other than `space` as `{namespace, name}`, or None."""
    found = (one for one in ([] if element is None else elements_of(element)) if namespace_of(one) != space)
    return next(({"namespace": namespace_of(one), "name": name_of(one)} for one in found), None)
