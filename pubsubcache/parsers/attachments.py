"""Parsers for attachments to items and their summaries (XEP-0470), including RSVPs to events (XEP-0471)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import dates, uris
from pubsubcache.parsers.calendar_events import EVENTS, FORMER_EVENTS
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.dataform import form_in
from pubsubcache.parsers.elements import (
    child,
    children,
    elements_of,
    integer,
    name_of,
    namespace_of,
    payload,
    raw_attribute,
    text_of,
    texts,
)
from pubsubcache.parsers.encrypted import is_encrypted, unless_encrypted

ATTACHMENTS = "urn:xmpp:pubsub-attachments:1"
SUMMARY = "urn:xmpp:pubsub-attachments:summary:1"
MAX_REACTION = 100  # characters; the longest emoji sequences have about twenty

_KNOWN = frozenset({"noticed", "reactions"})
_EVENTS = frozenset({EVENTS, FORMER_EVENTS})


@unless_encrypted
def parse_attachments(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse what one user attached to an item (XEP-0470).

    Raises:
        ParseError: The item does not contain an attachments.
    """
    element = payload(item, "attachments", ATTACHMENTS)
    space = namespace_of(element)
    claimed = uris.bare(item.get("id"))
    publisher = uris.bare(context.publisher) or uris.bare(item.get("publisher"))
    noticed, reactions = child(element, "noticed", space), child(element, "reactions", space)
    inside = list(elements_of(element))
    others = [one for one in inside if not is_encrypted(one) and not _is_known(one, space)]
    return {
        "jid": publisher or claimed,
        "jid_verified": publisher is not None,
        "target": _target(context.node),
        "noticed": noticed is not None,
        "noticed_at": _timestamp(noticed),
        "reactions": [] if reactions is None else texts(_reactions(reactions, space)),
        "reactions_at": _timestamp(reactions),
        "rsvp": _rsvp(element),
        "encrypted": any(is_encrypted(one) for one in inside),
        "others": [{"namespace": namespace_of(one), "name": name_of(one)} for one in others],
    }


@unless_encrypted
def parse_summary(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse the summary of all attachments to an item (XEP-0470).

    Raises:
        ParseError: The item does not contain an attachments summary.
    """
    element = payload(item, "summary", SUMMARY)
    space = namespace_of(element)
    noticed, reactions = child(element, "noticed", space), child(element, "reactions", space)
    counts: dict[str, int] = {}
    for one in [] if reactions is None else _reactions(reactions, space):
        counts.setdefault(text_of(one) or "", _count(one))
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    return {
        "target": uris.reference(context.service, context.node.partition("/")[2], raw_attribute(item, "id")),
        "noticed": 0 if noticed is None else _count(noticed),
        "reactions": [{"reaction": reaction, "count": count} for reaction, count in ordered],
        "attendees": _attendees(element),
    }


def _target(node: str) -> dict[str, str | None] | None:
    """Return the item that an attachments node belongs to. Its URI follows the first slash (XEP-0470, 4.1)."""
    target = uris.parse_xmpp(node.partition("/")[2])
    return uris.reference(target.service, target.node, target.item) if target else None


def _is_known(element: Element, space: str) -> bool:
    namespace, name = namespace_of(element), name_of(element)
    return (namespace == space and name in _KNOWN) or (namespace in _EVENTS and name == "rsvp")


def _timestamp(element: Element | None) -> str | None:
    return None if element is None else dates.normalise(element.get("timestamp"))


def _reactions(element: Element, space: str) -> list[Element]:
    found = children(element, "reaction", space)
    return [one for one in found if 0 < len(text_of(one) or "") <= MAX_REACTION]


def _count(element: Element) -> int:
    """Return the value of the `count` attribute; 1 by default."""
    count = integer(element.get("count"))
    return 1 if count is None else count


def _rsvp(element: Element) -> dict[str, Any] | None:
    for space in (EVENTS, FORMER_EVENTS):
        answer = child(element, "rsvp", space)
        form = None if answer is None else form_in(answer)
        if form is not None:
            values = form["values"]
            return {
                "attending": next(iter(values.get("attending", [])), None),
                "participants": integer(next(iter(values.get("participants_number", [])), None)),
                "values": values,
            }
    return None


def _attendees(element: Element) -> dict[str, int | None] | None:
    for space in (EVENTS, FORMER_EVENTS):
        attendees = child(element, "attendees", space)
        if attendees is not None:
            confirmed = integer(attendees.get("confirmed"))
            most = integer(attendees.get("max"))
            return {"confirmed": confirmed, "max": confirmed if most is None else most}
    return None
