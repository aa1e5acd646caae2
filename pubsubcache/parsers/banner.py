"""Parser for pictures that are published like avatars under other item ids: Movim's banners, pictures of spaces."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers.avatar import parse_metadata
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.schema import one_of


@one_of(parse_metadata)
def parse_banner(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse avatar metadata (XEP-0084) whose item id is not the hash of the picture.

    Raises:
        ParseError: The item does not contain an avatar metadata.
    """
    parsed = parse_metadata(item, context)
    pictures = parsed.get("pictures")  # None in an encrypted item
    return {**parsed, "sha1": pictures[0]["id"]} if pictures else parsed
