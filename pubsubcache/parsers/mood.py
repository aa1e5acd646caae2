"""Parser for user moods (XEP-0107)."""

from itertools import islice
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import (
    MAX_ELEMENTS,
    children,
    language,
    name_of,
    namespace_of,
    payload,
    qualified,
    translations,
)
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import ANY, LANG, OTHER, WORDS, Shape

MOOD = "http://jabber.org/protocol/mood"

TEXT = Shape("text", text=WORDS, attributes={LANG: WORDS})

MOODS = Schema(
    title="Moods",
    about="What a user feels (XEP-0107).",
    payloads=(
        Shape(
            "mood",
            MOOD,
            attributes={LANG: WORDS},
            children=(TEXT, Shape(ANY, once=True, children=(Shape(ANY, OTHER, once=True),))),
        ),
    ),
    keys=(
        Key("mood", "text or null", "One of the words of the XEP, such as happy. Null ends the mood."),
        Key("detail", "object or null", "A more specific mood that others have defined: `{namespace, name}`."),
        Key("text", "text or null", "The user's own words."),
        Key("texts", "list of objects", "The same in all languages, each `{language, text}`."),
        Key("language", "text or null", "The language of `text`."),
        Key("default_language", "text or null", "The language of texts without one of their own: `xml:lang`."),
    ),
)


@reads(MOODS)
def parse_mood(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a user mood (XEP-0107).

    Raises:
        ParseError: The item does not contain a mood.
    """
    element = payload(item, "mood", MOOD)
    chosen = chosen_in(element)
    texts = translations(children(element, "text", MOOD), element)
    return {
        "mood": None if chosen is None else name_of(chosen),
        "detail": next(iter(details(chosen)), None),
        "text": texts[0]["text"] if texts else None,
        "texts": texts,
        "language": texts[0]["language"] if texts else language(element),
        "default_language": language(element),
    }


def chosen_in(element: Element) -> Element | None:
    """Return the first child that names a value: one in the namespace of `element` other than `<text/>`."""
    space = namespace_of(element)
    return next((one for one in element if namespace_of(one) == space and name_of(one) not in ("text", "")), None)


def details(element: Element | None) -> list[dict[str, str]]:
    """Return the children in other namespaces than that of `element`, each as `{namespace, name}`."""
    if element is None:
        return []
    others = (one for one in element if isinstance(one.tag, str) and namespace_of(one) != namespace_of(element))
    return [qualified(one) for one in islice(others, MAX_ELEMENTS)]
