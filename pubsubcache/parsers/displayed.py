"""Parser for displayed markers (XEP-0490)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import child, payload, raw_attribute
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import JID, WORDS, Shape

DISPLAYED = "urn:xmpp:mds:displayed:0"
STANZA_ID = "urn:xmpp:sid:0"

DISPLAYED_MESSAGES = Schema(
    title="Displayed messages",
    about="How far the owner has read each chat (XEP-0490). The id of the item is the JID of the chat.",
    payloads=(
        Shape(
            "displayed",
            DISPLAYED,
            children=(Shape("stanza-id", STANZA_ID, attributes={"id": WORDS, "by": JID}, once=True),),
        ),
    ),
    keys=(
        Key("chat", "JID or null", "The contact or the room. It has a resource for a person in a room."),
        Key("stanza_id", "text or null", "The id of the last message that was displayed (XEP-0359)."),
        Key("by", "JID or null", "Who gave the message that id."),
    ),
)


@reads(DISPLAYED_MESSAGES)
def parse_displayed(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a displayed marker (XEP-0490).

    Raises:
        ParseError: The item does not contain a displayed marker.
    """
    stanza_id = child(payload(item, "displayed", DISPLAYED), "stanza-id", STANZA_ID)
    return {
        "chat": uris.full(item.get("id")),
        "stanza_id": None if stanza_id is None else raw_attribute(stanza_id, "id"),
        "by": None if stanza_id is None else uris.bare(stanza_id.get("by")),
    }
