"""Parser for profiles (XEP-0292): vCard 4 (RFC 6350) in XML (RFC 6351)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes
from xml.etree.ElementTree import Element

from pubsubcache.parsers import dates, uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import integer, name_of, payload, text_of
from pubsubcache.parsers.schema import reads
from pubsubcache.parsers.shapes import ANY, WORDS, Key, Kind, Schema, Shape, matches, words
from pubsubcache.parsers.text import clean, from_base64

VCARD = "urn:ietf:params:xml:ns:vcard-4.0"
# Types are repeated for each value of a property, and names of groups for each property in them.
MAX_TYPES = 20
MAX_VALUES = 20
MAX_REPEATED = 100  # characters

_NAMES = ("surname", "given", "additional", "prefix", "suffix")
_ADDRESS = ("pobox", "ext", "street", "locality", "region", "code", "country")
_TYPES = (  # of values (RFC 6351, 5.3)
    *("text", "uri", "date", "time", "date-time", "date-and-or-time", "timestamp", "boolean", "integer", "float"),
    *("utc-offset", "language-tag", "unknown"),
)
_DATA = re.compile(
    r"data: (?P<type>[\w.+-]{1,127}/[\w.+-]{1,127})? (?:;[\w.+=-]{1,127})*? (?P<base64>;base64)? ,",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)


def _group_name(text: str | None) -> str | None:
    name = clean(text)
    return name if name is not None and len(name) <= MAX_REPEATED else None


def _data(text: str | None) -> re.Match[str] | None:
    """Return the beginning of a `data:` URI, or None."""
    return _DATA.match(text or "")


_VALUE = Shape(ANY, text=WORDS, children=words("text"))
_EMBEDDED = Shape(
    ANY,
    when=lambda element: _data(text_of(element)) is not None,
    left_out="Pictures, keys and sounds inside the card (`data:` URIs) stay in the item's XML.",
)
_PARAMETERS = Shape("parameters", children=(Shape(ANY, text=WORDS, children=words(*_TYPES)),))
_PROPERTY = Shape(ANY, text=WORDS, children=(_PARAMETERS, _EMBEDDED, _VALUE))
_GROUP = Shape("group", attributes={"name": Kind("name of a group", _group_name)}, children=(_PROPERTY,))
_VCARD = Shape("vcard", VCARD, children=(_GROUP, _PROPERTY), once=True)

PROFILES = Schema(
    title="Profiles",
    about="Profiles (XEP-0292): vCard 4 (RFC 6350, RFC 9554) in XML (RFC 6351).",
    payloads=(_VCARD,),
    keys=(
        Key("name", "text or null", "The full name."),
        Key(
            "names",
            "object",
            "The parts of the name, each a list of text: `surname`, `given`, `additional`, `prefix`, `suffix`, and "
            "others such as `generation` if there are any.",
        ),
        Key("nicknames", "list of text", "Names that friends use."),
        Key("pronouns", "list of text", "How to refer to the person."),
        Key("kind", "text or null", "`individual`, `group`, `org`, `location`, `application` and the like."),
        Key("birthday", "text or null", "As given: a date, a part of one, or words."),
        Key("birthplace", "text or null", "As given."),
        Key("anniversary", "text or null", "Like `birthday`."),
        Key("deathdate", "text or null", "Like `birthday`."),
        Key("deathplace", "text or null", "As given."),
        Key("gender", "text or null", "One letter, as RFC 6350 defines them."),
        Key("gender_text", "text or null", "In the person's own words."),
        Key("grammatical_genders", "list of text", "The grammatical gender to use: `feminine`, `neuter` and the like."),
        Key("emails", "list of objects", "E-mail addresses, each `{value, types, pref}`."),
        Key("phones", "list of objects", "Telephone numbers, each `{value, types, pref}`."),
        Key(
            "addresses",
            "list of objects",
            "Each `{types, pref, pobox, ext, street, locality, region, code, country, parts, label}`. `parts` has all "
            "values of each part, as lists of text. `label` is the address as to be printed, or null.",
        ),
        Key(
            "messaging",
            "list of objects",
            "Addresses of instant messaging, also `xmpp:` URIs, each `{value, types, pref}`.",
        ),
        Key("jids", "list of JIDs", "The JIDs among them."),
        Key(
            "social_profiles",
            "list of objects",
            "Accounts in social networks, each `{value, types, pref, service, username}`.",
        ),
        Key("urls", "list of links", "Websites."),
        Key("photos", "list of links", "Pictures of the person. Those inside the card are in `embedded`."),
        Key("logos", "list of links", "Logos of the organisation. The same applies."),
        Key("sounds", "list of links", "How the name is pronounced. The same applies."),
        Key("keys", "list of links", "Public keys. The same applies."),
        Key(
            "embedded",
            "list of objects",
            "Pictures, keys and sounds inside the card, each `{property, media_type, size}`: the name of the property, "
            "text or null, and the size in bytes or null.",
        ),
        Key("organisations", "list of text", "Where the person works, with its departments."),
        Key("directories", "list of links", "Directories of the organisation."),
        Key("titles", "list of text", "Positions there."),
        Key("roles", "list of text", "What the person does there."),
        Key("expertise", "list of text", "What the person knows."),
        Key("hobbies", "list of text", "What the person likes to do."),
        Key("interests", "list of text", "What the person likes."),
        Key("notes", "list of text", "Other notes."),
        Key("languages", "list of text", "Languages that the person speaks."),
        Key("tags", "list of text", "Categories."),
        Key("places", "list of text", "`geo:` URIs."),
        Key("timezone", "text or null", "As given."),
        Key("related", "list of objects", "Other people, each `{value, types, pref}`."),
        Key("members", "list of text", "The members of a group."),
        Key("calendars", "list of links", "Calendars."),
        Key("scheduling", "list of links", "Where to send requests for appointments."),
        Key("free_busy", "list of links", "When the person is busy."),
        Key("contact_uris", "list of links", "Other ways to get in touch."),
        Key("sources", "list of links", "Where the card can be fetched."),
        Key("product", "text or null", "The software that made the card."),
        Key("language", "text or null", "The language of the card's texts."),
        Key("uid", "text or null", "The card's own id."),
        Key("created", "date or null", "When the card was created."),
        Key("updated", "date or null", "When the card was revised."),
        Key("groups", "list of text", "The names of groups of properties."),
        Key(
            "properties",
            "list of objects",
            "All properties of the card, those in groups last, each `{name, group, parameters, values}`. `parameters` "
            "has a list of text for each parameter. `values` are `{type, value, data}`: `type` is the name of the "
            "value's element, such as `text` or, in an address, `street`. `data` is `{media_type, size}` if the value "
            "is inside the card, and null otherwise.",
        ),
    ),
    notes="A `value` is text as given: check it before you use it as a link. The other keys are taken from "
    "`properties`, which also has properties without a key of their own, such as `x-` ones. Elements in other "
    "namespaces are in `rest`. The lists with `types` have at most 20 values and types of one property.",
)


@reads(PROFILES)
def parse_vcard(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a vCard (XEP-0292).

    Raises:
        ParseError: The item does not contain a vCard.
    """
    element = payload(item, "vcard", VCARD)
    groups = [one for one, shape in matches(element, _VCARD) if shape is _GROUP]
    card = _Card([*_properties(element, _VCARD), *(one for group in groups for one in _properties(group, _GROUP))])
    messaging = card.typed("impp")
    return {
        "name": card.value("fn"),
        "names": {**{name: [] for name in _NAMES}, **card.first("n").parts()},
        "nicknames": card.values("nickname"),
        "pronouns": card.values("pronouns"),
        "kind": card.value("kind"),
        "birthday": card.value("bday"),
        "birthplace": card.value("birthplace"),
        "anniversary": card.value("anniversary"),
        "deathdate": card.value("deathdate"),
        "deathplace": card.value("deathplace"),
        **card.gender(),
        "grammatical_genders": card.values("gramgender"),
        "emails": card.typed("email"),
        "phones": card.typed("tel"),
        "addresses": [_address(one) for one in card.all("adr") if one.texts() or one.parameters],
        "messaging": messaging,
        "jids": _jids(messaging),
        "social_profiles": card.social_profiles(),
        "urls": card.links("url"),
        "photos": card.links("photo"),
        "logos": card.links("logo"),
        "sounds": card.links("sound"),
        "keys": card.links("key"),
        "embedded": card.embedded(),
        "organisations": card.values("org"),
        "directories": card.links("org-directory"),
        "titles": card.values("title"),
        "roles": card.values("role"),
        "expertise": card.values("expertise"),
        "hobbies": card.values("hobby"),
        "interests": card.values("interest"),
        "notes": card.values("note"),
        "languages": card.values("lang"),
        "tags": card.values("categories"),
        "places": [place for place in card.links("geo") if place[:4].lower() == "geo:"],
        "timezone": card.value("tz"),
        "related": card.typed("related"),
        "members": card.values("member"),
        "calendars": card.links("caluri"),
        "scheduling": card.links("caladruri"),
        "free_busy": card.links("fburl"),
        "contact_uris": card.links("contact-uri"),
        "sources": card.links("source"),
        "product": card.value("prodid"),
        "language": card.value("language"),
        "uid": card.value("uid"),
        "created": dates.normalise(card.value("created")),
        "updated": dates.normalise(card.value("rev")),
        "groups": list(dict.fromkeys(name for group in groups if (name := _group_name(group.get("name"))))),
        "properties": [one.as_json() for one in card.properties],
    }


