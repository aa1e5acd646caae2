"""Parser for displayed markers, which tell a user's other devices how far a chat was read (XEP-0490).

The item id is the JID of the chat.
"""

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
