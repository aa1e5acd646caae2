"""Parser for public subscriptions (XEP-0465) and their predecessor (XEP-0330)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.exceptions import ParseError
from pubsubcache.parsers import uris
from pubsubcache.parsers.bookmarks import EXTENSION_KEYS, EXTENSIONS, extensions_of
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import attribute, children, namespace_of, payload, raw_attribute, translations
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import FULL_JID, JID, LANG, WORDS, Shape
from pubsubcache.parsers.text import storable

PUBLIC = "urn:xmpp:pps:0"  # XEP-0465
SUBSCRIPTION = "urn:xmpp:pubsub:subscription:0"  # XEP-0330
SUBSCRIBERS_PREFIX = "urn:xmpp:pps:subscribers:"

_CONTENT = (Shape("title", text=WORDS, attributes={LANG: WORDS}), EXTENSIONS)
PUBLIC_SUBSCRIPTIONS = Schema(
    title="Public subscriptions",
    about=(
        "A node that a user follows (XEP-0465, and XEP-0330 before it), or a user who follows a node: nodes that list "
        "the subscribers of another node have the subtype `subscribers`."
    ),
    payloads=(
        Shape("subscription", PUBLIC, attributes={"jid": FULL_JID, "node": WORDS, "subid": WORDS}, children=_CONTENT),
        Shape(
            "subscription",
            SUBSCRIPTION,
            attributes={"server": FULL_JID, "node": WORDS, "subid": WORDS},
            children=_CONTENT,
        ),
        Shape("subscriber", PUBLIC, attributes={"jid": JID}),
    ),
    keys=(
        Key(
            "subscriber",
            "JID or null",
            "Who follows: the owner of the node, or the subscriber in a list of subscribers.",
        ),
        Key("service", "JID or null", "The service of the followed node."),
        Key("node", "text or null", "The name of the followed node."),
        Key("uri", "text or null", "Its `xmpp:` URI."),
        Key("title", "text or null", "What the subscriber calls it."),
        Key("titles", "list of objects", "The same in all languages, each `{language, text}`."),
        Key("subid", "text or null", "The id of the subscription (XEP-0060)."),
        *EXTENSION_KEYS,
    ),
)


def is_subscribers_node(name: str) -> bool:
    """Return whether a node lists the subscribers of another node rather than the subscriptions of a user."""
    return name.startswith(SUBSCRIBERS_PREFIX)


@reads(PUBLIC_SUBSCRIPTIONS)
def parse_subscription(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a public subscription (XEP-0465, XEP-0330).

    Raises:
        ParseError: The item does not contain a subscription.
    """
    try:
        element = payload(item, "subscription", PUBLIC, SUBSCRIPTION)
    except ParseError:
        if not is_subscribers_node(context.node):
            raise
        element = payload(item, "subscriber", PUBLIC)
        subscriber = uris.bare(element.get("jid"))
        service, node = uris.full(context.service), storable(context.node.partition("/")[2]) or None
    else:
        subscriber = uris.bare(context.service)
        attributes = ("jid", "server") if namespace_of(element) == PUBLIC else ("server", "jid")
        service = uris.full(next(filter(None, map(element.get, attributes)), None))
        node = raw_attribute(element, "node")
    followed = uris.reference(service, node)
    titles = translations(children(element, "title", namespace_of(element)))
    return {
        "subscriber": subscriber,
        "service": service,
        "node": node,
        "uri": followed["uri"] if followed else None,
        "title": titles[0]["text"] if titles else None,
        "titles": titles,
        "subid": attribute(element, "subid"),
        **extensions_of(element),
    }
