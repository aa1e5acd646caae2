"""Parser for the statement that an account has moved to another address (XEP-0283)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import child_text, payload
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import JID, Shape

MOVED = "urn:xmpp:moved:1"

MOVES = Schema(
    title="Moved accounts",
    about="Where the owner of an account has moved to (XEP-0283).",
    payloads=(Shape("moved", MOVED, children=(Shape("new-jid", text=JID, once=True),)),),
    keys=(Key("jid", "JID or null", "The new address."),),
)


@reads(MOVES)
def parse_moved(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a moved statement (XEP-0283, 4.1).

    Raises:
        ParseError: The item does not contain a moved statement.
    """
    return {"jid": uris.bare(child_text(payload(item, "moved", MOVED), "new-jid", MOVED))}
