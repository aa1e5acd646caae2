"""Parser for user tunes (XEP-0118)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import child_text, children, elements_of, integer, language, payload, translations
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import INTEGER, LANG, LINK, WORDS, Kind, Shape, words

TUNE = "http://jabber.org/protocol/tune"

_TRANSLATED = ("artist", "title", "source")
_TEXTS = ("track", "composer", "performer", "lyricist", "genre", "language")


def _rating(text: str | None) -> int | None:
    rating = integer(text)
    return rating if rating is not None and 1 <= rating <= 10 else None


TUNES = Schema(
    title="Tunes",
    about="What a user is listening to (XEP-0118).",
    payloads=(
        Shape(
            "tune",
            TUNE,
            attributes={LANG: WORDS},
            children=(
                *(Shape(name, text=WORDS, attributes={LANG: WORDS}) for name in _TRANSLATED),
                *words(*_TEXTS, "date", once=True),
                Shape("length", text=INTEGER, once=True),
                Shape("rating", text=Kind("rating", _rating), once=True),
                Shape("uri", text=LINK, once=True),
            ),
        ),
    ),
    keys=(
        Key("playing", "true or false", "False when the music has stopped."),
        Key("artist", "text or null", "Who plays."),
        Key("artists", "list of objects", "All artists, and their names in all languages, each `{language, text}`."),
        Key("title", "text or null", "The title of the song."),
        Key("titles", "list of objects", "The title in all languages, each `{language, text}`."),
        Key("source", "text or null", "The album or other collection."),
        Key("sources", "list of objects", "The source in all languages, each `{language, text}`."),
        Key("track", "text or null", "The number of the song there."),
        Key("composer", "text or null", "Who composed the music."),
        Key("performer", "text or null", "Who performs the song."),
        Key("lyricist", "text or null", "Who wrote the lyrics."),
        Key("genre", "text or null", "The kind of music."),
        Key("released", "text or null", "The date of the song, as given."),
        Key("language", "text or null", "The language of the song, as given."),
        Key("default_language", "text or null", "The language of texts without one of their own: `xml:lang`."),
        Key("length", "number or null", "Seconds."),
        Key("rating", "number or null", "1 to 10."),
        Key("uri", "link or null", "A page or file about the song."),
    ),
)


@reads(TUNES)
def parse_tune(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a user tune (XEP-0118).

    Raises:
        ParseError: The item does not contain a tune.
    """
    element = payload(item, "tune", TUNE)
    translated = {name: translations(children(element, name, TUNE), element) for name in _TRANSLATED}
    return {
        "playing": any(True for _ in elements_of(element)),
        **{name: found[0]["text"] if found else None for name, found in translated.items()},
        **{f"{name}s": found for name, found in translated.items()},
        **{name: child_text(element, name, TUNE) for name in _TEXTS},
        "released": child_text(element, "date", TUNE),
        "default_language": language(element),
        "length": integer(child_text(element, "length", TUNE)),
        "rating": _rating(child_text(element, "rating", TUNE)),
        "uri": uris.link(child_text(element, "uri", TUNE)),
    }
