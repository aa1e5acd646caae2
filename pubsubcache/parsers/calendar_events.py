"""Parsers for calendar events and their invitees (XEP-0471)."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import atom, dates, files, geoloc, uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.dataform import FORM, form_in, has_form
from pubsubcache.parsers.elements import (
    MAX_ELEMENTS,
    attribute,
    child,
    child_text,
    children,
    flag,
    language,
    namespace_of,
    payload,
    raw_attribute,
    text_of,
    translations,
)
from pubsubcache.parsers.html import XHTML
from pubsubcache.parsers.schema import Key, Schema, one_of, reads
from pubsubcache.parsers.shapes import ANY, DATE, FLAG, FULL_JID, JID, LANG, LINK, WORDS, Shape

EVENTS = "urn:xmpp:calendar-events:0"
FORMER_EVENTS = "urn:xmpp:events:0"  # until version 0.2 of XEP-0471
INVITEES_PREFIXES = ("urn:xmpp:calendar-events:invitees:", "urn:xmpp:events:invitees:")
CONFERENCE = "jabber:x:conference"

_DAY = re.compile(r"[0-9]{4}-?[0-9]{2}-?[0-9]{2}")


def _linked(element: Element) -> dict[str, str | None] | None:
    """Return the node or item that the attributes of an element refer to."""
    return uris.reference(element.get("jid"), element.get("node"), raw_attribute(element, "item"))


def _link(name: str, *others: str, once: bool = True) -> Shape:
    """Return the shape of an element that refers to a node; without a valid address it is not read."""
    attributes = {"jid": FULL_JID, **dict.fromkeys(("node", *others), WORDS)}
    return Shape(name, attributes=attributes, once=once, when=lambda element: _linked(element) is not None)


_LANGUAGE = {LANG: WORDS}
_ONLINE = Shape(
    "online",
    children=(
        Shape("name", text=WORDS, attributes=_LANGUAGE),
        Shape("instructions", text=WORDS, attributes=_LANGUAGE),
        replace(files.URL, once=True),
        Shape(
            "x",
            CONFERENCE,
            attributes={"jid": JID, "password": WORDS.omitted("Passwords of rooms stay in the item's XML.")},
            once=True,
        ),
        Shape("software", attributes={"name": WORDS, "wd": WORDS, "url": LINK, "need_install": FLAG}, once=True),
    ),
)
_EVENT = Shape(
    "event",
    EVENTS,
    children=(
        Shape("name", text=WORDS, attributes=_LANGUAGE),
        Shape("start", text=DATE, once=True),
        Shape("end", text=DATE, once=True),
        Shape("head-picture", children=(replace(files.FILE, once=True),), once=True),
        Shape(
            "description",
            text=WORDS,
            attributes={"type": WORDS, **_LANGUAGE},
            children=(Shape(ANY, XHTML, whole=True),),
        ),
        Shape("category", attributes={"term": WORDS, "wd": WORDS, **_LANGUAGE}),
        Shape("location", attributes={"id": WORDS}, children=(geoloc.PLACE, _ONLINE)),
        Shape("rsvp", attributes=_LANGUAGE, children=(replace(FORM, attributes={"type": WORDS}),), when=has_form),
        *(_link(name, "item") for name in ("invitees", "blog", "schedule", "external")),
        _link("comments", once=False),
        Shape("attachments", children=(files.FILE,), once=True),
        Shape("extra", children=(FORM,), once=True),
    ),
    once=True,
)
_INVITEE = Shape("invitee", EVENTS, attributes={"jid": JID, "name": WORDS}, once=True)

CALENDAR_EVENTS = Schema(
    title="Calendar events",
    about="Calendar events (XEP-0471), in the current namespace and that of the first versions.",
    payloads=(_EVENT, replace(_EVENT, namespace=FORMER_EVENTS)),
    keys=(
        Key("title", "text or null", "The name of the event."),
        Key("titles", "list of objects", "The name in all languages, each `{language, text}`."),
        Key("start", "date or null", "When the event begins."),
        Key("end", "date or null", "When it ends."),
        Key("all_day", "true or false", "Whether `start` and `end` are given as days, without a time."),
        Key("description", "text or null", "The description as plain text."),
        Key("description_xhtml", "markup or null", "The same, sanitised."),
        Key(
            "descriptions",
            "list of objects",
            "The description in all languages and formats, each `{language, type, text, xhtml}`. `type` is as given, "
            "and `xhtml` is markup or null.",
        ),
        Key("tags", "list of text", "The terms of the categories, each once."),
        Key("categories", "list of objects", "The categories, each `{term, wikidata, language}`."),
        Key("picture", "file or null", "The head picture, a [file](#files)."),
        Key(
            "locations",
            "list of objects",
            "Where the event takes place, each `{id, place, online}`. `place` is a [place](#places) or null. `online` "
            "is a list of `{name, names, instructions, instruction_texts, url, room, room_has_password, software}`; "
            "`names` and `instruction_texts` are lists of `{language, text}`, and `software` is null or "
            "`{name, wikidata, url, need_install}`.",
        ),
        Key(
            "rsvp",
            "list of objects",
            "[Forms](#forms) to answer the invitation. Their `language` is that of the `<rsvp/>` element.",
        ),
        Key("invitees", "object or null", "The node with the invitees, `{uri, service, node, item}`."),
        Key("comments", "list of objects", "Nodes for comments, each `{uri, service, node}`."),
        Key("blog", "object or null", "A blog about the event, like `invitees`."),
        Key("schedule", "object or null", "A node with the events within this event, like `invitees`."),
        Key("attachments", "list of files", "[Files](#files) about the event."),
        Key("status", "text or null", "`confirmed`, `tentative` or `cancelled`."),
        Key("website", "link or null", "The event's website."),
        Key("languages", "list of text", "The languages spoken there."),
        Key("wheelchair", "text or null", "Whether wheelchairs have access: `full`, `partial` or `no`."),
        Key("extra", "object", "All fields of the extra data, like `values` of a [form](#forms)."),
        Key("extra_form", "object or null", "The extra data as a [form](#forms)."),
        Key("external", "object or null", "The event that this one only points to, like `invitees`."),
    ),
)

INVITEES = Schema(
    title="Invitees",
    about="Who is invited to an event (XEP-0471), in the node that `invitees` of the event points to. Such nodes have "
    "the subtype `invitees`.",
    payloads=(_INVITEE, replace(_INVITEE, namespace=FORMER_EVENTS)),
    keys=(
        Key("jid", "JID or null", "Who is invited."),
        Key("name", "text or null", "The name to show."),
    ),
)


def is_invitees_node(name: str) -> bool:
    """Return whether a node name denotes a list of invitees."""
    return name.startswith(INVITEES_PREFIXES)


@reads(INVITEES)
def parse_invitee(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse an invitee (XEP-0471) to `{jid, name}`.

    Raises:
        ParseError: The item does not contain an invitee.
    """
    element = payload(item, "invitee", EVENTS, FORMER_EVENTS)
    return {"jid": uris.bare(element.get("jid")), "name": attribute(element, "name")}


