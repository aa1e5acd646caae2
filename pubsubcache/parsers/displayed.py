"""How far a chat was read, for the reader's other devices: XEP-0490. The item's id is the JID of the chat."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import child, payload, raw_attribute
from pubsubcache.parsers.encrypted import unless_encrypted

DISPLAYED = "urn:xmpp:mds:displayed:0"
STANZA_ID = "urn:xmpp:sid:0"


@unless_encrypted
def parse_displayed(item: Element, context: ParseContext) -> dict[str, Any]:
    """Return the mark of an `<item/>`. Raises `ParseError`."""
    stanza_id = child(payload(item, "displayed", DISPLAYED), "stanza-id", STANZA_ID)
    return {
        "chat": uris.full(item.get("id")),
        "stanza_id": None if stanza_id is None else raw_attribute(stanza_id, "id"),
        "by": None if stanza_id is None else uris.bare(stanza_id.get("by")),
    }