@dataclass(frozen=True, slots=True)
class _Value:
    """A value of a property; `data` describes the content of a `data:` URI, which has no `text`."""

    type: str | None
    text: str | None
    data: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class _Property:
    name: str
    group: str | None
    parameters: dict[str, list[str]]
    values: list[_Value]

    def texts(self) -> list[str]:
        """Return the values without duplicates."""
        return list(dict.fromkeys(value.text for value in self.values if value.text is not None))

    def parts(self) -> dict[str, list[str]]:
        """Return the values by their types, without duplicates."""
        found: dict[str, dict[str, None]] = {}
        for value in self.values:
            if value.type is not None and value.text is not None:
                found.setdefault(value.type, {})[value.text] = None
        return {name: list(texts) for name, texts in found.items()}

    def parameter(self, name: str) -> str | None:
        return next(iter(self.parameters.get(name, [])), None)

    def types(self) -> dict[str, Any]:
        """Return the types of a property and its preference, from 1 (most preferred) to 100."""
        types = [text.lower() for text in self.parameters.get("type", []) if len(text) <= MAX_REPEATED]
        return {"types": list(dict.fromkeys(types))[:MAX_TYPES], "pref": integer(self.parameter("pref"))}

    def as_json(self) -> dict[str, Any]:
        values = [{"type": value.type, "value": value.text, "data": value.data} for value in self.values]
        return {"name": self.name, "group": self.group, "parameters": self.parameters, "values": values}


