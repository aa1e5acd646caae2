"""Parser that converts any XML to JSON of bounded size, for payloads without a parser of their own."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.exceptions import ParseError
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.conversion import Converter
from pubsubcache.parsers.encrypted import unless_encrypted


@unless_encrypted
def parse_any(item: Element, context: ParseContext) -> dict[str, Any]:
    """Convert all payloads of an item to JSON, see `conversion`.

    Raises:
        ParseError: The item has no payload.
    """
    if not len(item):
        raise ParseError("The item has no payload.")
    converter = Converter()
    payloads = converter.convert_children(item)
    return {"payloads": payloads, "truncated": converter.truncated}
