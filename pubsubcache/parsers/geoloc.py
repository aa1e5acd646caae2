"""Parser for user locations (XEP-0080)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import dates, uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import child_text, language, number, payload
from pubsubcache.parsers.encrypted import unless_encrypted

GEOLOC = "http://jabber.org/protocol/geoloc"

_NUMBERS = ("alt", "accuracy", "altaccuracy", "bearing", "error", "speed")
_TEXTS = (
    *("area", "building", "country", "countrycode", "datum", "description", "floor", "locality", "postalcode"),
    *("region", "room", "street", "text", "tzo"),
)


@unless_encrypted
def parse_geoloc(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a user location (XEP-0080). An empty one means that the user stopped publishing a location.

    Raises:
        ParseError: The item does not contain a location.
    """
    return place(payload(item, "geoloc", GEOLOC))


def place(element: Element) -> dict[str, Any]:
    """Convert a `<geoloc/>` element to JSON."""
    return {
        "lat": _degrees(element, "lat", 90),
        "lon": _degrees(element, "lon", 180),
        **{name: number(child_text(element, name, GEOLOC)) for name in _NUMBERS},
        **{name: child_text(element, name, GEOLOC) for name in _TEXTS},
        "timestamp": dates.normalise(child_text(element, "timestamp", GEOLOC)),
        "uri": uris.link(child_text(element, "uri", GEOLOC)),
        "language": language(element),
    }


def place_in(parent: Element) -> dict[str, Any] | None:
    """Return the location among the children of `parent`, or None if it is missing or empty."""
    element = parent.find(f"{{{GEOLOC}}}geoloc")
    found = None if element is None else place(element)
    return found if found and any(value is not None for key, value in found.items() if key != "language") else None


def _degrees(element: Element, name: str, limit: int) -> float | None:
    found = number(child_text(element, name, GEOLOC))
    return found if found is not None and abs(found) <= limit else None
