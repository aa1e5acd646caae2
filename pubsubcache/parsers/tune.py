"""Parser for user tunes (XEP-0118)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import child_text, elements_of, integer, payload
from pubsubcache.parsers.encrypted import unless_encrypted

TUNE = "http://jabber.org/protocol/tune"


@unless_encrypted
def parse_tune(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a user tune (XEP-0118).

    Raises:
        ParseError: The item does not contain a tune.
    """
    element = payload(item, "tune", TUNE)
    rating = integer(child_text(element, "rating", TUNE))
    return {
        "playing": any(True for _ in elements_of(element)),
        **{name: child_text(element, name, TUNE) for name in ("artist", "title", "source", "track")},
        "length": integer(child_text(element, "length", TUNE)),
        "rating": rating if rating is not None and 1 <= rating <= 10 else None,
        "uri": uris.link(child_text(element, "uri", TUNE)),
    }
