"""Parser for links (XEP-0066), such as those in spaces."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import child_text, payload
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import LINK, Shape, words

OOB = "jabber:x:oob"

LINKS = Schema(
    title="Links",
    about="A link to a web page or other data (XEP-0066), as spaces (XEP-0503) contain them.",
    payloads=(Shape("x", OOB, children=(Shape("url", text=LINK, once=True), *words("desc", once=True))),),
    keys=(
        Key("url", "link or null", "The address."),
        Key("desc", "text or null", "A description."),
    ),
)


@reads(LINKS)
def parse_link(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a link (XEP-0066, 3).

    Raises:
        ParseError: The item does not contain a link.
    """
    element = payload(item, "x", OOB)
    return {"url": uris.link(child_text(element, "url", OOB)), "desc": child_text(element, "desc", OOB)}
