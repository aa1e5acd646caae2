"""Parsers for attachments to items and their summaries (XEP-0470), including RSVPs to events (XEP-0471)."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import dates, uris
from pubsubcache.parsers.calendar_events import EVENTS, FORMER_EVENTS
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.dataform import FORM, form_in, has_form
from pubsubcache.parsers.elements import (
    MAX_ELEMENTS,
    child,
    children,
    elements_of,
    integer,
    name_of,
    namespace_of,
    payload,
    qualified,
    raw_attribute,
    text_of,
    texts,
)
from pubsubcache.parsers.encrypted import ENCRYPTED, is_encrypted, parse_encrypted
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import DATE, INTEGER, Kind, Shape, matches
from pubsubcache.parsers.signatures import SIGNATURE, SIGNER, SIGNING, signature
from pubsubcache.parsers.text import clean

ATTACHMENTS = "urn:xmpp:pubsub-attachments:1"
SUMMARY = "urn:xmpp:pubsub-attachments:summary:1"
MAX_REACTION = 100  # characters; the longest emoji sequences have about twenty

_EVENTS = (EVENTS, FORMER_EVENTS)
_KNOWN = {
    *((ATTACHMENTS, name) for name in ("noticed", "reactions")),
    *((namespace, "rsvp") for namespace in _EVENTS),
    (SIGNING, "signature"),
}


def _reaction(text: str | None) -> str | None:
    reaction = clean(text)
    return reaction if reaction is not None and len(reaction) <= MAX_REACTION else None


def _is_reaction(element: Element) -> bool:
    return _reaction(text_of(element)) is not None


_REACTION = Shape("reaction", text=Kind("reaction", _reaction), when=_is_reaction)
_WHEN = {"timestamp": DATE}
_COUNT = {"count": INTEGER}

ATTACHED = Schema(
    title="Attachments",
    about="What one user attached to an item (XEP-0470). The name of the node is `urn:xmpp:pubsub-attachments:1/`, "
    "followed by the URI of the item.",
    payloads=(
        Shape(
            "attachments",
            ATTACHMENTS,
            children=(
                Shape("noticed", attributes=_WHEN, once=True),
                Shape("reactions", attributes=_WHEN, children=(_REACTION,), once=True),
                Shape(
                    "rsvp",
                    EVENTS,
                    attributes=_WHEN,
                    children=(FORM,),
                    once=True,
                    former=(FORMER_EVENTS,),
                    when=has_form,
                ),
                SIGNATURE,
                *ENCRYPTED.payloads,
            ),
            once=True,
        ),
    ),
    keys=(
        Key("jid", "JID or null", "Who attached it: the publisher, or else the JID in the item's id."),
        Key("jid_verified", "true or false", "Whether the service states that this JID published the item."),
        Key("target", "object or null", "The item that it is attached to: `{uri, service, node, item}`."),
        Key("noticed", "true or false", "Whether the user noticed, or likes, the item."),
        Key("noticed_at", "date or null", "When."),
        Key("reactions", "list of text", f"Emojis, each once. Text of over {MAX_REACTION} characters is in `rest`."),
        Key("reactions_at", "date or null", "When."),
        Key(
            "rsvp",
            "object or null",
            "The answer to an invitation (XEP-0471): `{attending, participants, values, timestamp, form}`, where "
            "`timestamp` is a date, and `form` the whole [form](#forms).",
        ),
        Key(
            "signature",
            "object or null",
            "A signature of the item (XEP-0475), which is not verified: `{signed_at, timestamp, signers, recipients, "
            "profiles}`. The first two are dates, the next two lists of JIDs, and `profiles`, how it is signed, a list "
            "of `{namespace, name}`.",
        ),
        Key("encrypted", "true or false", "Whether some of the attachments are encrypted (XEP-0473)."),
        Key(
            "encryptions",
            "list of objects",
            "Encrypted attachments, each with the keys of [encrypted items](#encrypted-items).",
        ),
        Key("others", "list of objects", "Other attachments, each `{namespace, name}`. Their content is in `rest`."),
    ),
    notes="Whether the item's id may be trusted depends on the service: only services that support XEP-0470 reject the "
    "id of another user. Encrypted attachments are not decrypted, so they do not count in `noticed` and `reactions`.",
)

SUMMARIES = Schema(
    title="Summaries of attachments",
    about="What all users together attached to an item (XEP-0470). Services that support the XEP maintain one item for "
    "each target, with the id of the target, in the node `urn:xmpp:pubsub-attachments:summary:1/` followed by the name "
    "of the target's node.",
    payloads=(
        Shape(
            "summary",
            SUMMARY,
            children=(
                Shape("noticed", attributes=_COUNT, once=True),
                Shape("reactions", children=(replace(_REACTION, attributes=_COUNT),), once=True),
                Shape(
                    "attendees",
                    EVENTS,
                    attributes={"confirmed": INTEGER, "max": INTEGER},
                    once=True,
                    former=(FORMER_EVENTS,),
                ),
                replace(SIGNATURE, attributes={}, children=(SIGNER,)),
            ),
            once=True,
        ),
    ),
    keys=(
        Key("target", "object or null", "The item that the attachments belong to: `{uri, service, node, item}`."),
        Key("noticed", "number", "How many users noticed it."),
        Key("reactions", "list of objects", "The reactions, the most frequent first, each `{reaction, count}`."),
        Key("attendees", "object or null", "How many will attend an event: `{confirmed, max}`."),
        Key("signers", "list of JIDs", "Who signed the item (XEP-0475)."),
    ),
)


@reads(ATTACHED)
def parse_attachments(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse what one user attached to an item (XEP-0470).

    Raises:
        ParseError: The item does not contain an attachments.
    """
    element = payload(item, "attachments", ATTACHMENTS)
    claimed = uris.bare(item.get("id"))
    publisher = uris.bare(context.publisher) or uris.bare(item.get("publisher"))
    noticed, reactions = (child(element, name, ATTACHMENTS) for name in ("noticed", "reactions"))
    inside = list(elements_of(element))
    others = [one for one in inside if not is_encrypted(one) and not _is_known(one)]
    return {
        "jid": publisher or claimed,
        "jid_verified": publisher is not None,
        "target": _target(context.node),
        "noticed": noticed is not None,
        "noticed_at": _timestamp(noticed),
        "reactions": [] if reactions is None else texts(_reactions(reactions)),
        "reactions_at": _timestamp(reactions),
        "rsvp": next(filter(None, map(_rsvp, _in_events(element, "rsvp"))), None),
        "signature": next(_signatures(element), None),
        "encrypted": any(is_encrypted(one) for one in inside),
        "encryptions": [
            _encryption(one, context)
            for one, shape in matches(element, ATTACHED.payloads[0])
            if shape is not None and is_encrypted(one)
        ],
        "others": [qualified(one) for one in others],
    }


