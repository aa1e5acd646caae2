"""Parser for user locations (XEP-0080)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import dates, uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import child_text, language, number, payload
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import DATE, LANG, LINK, NUMBER, WORDS, Kind, Shape, words

GEOLOC = "http://jabber.org/protocol/geoloc"


def _latitude(text: str | None) -> float | None:
    return _within(90, number(text))


def _longitude(text: str | None) -> float | None:
    return _within(180, number(text))


def _within(limit: int, found: float | None) -> float | None:
    return found if found is not None and abs(found) <= limit else None


_NUMBERS = {
    "alt": "Altitude above or below sea level, in metres.",
    "accuracy": "Horizontal error, in metres.",
    "altaccuracy": "Vertical error, in metres.",
    "bearing": "Direction of movement, in degrees from true north.",
    "error": "Horizontal error in arc minutes, as `accuracy` was given formerly.",
    "speed": "Metres per second.",
}
_TEXTS = {
    "area": "A named area, such as a campus.",
    "building": "The building.",
    "country": "The country.",
    "countrycode": "The country's code of two letters (ISO 3166).",
    "datum": "The datum of the coordinates; WGS84 unless stated.",
    "description": "A name or description of the place.",
    "floor": "The floor.",
    "locality": "The town or village.",
    "postalcode": "The postal code.",
    "region": "The administrative region.",
    "regioncode": "The region's code (ISO 3166-2).",
    "room": "The room.",
    "street": "The street.",
    "text": "Anything else about the place.",
    "tzo": "The offset of its time zone from UTC, such as `+02:00`.",
}

#: A location, as a payload or within another one.
PLACE = Shape(
    "geoloc",
    GEOLOC,
    attributes={LANG: WORDS},
    children=(
        Shape("lat", text=Kind("latitude", _latitude), once=True),
        Shape("lon", text=Kind("longitude", _longitude), once=True),
        *(Shape(name, text=NUMBER, once=True) for name in _NUMBERS),
        *words(*_TEXTS, once=True),
        Shape("timestamp", text=DATE, once=True),
        Shape("uri", text=LINK, once=True),
    ),
    once=True,
)

PLACES = Schema(
    title="Places",
    about="Where a user is (XEP-0080). The same object describes places in posts and events.",
    payloads=(PLACE,),
    keys=(
        Key("lat", "number or null", "Latitude in degrees, from -90 to 90."),
        Key("lon", "number or null", "Longitude in degrees, from -180 to 180."),
        *(Key(name, "number or null", meaning) for name, meaning in _NUMBERS.items()),
        *(Key(name, "text or null", meaning) for name, meaning in _TEXTS.items()),
        Key("timestamp", "date or null", "When the location was determined."),
        Key("uri", "link or null", "More about the place."),
        Key("language", "text or null", "The language of the texts."),
    ),
    notes="A place without any value means that the user stopped publishing locations.",
)


@reads(PLACES)
def parse_geoloc(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a user location (XEP-0080). An empty one means that the user stopped publishing a location.

    Raises:
        ParseError: The item does not contain a location.
    """
    return place(payload(item, "geoloc", GEOLOC))


def place(element: Element) -> dict[str, Any]:
    """Convert a `<geoloc/>` element to JSON."""
    return {
        "lat": _latitude(child_text(element, "lat", GEOLOC)),
        "lon": _longitude(child_text(element, "lon", GEOLOC)),
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
    return found if found and any(value is not None for value in found.values()) else None
