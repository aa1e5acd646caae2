"""Parsers for calendar events and their invitees (XEP-0471)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import atom, dates, files, geoloc, uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.dataform import form_in
from pubsubcache.parsers.elements import (
    attribute,
    child,
    child_text,
    children,
    flag,
    language,
    namespace_of,
    payload,
    raw_attribute,
    texts,
    translations,
)
from pubsubcache.parsers.encrypted import unless_encrypted
from pubsubcache.utils.xmlform import first_payload, split_tag

EVENTS = "urn:xmpp:calendar-events:0"
FORMER_EVENTS = "urn:xmpp:events:0"  # until version 0.2 of XEP-0471
INVITEES_PREFIXES = ("urn:xmpp:calendar-events:invitees:", "urn:xmpp:events:invitees:")
CONFERENCE = "jabber:x:conference"


def is_invitees_node(name: str) -> bool:
    """Return whether a node name denotes a list of invitees."""
    return name.startswith(INVITEES_PREFIXES)


@unless_encrypted
def parse(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a calendar event or an invitee (XEP-0471).

    Raises:
        ParseError: The item does not contain an event or invitee.
    """
    element = first_payload(item)
    is_invitee = element is not None and isinstance(element.tag, str) and split_tag(element.tag)[1] == "invitee"
    return parse_invitee(item, context) if is_invitee else parse_event(item, context)


def parse_invitee(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse an invitee (XEP-0471) to `{jid, name}`.

    Raises:
        ParseError: The item does not contain an invitee.
    """
    element = payload(item, "invitee", EVENTS, FORMER_EVENTS)
    return {"jid": uris.bare(element.get("jid")), "name": attribute(element, "name")}


def parse_event(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a calendar event (XEP-0471).

    Raises:
        ParseError: The item does not contain an event.
    """
    event = payload(item, "event", EVENTS, FORMER_EVENTS)
    space = namespace_of(event)
    titles = translations(children(event, "name", space))
    categories = [_category(element) for element in children(event, "category", space)]
    description = atom.text_construct(event, "description", space)
    picture = child(event, "head-picture", space)
    comments = _linked(event, "comments", space)
    return {
        "title": titles[0]["text"] if titles else None,
        "titles": titles,
        "start": dates.normalise(child_text(event, "start", space)),
        "end": dates.normalise(child_text(event, "end", space)),
        "description": description.text,
        "description_xhtml": description.xhtml,
        "tags": list(dict.fromkeys(category["term"] for category in categories if category["term"])),
        "categories": categories,
        "picture": next(iter(files.shared_files(picture)), None),
        "locations": [_location(element, space) for element in children(event, "location", space)],
        "rsvp": [
            {**form, "language": language(element)}
            for element in children(event, "rsvp", space)
            if (form := form_in(element)) is not None
        ],
        "invitees": _linked(event, "invitees", space),
        "comments": [{key: comments[key] for key in ("uri", "service", "node")}] if comments else [],
        "blog": _linked(event, "blog", space),
        "schedule": _linked(event, "schedule", space),
        "attachments": files.shared_files(child(event, "attachments", space)),
        **_extra(event, space),
        "external": _linked(event, "external", space),
    }


def _category(element: Element) -> dict[str, str | None]:
    return {"term": attribute(element, "term"), "wikidata": attribute(element, "wd"), "language": language(element)}


def _linked(event: Element, name: str, space: str) -> dict[str, str | None] | None:
    """Return the node or item that the attributes of a child element refer to."""
    element = child(event, name, space)
    if element is None:
        return None
    return uris.reference(element.get("jid"), element.get("node"), raw_attribute(element, "item"))


def _location(element: Element, space: str) -> dict[str, Any]:
    return {
        "id": attribute(element, "id"),
        "place": geoloc.place_in(element),
        "online": [_online(one, space) for one in children(element, "online", space)],
    }


def _online(element: Element, space: str) -> dict[str, Any]:
    room = child(element, "x", CONFERENCE)
    software = child(element, "software", space)
    return {
        "name": child_text(element, "name", space),
        "instructions": texts(children(element, "instructions", space)),
        "url": files.link_in(element),
        "room": None if room is None else uris.bare(room.get("jid")),
        "software": None if software is None else _software(software),
    }


def _software(element: Element) -> dict[str, Any]:
    return {
        "name": attribute(element, "name"),
        "wikidata": attribute(element, "wd"),
        "url": uris.link(element.get("url")),
        "need_install": flag(element.get("need_install")),
    }


def _extra(event: Element, space: str) -> dict[str, Any]:
    element = child(event, "extra", space)
    form = None if element is None else form_in(element)
    values: dict[str, list[str]] = form["values"] if form else {}

    def first(name: str) -> str | None:
        return next((value for value in values.get(name, ()) if value), None)

    return {
        "status": first("status"),
        "website": uris.link(first("website")),
        "languages": [value for value in values.get("languages", ()) if value],
        "wheelchair": first("accessibility:wheelchair"),
        "extra": values,
    }
