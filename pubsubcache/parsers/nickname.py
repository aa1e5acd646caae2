"""Parser for nicknames (XEP-0172)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import payload, text_of
from pubsubcache.parsers.encrypted import unless_encrypted

NICK = "http://jabber.org/protocol/nick"


@unless_encrypted
def parse_nickname(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a nickname (XEP-0172).

    Raises:
        ParseError: The item does not contain a nickname.
    """
    return {"nick": text_of(payload(item, "nick", NICK))}
