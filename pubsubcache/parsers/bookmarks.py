"""Parser for bookmarks of chat rooms (XEP-0402). The item id is the JID of the room."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import (
    attribute,
    child,
    child_text,
    elements_of,
    flag,
    name_of,
    namespace_of,
    payload,
)
from pubsubcache.parsers.encrypted import unless_encrypted

BOOKMARKS = "urn:xmpp:bookmarks:1"
FORMER_BOOKMARKS = "urn:xmpp:bookmarks:0"  # until version 1.0 of XEP-0402


@unless_encrypted
def parse_bookmark(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse the bookmark of a chat room (XEP-0402).

    Raises:
        ParseError: The item does not contain a bookmark.
    """
    element = payload(item, "conference", BOOKMARKS, FORMER_BOOKMARKS)
    space = namespace_of(element)
    extensions = child(element, "extensions", space)
    return {
        "jid": uris.bare(item.get("id")),
        "name": attribute(element, "name"),
        "autojoin": flag(element.get("autojoin")),
        "nick": child_text(element, "nick", space),
        "has_password": child_text(element, "password", space) is not None,
        "extensions": [
            {"namespace": namespace_of(one), "name": name_of(one)}
            for one in ([] if extensions is None else elements_of(extensions))
        ],
    }