class _Card:
    """Gives access to the properties of a `<vcard/>`."""

    def __init__(self, properties: list[_Property]) -> None:
        self.properties = properties
        self._named: dict[str, list[_Property]] = {}
        for one in properties:
            self._named.setdefault(one.name, []).append(one)

    def all(self, name: str) -> list[_Property]:
        """Return the properties with this name; those in groups last."""
        return self._named.get(name, [])

    def first(self, name: str) -> _Property:
        return next(iter(self.all(name)), _Property(name, None, {}, []))

    def values(self, name: str) -> list[str]:
        """Return the values of all properties with this name, without duplicates."""
        return list(dict.fromkeys(text for one in self.all(name) for text in one.texts()))

    def value(self, name: str) -> str | None:
        return next(iter(self.values(name)), None)

    def links(self, name: str) -> list[str]:
        """Return the values that are safe links."""
        return [url for value in self.values(name) if ":" in value and (url := uris.link(value)) is not None]

    def typed(self, name: str) -> list[dict[str, Any]]:
        return [{"value": text, **one.types()} for one in self.all(name) for text in one.texts()[:MAX_VALUES]]

    def social_profiles(self) -> list[dict[str, Any]]:
        return [
            {
                "value": text,
                **one.types(),
                "service": one.parameter("service-type"),
                "username": one.parameter("username"),
            }
            for one in self.all("socialprofile")
            for text in one.texts()[:MAX_VALUES]
        ]

    def embedded(self) -> list[dict[str, Any]]:
        return [
            {"property": one.name, **value.data}
            for one in self.properties
            for value in one.values
            if value.data is not None
        ]

    def gender(self) -> dict[str, str | None]:
        parts = self.first("gender").parts()
        sex, identity, text = (next(iter(parts.get(name, [])), None) for name in ("sex", "identity", "text"))
        return {"gender": sex, "gender_text": identity or text}


def _own_text(element: Element) -> str | None:
    """Return the text between the child elements. Some publishers omit the element for the type of the value."""
    pieces = (element.text, *(child.tail for child in element))
    return clean(" ".join(piece.strip() for piece in pieces if piece))


def _properties(holder: Element, shape: Shape) -> Iterator[_Property]:
    """Yield the properties in a card or a group."""
    group = _group_name(holder.get("name")) if shape is _GROUP else None
    return (_property(element, group) for element, found in matches(holder, shape) if found is _PROPERTY)


def _property(element: Element, group: str | None) -> _Property:
    own = _own_text(element)
    parameters: dict[str, list[str]] = {}
    values = [] if own is None else [_Value(None, own, None)]
    for one, shape in matches(element, _PROPERTY):
        text = text_of(one)
        if shape is _PARAMETERS:
            for name, texts in _parameters(one):
                parameters.setdefault(name, []).extend(texts)
        elif shape is _EMBEDDED:
            values.append(_Value(name_of(one), None, _described(text)))
        elif shape is _VALUE:
            values.append(_Value(name_of(one), text, None))
    return _Property(name_of(element), group, parameters, values)


def _parameters(element: Element) -> Iterator[tuple[str, list[str]]]:
    for one, shape in matches(element, _PARAMETERS):
        if shape is not None:
            texts = (_own_text(one), *(text_of(value) for value, read in matches(one, shape) if read is not None))
            yield name_of(one), [text for text in texts if text is not None]


def _described(uri: str | None) -> dict[str, Any] | None:
    """Describe the content of a `data:` URI."""
    found = _data(uri)
    if found is None or uri is None:
        return None
    content = uri[found.end() :]
    data = from_base64(content) if found["base64"] else unquote_to_bytes(content)
    return {"media_type": found["type"], "size": None if data is None else len(data)}


def _address(one: _Property) -> dict[str, Any]:
    parts = one.parts()
    first = {name: next(iter(parts.get(name, [])), None) for name in _ADDRESS}
    return {**one.types(), **first, "parts": parts, "label": one.parameter("label")}


def _jids(messaging: list[dict[str, Any]]) -> list[str]:
    found = (uris.bare_jid(one["value"]) for one in messaging if one["value"][:5].lower() == "xmpp:")
    return list(dict.fromkeys(jid for jid in found if jid is not None))