@reads(CALENDAR_EVENTS)
def parse_event(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a calendar event (XEP-0471).

    Raises:
        ParseError: The item does not contain an event.
    """
    event = payload(item, "event", EVENTS, FORMER_EVENTS)
    space = namespace_of(event)
    titles = translations(children(event, "name", space))
    categories = [_category(element) for element in children(event, "category", space)]
    start, end = (child_text(event, name, space) for name in ("start", "end"))
    times = [text for text in (start, end) if text is not None and dates.parse(text) is not None]
    description = atom.text_construct(event, "description", space)
    picture = child(event, "head-picture", space)
    return {
        "title": titles[0]["text"] if titles else None,
        "titles": titles,
        "start": dates.normalise(start),
        "end": dates.normalise(end),
        "all_day": bool(times) and all(_DAY.fullmatch(text) for text in times),
        "description": description.text,
        "description_xhtml": description.xhtml,
        "descriptions": [_description(element, space) for element in children(event, "description", space)],
        "tags": list(dict.fromkeys(category["term"] for category in categories if category["term"])),
        "categories": categories,
        "picture": next(iter(files.shared_files(picture)), None),
        "locations": [_location(element, space) for element in children(event, "location", space)],
        "rsvp": [
            {**found, "language": language(element)}
            for element in event.iterfind(f"{{{space}}}rsvp")
            if (found := form_in(element)) is not None
        ][:MAX_ELEMENTS],
        "invitees": next(_links(event, "invitees", space), None),
        "comments": [
            {key: found[key] for key in ("uri", "service", "node")}
            for found in islice(_links(event, "comments", space), MAX_ELEMENTS)
        ],
        "blog": next(_links(event, "blog", space), None),
        "schedule": next(_links(event, "schedule", space), None),
        "attachments": files.shared_files(child(event, "attachments", space)),
        **_extra(event, space),
        "external": next(_links(event, "external", space), None),
    }


@one_of(parse_event, parse_invitee)
def parse(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a calendar event or an invitee (XEP-0471).

    Raises:
        ParseError: The item does not contain an event or invitee.
    """
    is_invitee = next((INVITEES.fits(one) for one in item if INVITEES.fits(one) or CALENDAR_EVENTS.fits(one)), False)
    return parse_invitee(item, context) if is_invitee else parse_event(item, context)


def _category(element: Element) -> dict[str, str | None]:
    return {"term": attribute(element, "term"), "wikidata": attribute(element, "wd"), "language": language(element)}


def _description(element: Element, space: str) -> dict[str, str | None]:
    alone = Element("event")
    alone.append(element)
    found = atom.text_construct(alone, "description", space)
    return {
        "language": language(element),
        "type": attribute(element, "type"),
        "text": found.text or text_of(element),
        "xhtml": found.xhtml,
    }


def _links(event: Element, name: str, space: str) -> Iterator[dict[str, str | None]]:
    found = (_linked(element) for element in event.iterfind(f"{{{space}}}{name}"))
    return (reference for reference in found if reference is not None)


def _location(element: Element, space: str) -> dict[str, Any]:
    return {
        "id": attribute(element, "id"),
        "place": geoloc.place_in(element),
        "online": [_online(one, space) for one in children(element, "online", space)],
    }


def _online(element: Element, space: str) -> dict[str, Any]:
    names, instructions = (translations(children(element, name, space)) for name in ("name", "instructions"))
    room = child(element, "x", CONFERENCE)
    software = child(element, "software", space)
    return {
        "name": names[0]["text"] if names else None,
        "names": names,
        "instructions": list(dict.fromkeys(one["text"] for one in instructions)),
        "instruction_texts": instructions,
        "url": files.link_in(element),
        "room": None if room is None else uris.bare(room.get("jid")),
        "room_has_password": room is not None and attribute(room, "password") is not None,
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
    found = None if element is None else form_in(element)
    values: dict[str, list[str]] = found["values"] if found else {}

    def first(name: str) -> str | None:
        return next((value for value in values.get(name, ()) if value), None)

    return {
        "status": first("status"),
        "website": uris.link(first("website")),
        "languages": [value for value in values.get("languages", ()) if value],
        "wheelchair": first("accessibility:wheelchair"),
        "extra": values,
        "extra_form": found,
    }
