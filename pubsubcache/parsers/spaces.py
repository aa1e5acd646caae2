"""Parser for the content of spaces (XEP-0503): chat rooms, nodes, links, and pictures of the space itself."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import uris
from pubsubcache.parsers.avatar import parse_metadata
from pubsubcache.parsers.bookmarks import parse_bookmark
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import child_text, name_of, payload
from pubsubcache.parsers.schema import Key, Schema, one_of, reads
from pubsubcache.parsers.shapes import LINK, Shape, words
from pubsubcache.parsers.subscriptions import parse_subscription
from pubsubcache.utils.xmlform import first_payload

LINK_DATA = "jabber:x:oob"

LINKS = Schema(
    title="Links in spaces",
    about="A web page that belongs to a space (XEP-0066).",
    payloads=(Shape("x", LINK_DATA, children=(Shape("url", text=LINK, once=True), *words("desc", once=True))),),
    keys=(
        Key("url", "link or null", "The address of the page."),
        Key("desc", "text or null", "A description."),
    ),
)


@reads(LINKS)
def parse_link(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a link (XEP-0066).

    Raises:
        ParseError: The item does not contain a link.
    """
    element = payload(item, "x", LINK_DATA)
    return {
        "url": uris.link(child_text(element, "url", LINK_DATA)),
        "desc": child_text(element, "desc", LINK_DATA),
    }


@one_of(parse_subscription)
def parse_node(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a node that belongs to a space (XEP-0330). Nobody has subscribed to it.

    Raises:
        ParseError: The item does not contain a subscription.
    """
    return {**parse_subscription(item, context), "subscriber": None}


_PARSERS = {"conference": parse_bookmark, "subscription": parse_node, "x": parse_link, "metadata": parse_metadata}


@one_of(*_PARSERS.values())
def parse_content(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse an item of a space (XEP-0503, 5.4 and 5.2.1).

    Raises:
        ParseError: The item contains something else.
    """
    element = first_payload(item)
    parse = parse_bookmark if element is None else _PARSERS.get(name_of(element), parse_bookmark)
    return parse(item, context)
