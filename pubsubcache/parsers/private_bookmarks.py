"""Parser for bookmarks that are stored as one private item (XEP-0048)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import attribute, child_text, children, flag, payload
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import FLAG, JID, LINK, WORDS, Shape, words

STORAGE = "storage:bookmarks"

PRIVATE_BOOKMARKS = Schema(
    title="Private bookmarks",
    about="The bookmarks of a user for chat rooms and web pages, all in one item (XEP-0048).",
    payloads=(
        Shape(
            "storage",
            STORAGE,
            children=(
                Shape(
                    "conference",
                    attributes={"jid": JID, "name": WORDS, "autojoin": FLAG},
                    children=(
                        *words("nick", once=True),
                        Shape(
                            "password",
                            left_out="Passwords are only for the owner. `has_password` says whether there is one.",
                        ),
                    ),
                ),
                Shape("url", attributes={"name": WORDS, "url": LINK}),
            ),
        ),
    ),
    keys=(
        Key("rooms", "list of objects", "The chat rooms, each `{jid, name, autojoin, nick, has_password}`."),
        Key("urls", "list of objects", "The web pages, each `{name, url}`."),
    ),
)


@reads(PRIVATE_BOOKMARKS)
def parse_private_bookmarks(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse private bookmarks (XEP-0048).

    Raises:
        ParseError: The item does not contain private bookmarks.
    """
    storage = payload(item, "storage", STORAGE)
    return {
        "rooms": [_room(element) for element in children(storage, "conference", STORAGE)],
        "urls": [
            {"name": attribute(element, "name"), "url": uris.link(element.get("url"))}
            for element in children(storage, "url", STORAGE)
        ],
    }


def _room(element: Element) -> dict[str, Any]:
    return {
        "jid": uris.bare(element.get("jid")),
        "name": attribute(element, "name"),
        "autojoin": flag(element.get("autojoin")),
        "nick": child_text(element, "nick", STORAGE),
        "has_password": child_text(element, "password", STORAGE) is not None,
    }
