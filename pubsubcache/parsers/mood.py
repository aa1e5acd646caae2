"""Parser for user moods (XEP-0107)."""

from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import children, elements_of, language, name_of, namespace_of, payload, translations
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import ANY, LANG, WORDS, Shape

MOOD = "http://jabber.org/protocol/mood"

#: A more specific value that others have defined.
DETAIL = Shape(ANY, ANY, once=True)

MOODS = Schema(
    title="Moods",
    about="What a user feels (XEP-0107).",
    payloads=(
        Shape(
            "mood",
            MOOD,
            attributes={LANG: WORDS},
            children=(Shape("text", text=WORDS, attributes={LANG: WORDS}), Shape(ANY, once=True, children=(DETAIL,))),
        ),
    ),
    keys=(
        Key("mood", "text or null", "One of the words of the XEP, such as happy. Null ends the mood."),
        Key("detail", "object or null", "A more specific mood that others have defined: `{namespace, name}`."),
        Key("text", "text or null", "The user's own words."),
        Key("texts", "list of objects", "The same in all languages, each `{language, text}`."),
        Key("language", "text or null", "The language of `text`."),
    ),
)


@reads(MOODS)
def parse_mood(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a user mood (XEP-0107).

    Raises:
        ParseError: The item does not contain a mood.
    """
    element = payload(item, "mood", MOOD)
    chosen = next(inner(element, MOOD), None)
    texts = translations(children(element, "text", MOOD), element)
    return {
        "mood": name_of(chosen) if chosen is not None else None,
        "detail": detail(chosen, MOOD),
        "text": texts[0]["text"] if texts else None,
        "texts": texts,
        "language": texts[0]["language"] if texts else language(element),
    }


def inner(element: Element, space: str) -> Iterator[Element]:
    """Yield the children in namespace `space` that name a value, i.e. all but `<text/>`."""
    return (one for one in elements_of(element) if namespace_of(one) == space and name_of(one) != "text")


def detail(element: Element | None, space: str) -> dict[str, str] | None:
    """Return the first child in a namespace other than `space` as `{namespace, name}`, or None."""
    found = (one for one in ([] if element is None else elements_of(element)) if namespace_of(one) != space)
    return next(({"namespace": namespace_of(one), "name": name_of(one)} for one in found), None)
