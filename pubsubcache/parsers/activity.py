"""Parser for user activities (XEP-0108)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import child, child_text, language, name_of, payload
from pubsubcache.parsers.encrypted import unless_encrypted
from pubsubcache.parsers.mood import detail, inner

ACTIVITY = "http://jabber.org/protocol/activity"


@unless_encrypted
def parse_activity(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a user activity (XEP-0108).

    Raises:
        ParseError: The item does not contain an activity.
    """
    element = payload(item, "activity", ACTIVITY)
    general = next(inner(element, ACTIVITY), None)
    specific = None if general is None else next(inner(general, ACTIVITY), None)
    text = child(element, "text", ACTIVITY)
    return {
        "general": None if general is None else name_of(general),
        "specific": None if specific is None else name_of(specific),
        "detail": detail(specific, ACTIVITY) or detail(general, ACTIVITY),
        "text": child_text(element, "text", ACTIVITY),
        "language": language(*([] if text is None else [text]), element),
    }
