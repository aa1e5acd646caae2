"""Parser for user activities (XEP-0108)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import children, language, name_of, payload, translations
from pubsubcache.parsers.mood import TEXT, chosen_in, details
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import ANY, LANG, OTHER, WORDS, Shape

ACTIVITY = "http://jabber.org/protocol/activity"

DETAIL = Shape(ANY, OTHER)
SPECIFIC = Shape(ANY, once=True, children=(TEXT, DETAIL))
GENERAL = Shape(ANY, once=True, children=(TEXT, SPECIFIC, DETAIL))

ACTIVITIES = Schema(
    title="Activities",
    about="What a user is doing (XEP-0108).",
    payloads=(Shape("activity", ACTIVITY, attributes={LANG: WORDS}, children=(TEXT, GENERAL)),),
    keys=(
        Key("general", "text or null", "One of the words of the XEP, such as relaxing. Null ends the activity."),
        Key("specific", "text or null", "One of the words below it, such as reading."),
        Key("detail", "object or null", "A more specific activity that others have defined: `{namespace, name}`."),
        Key("details", "list of objects", "All of these, those of the specific activity first."),
        Key("text", "text or null", "The user's own words."),
        Key("texts", "list of objects", "The same in all languages, each `{language, text}`."),
        Key("language", "text or null", "The language of `text`."),
        Key("default_language", "text or null", "The language of texts without one of their own: `xml:lang`."),
    ),
)


@reads(ACTIVITIES)
def parse_activity(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a user activity (XEP-0108).

    Raises:
        ParseError: The item does not contain an activity.
    """
    element = payload(item, "activity", ACTIVITY)
    general = chosen_in(element)
    specific = None if general is None else chosen_in(general)
    found = [*details(specific), *details(general)]
    # Some clients put the text inside the activity.
    levels = [level for level in (element, general, specific) if level is not None]
    texts = [text for level in levels for text in translations(children(level, "text", ACTIVITY), element)]
    return {
        "general": None if general is None else name_of(general),
        "specific": None if specific is None else name_of(specific),
        "detail": found[0] if found else None,
        "details": found,
        "text": texts[0]["text"] if texts else None,
        "texts": texts,
        "language": texts[0]["language"] if texts else language(element),
        "default_language": language(element),
    }