@reads(SUMMARIES)
def parse_summary(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse the summary of all attachments to an item (XEP-0470).

    Raises:
        ParseError: The item does not contain an attachments summary.
    """
    element = payload(item, "summary", SUMMARY)
    noticed, reactions = (child(element, name, SUMMARY) for name in ("noticed", "reactions"))
    found = [] if reactions is None else _reactions(reactions)
    counted = [{"reaction": text_of(one), "count": _count(one)} for one in found]
    return {
        "target": uris.reference(context.service, context.node.partition("/")[2], raw_attribute(item, "id")),
        "noticed": 0 if noticed is None else _count(noticed),
        "reactions": sorted(counted, key=lambda one: -one["count"]),
        "attendees": next(map(_attendees, _in_events(element, "attendees")), None),
        "signers": next((found["signers"] for found in _signatures(element)), []),
    }


def _target(node: str) -> dict[str, str | None] | None:
    """Return the item that an attachments node belongs to. Its URI follows the first slash (XEP-0470, 4.1)."""
    target = uris.parse_xmpp(node.partition("/")[2])
    return uris.reference(target.service, target.node, target.item) if target else None


def _is_known(element: Element) -> bool:
    return (namespace_of(element), name_of(element)) in _KNOWN


def _signatures(parent: Element) -> Iterator[dict[str, Any]]:
    return map(signature, children(parent, "signature", SIGNING))


def _encryption(element: Element, context: ParseContext) -> dict[str, Any]:
    alone = Element("item")
    alone.append(element)
    described = parse_encrypted(alone, context)
    return {key.name: described[key.name] for key in ENCRYPTED.keys}


def _in_events(parent: Element, name: str) -> Iterator[Element]:
    """Yield the children with this name in the namespace of events, or in the former one."""
    tags = {f"{{{namespace}}}{name}" for namespace in _EVENTS}
    return (one for one in parent if one.tag in tags)


def _timestamp(element: Element | None) -> str | None:
    return None if element is None else dates.normalise(element.get("timestamp"))


def _reactions(element: Element) -> Iterator[Element]:
    found = element.iterfind(f"{{{namespace_of(element)}}}reaction")
    return islice(filter(_is_reaction, found), MAX_ELEMENTS)


def _count(element: Element) -> int:
    """Return the value of the `count` attribute; 1 by default."""
    count = integer(element.get("count"))
    return 1 if count is None else count


def _rsvp(element: Element) -> dict[str, Any] | None:
    form = form_in(element)
    if form is None:
        return None
    values: dict[str, list[str]] = form["values"]
    return {
        "attending": next(iter(values.get("attending", [])), None),
        "participants": integer(next(iter(values.get("participants_number", [])), None)),
        "values": values,
        "timestamp": _timestamp(element),
        "form": form,
    }


def _attendees(element: Element) -> dict[str, int | None]:
    confirmed, most = integer(element.get("confirmed")), integer(element.get("max"))
    return {"confirmed": confirmed, "max": confirmed if most is None else most}
