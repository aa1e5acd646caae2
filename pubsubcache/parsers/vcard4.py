"""Parser for profiles (XEP-0292): vCard 4 (RFC 6350) in XML (RFC 6351)."""

from collections.abc import Iterator
from itertools import islice
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import dates, uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import (
    child,
    child_text,
    children,
    elements_of,
    integer,
    name_of,
    payload,
    text_of,
    texts,
)
from pubsubcache.parsers.encrypted import unless_encrypted

VCARD = "urn:ietf:params:xml:ns:vcard-4.0"
MAX_TYPES = 20  # per property; they are repeated for each of its values

_NAMES = ("surname", "given", "additional", "prefix", "suffix")
_ADDRESS = ("pobox", "ext", "street", "locality", "region", "code", "country")


@unless_encrypted
def parse_vcard(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a vCard (XEP-0292).

    Raises:
        ParseError: The item does not contain a vCard.
    """
    card = _Card(payload(item, "vcard", VCARD))
    names = card.first("n")
    messaging = card.typed("impp")
    return {
        "name": card.value("fn"),
        "names": {name: [] if names is None else texts(children(names, name, VCARD)) for name in _NAMES},
        "nicknames": card.values("nickname"),
        "kind": card.value("kind"),
        "birthday": card.value("bday"),
        "anniversary": card.value("anniversary"),
        **card.gender(),
        "emails": card.typed("email"),
        "phones": card.typed("tel"),
        "addresses": card.addresses(),
        "messaging": messaging,
        "jids": _jids(messaging),
        **{key: card.links(name) for key, name in (("urls", "url"), ("photos", "photo"), ("keys", "key"))},
        "organisations": card.values("org"),
        "titles": card.values("title"),
        "roles": card.values("role"),
        "notes": card.values("note"),
        "languages": card.values("lang"),
        "tags": card.values("categories"),
        "places": [place for place in card.links("geo") if place[:4].lower() == "geo:"],
        "timezone": card.value("tz"),
        "uid": card.value("uid"),
        "updated": dates.normalise(card.value("rev")),
    }


class _Card:
    """Gives access to the properties of a `<vcard/>`. All children of a property but `<parameters/>` are values."""

    def __init__(self, element: Element) -> None:
        groups = children(element, "group", VCARD)
        self._holders = [element, *groups]

    def all(self, name: str) -> Iterator[Element]:
        """Yield the properties with this name; those in groups last."""
        for holder in self._holders:
            yield from children(holder, name, VCARD)

    def first(self, name: str) -> Element | None:
        return next(self.all(name), None)

    def values(self, name: str) -> list[str]:
        """Return the values of all properties with this name, without duplicates."""
        return texts(value for one in self.all(name) for value in _values(one))

    def value(self, name: str) -> str | None:
        return next(iter(self.values(name)), None)

    def links(self, name: str) -> list[str]:
        """Return the values that are safe links, which excludes `data:`."""
        return [url for value in self.values(name) if ":" in value and (url := uris.link(value)) is not None]

    def typed(self, name: str) -> list[dict[str, Any]]:
        found = ((_parameters(one), texts(_values(one))) for one in self.all(name))
        return [{"value": value, **parameters} for parameters, values in found for value in values]

    def addresses(self) -> list[dict[str, Any]]:
        return [
            {**_parameters(one), **{part: child_text(one, part, VCARD) for part in _ADDRESS}} for one in self.all("adr")
        ]

    def gender(self) -> dict[str, str | None]:
        gender = self.first("gender")
        sex, words = (None if gender is None else child_text(gender, name, VCARD) for name in ("sex", "identity"))
        return {"gender": sex, "gender_text": words or (None if gender is None else child_text(gender, "text", VCARD))}


def _values(element: Element) -> Iterator[Element]:
    return (one for one in elements_of(element) if name_of(one) != "parameters")


def _parameters(element: Element) -> dict[str, Any]:
    """Return the types of a property and its preference, from 1 (most preferred) to 100."""
    parameters = child(element, "parameters", VCARD)
    types = None if parameters is None else child(parameters, "type", VCARD)
    preference = None if parameters is None else child(parameters, "pref", VCARD)
    return {
        "types": [] if types is None else [text.lower() for text in texts(islice(elements_of(types), MAX_TYPES))],
        "pref": None if preference is None else integer(text_of(preference)),
    }


def _jids(messaging: list[dict[str, Any]]) -> list[str]:
    found = (uris.bare_jid(one["value"]) for one in messaging if one["value"][:5].lower() == "xmpp:")
    return list(dict.fromkeys(jid for jid in found if jid is not None))
