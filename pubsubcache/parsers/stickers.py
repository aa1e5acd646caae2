"""Parser for sticker packs (XEP-0449)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import files
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import child, children, payload, texts, translations
from pubsubcache.parsers.encrypted import unless_encrypted

STICKERS = "urn:xmpp:stickers:0"


@unless_encrypted
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
    return {**files.shared_file(element), "suggestions": texts(children(element, "suggest", STICKERS))}
