"""Parser for the reactions that a user sends most, which Converse.js keeps for the user's other devices."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import dates
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import children, payload, text_of
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import DATE, WORDS, Shape

POPULAR_REACTIONS = "urn:xmpp:reactions:popular:0"

REACTIONS = Schema(
    title="Popular reactions",
    about="The emoji that a user reacts with most (Converse.js; reactions themselves are XEP-0444).",
    payloads=(
        Shape(
            "popular-reactions",
            POPULAR_REACTIONS,
            children=(Shape("reaction", text=WORDS, attributes={"stamp": DATE}),),
        ),
    ),
    keys=(
        Key("reactions", "list of objects", "Each `{reaction, date}`: an emoji and when it was last used, or null."),
    ),
)


@reads(REACTIONS)
def parse_popular_reactions(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse the popular reactions of a user.

    Raises:
        ParseError: The item does not contain popular reactions.
    """
    element = payload(item, "popular-reactions", POPULAR_REACTIONS)
    return {
        "reactions": [
            {"reaction": text_of(one), "date": dates.normalise(one.get("stamp"))}
            for one in children(element, "reaction", POPULAR_REACTIONS)
        ]
    }
