"""Parser for sticker packs (XEP-0449)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import files
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import child, children, payload, translations
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import LANG, WORDS, Shape

STICKERS = "urn:xmpp:stickers:0"

PACKS = Schema(
    title="Stickers",
    about="Packs of stickers, one in each item (XEP-0449).",
    payloads=(
        Shape(
            "pack",
            STICKERS,
            children=(
                *(Shape(name, text=WORDS, attributes={LANG: WORDS}) for name in ("name", "summary")),
                Shape("restricted", once=True),
                files.HASH,
                Shape(
                    "item",
                    children=(*files.FILE_PARTS, Shape("suggest", text=WORDS, attributes={LANG: WORDS})),
                ),
            ),
            once=True,
        ),
    ),
    keys=(
        Key("name", "text or null", "The name of the pack."),
        Key("names", "list of objects", "The name in all languages, each `{language, text}`."),
        Key("summary", "text or null", "What the pack is, often with its licence."),
        Key("summaries", "list of objects", "The summary in all languages, each `{language, text}`."),
        Key("restricted", "true or false", "Whether others are asked not to use the pack."),
        Key("hashes", "list of objects", "Hashes of the pack, each `{algo, value}`."),
        Key(
            "stickers",
            "list of files",
            "[Files](#files), each also with `suggestions`, a list of texts that it may replace, and "
            "`suggestion_texts`, the same with their languages, each `{language, text}`.",
        ),
    ),
)


@reads(PACKS)
def parse_pack(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a sticker pack (XEP-0449).

    Raises:
        ParseError: The item does not contain a sticker pack.
    """
    pack = payload(item, "pack", STICKERS)
    names, summaries = (translations(children(pack, name, STICKERS)) for name in ("name", "summary"))
    return {
        "name": names[0]["text"] if names else None,
        "names": names,
        "summary": summaries[0]["text"] if summaries else None,
        "summaries": summaries,
        "restricted": child(pack, "restricted", STICKERS) is not None,
        "hashes": files.hashes(pack),
        "stickers": [_sticker(one) for one in children(pack, "item", STICKERS)],
    }


def _sticker(element: Element) -> dict[str, Any]:
    suggestions = translations(children(element, "suggest", STICKERS))
    return {
        **files.shared_file(element),
        "suggestions": list(dict.fromkeys(one["text"] for one in suggestions)),
        "suggestion_texts": suggestions,
    }
