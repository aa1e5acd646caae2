"""Parser for the content of spaces (XEP-0503): chat rooms, nodes, links, and pictures of the space itself."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers.avatar import parse_metadata
from pubsubcache.parsers.bookmarks import parse_bookmark
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import name_of
from pubsubcache.parsers.links import parse_link
from pubsubcache.parsers.schema import one_of
from pubsubcache.parsers.subscriptions import parse_subscription
from pubsubcache.utils.xmlform import first_payload


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
