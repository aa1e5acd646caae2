"""Parser for bookmarks of chat rooms (XEP-0402)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import attribute, child, child_text, flag, name_of, namespace_of, payload, qualified
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import ANY, FLAG, WORDS, Shape, matches, words

BOOKMARKS = "urn:xmpp:bookmarks:1"
FORMER_BOOKMARKS = "urn:xmpp:bookmarks:0"  # until version 1.0 of XEP-0402
PINNING = ("urn:xmpp:bookmarks-pinning:0", "xmpp:movim.eu/pinned:0")
NOTIFICATIONS = ("urn:xmpp:notification-settings:1", "urn:xmpp:notification-settings:0")

# XEP-0492
ADVANCED = Shape("advanced", children=(Shape(ANY, ANY),), once=True)
SETTINGS = tuple(
    Shape(name, attributes={"identity-category": WORDS, "identity-type": WORDS}, children=(ADVANCED,))
    for name in ("always", "on-mention", "never")
)

PINNED = tuple(Shape("pinned", namespace, once=True) for namespace in PINNING)
NOTIFY = tuple(Shape("notify", namespace, children=SETTINGS, once=True) for namespace in NOTIFICATIONS)
EXTENSIONS = Shape("extensions", children=(*PINNED, *NOTIFY, Shape(ANY, ANY)), once=True)

EXTENSION_KEYS = (
    Key("pinned", "true or false", "Whether it is pinned as important (XEP-0469)."),
    Key(
        "notify",
        "list of objects",
        "When clients notify the owner of messages (XEP-0492), each `{setting, category, type, advanced}`. `setting` "
        "is `always`, `on-mention` or `never`; `category` and `type` name the clients it is for, or are null; "
        "`advanced` is a list of `{namespace, name}`.",
    ),
    Key("extensions", "list of objects", "All that clients added, each `{namespace, name}`. `rest` has the contents."),
)

_CONTENT = (
    *words("nick", once=True),
    Shape("password", left_out="Passwords are only for the owner. `has_password` says whether there is one."),
    EXTENSIONS,
)
ROOMS = Schema(
    title="Bookmarks",
    about="A chat room that the owner has bookmarked (XEP-0402). The id of the item is the JID of the room.",
    payloads=tuple(
        Shape("conference", namespace, attributes={"name": WORDS, "autojoin": FLAG}, children=_CONTENT)
        for namespace in (BOOKMARKS, FORMER_BOOKMARKS)
    ),
    keys=(
        Key("jid", "JID or null", "The room."),
        Key("name", "text or null", "What the owner calls the room."),
        Key("autojoin", "true or false", "Whether clients are to join the room by themselves."),
        Key("nick", "text or null", "The owner's nickname in the room."),
        Key("has_password", "true or false", "Whether a password is stored with the bookmark."),
        *EXTENSION_KEYS,
    ),
)


@reads(ROOMS)
def parse_bookmark(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse the bookmark of a chat room (XEP-0402).

    Raises:
        ParseError: The item does not contain a bookmark.
    """
    element = payload(item, "conference", BOOKMARKS, FORMER_BOOKMARKS)
    space = namespace_of(element)
    return {
        "jid": uris.bare(item.get("id")),
        "name": attribute(element, "name"),
        "autojoin": flag(element.get("autojoin")),
        "nick": child_text(element, "nick", space),
        "has_password": child_text(element, "password", space) is not None,
        **extensions_of(element),
    }


def extensions_of(element: Element) -> dict[str, Any]:
    """Return the values of `EXTENSION_KEYS` for a bookmark or a subscription."""
    found = child(element, "extensions", namespace_of(element))
    read = [] if found is None else [(one, shape) for one, shape in matches(found, EXTENSIONS) if shape is not None]
    return {
        "pinned": any(shape in PINNED for _, shape in read),
        "notify": [setting for one, shape in read if shape in NOTIFY for setting in _settings(one)],
        "extensions": [qualified(one) for one, _ in read],
    }


def _settings(notify: Element) -> list[dict[str, Any]]:
    return [
        {
            "setting": name_of(one),
            "category": attribute(one, "identity-category"),
            "type": attribute(one, "identity-type"),
            "advanced": [
                qualified(custom)
                for advanced, read in matches(one, shape)
                if read is ADVANCED
                for custom, known in matches(advanced, ADVANCED)
                if known is not None
            ],
        }
        for one, shape in matches(notify, NOTIFY[0])
        if shape is not None
    ]
