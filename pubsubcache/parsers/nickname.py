"""Parser for nicknames (XEP-0172)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import language, payload, text_of
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import LANG, WORDS, Shape

NICK = "http://jabber.org/protocol/nick"

NICKNAMES = Schema(
    title="Nicknames",
    about="What a user wants to be called (XEP-0172).",
    payloads=(Shape("nick", NICK, text=WORDS, attributes={LANG: WORDS}),),
    keys=(
        Key("nick", "text or null", "The nickname."),
        Key("language", "text or null", "Its language."),
    ),
)


@reads(NICKNAMES)
def parse_nickname(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a nickname (XEP-0172).

    Raises:
        ParseError: The item does not contain a nickname.
    """
    element = payload(item, "nick", NICK)
    return {"nick": text_of(element), "language": language(element)}
