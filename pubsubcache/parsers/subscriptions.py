"""Parser for public subscriptions (XEP-0465) and their predecessor (XEP-0330)."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.exceptions import ParseError
from pubsubcache.parsers import uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import child_text, namespace_of, payload
from pubsubcache.parsers.encrypted import unless_encrypted

PUBLIC = "urn:xmpp:pps:0"  # XEP-0465
SUBSCRIPTION = "urn:xmpp:pubsub:subscription:0"  # XEP-0330
SUBSCRIBERS_PREFIX = "urn:xmpp:pps:subscribers:"


def is_subscribers_node(name: str) -> bool:
    """Return whether a node lists the subscribers of another node rather than the subscriptions of a user."""
    return name.startswith(SUBSCRIBERS_PREFIX)


@unless_encrypted
def parse_subscription(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a public subscription (XEP-0465, XEP-0330).

    Raises:
        ParseError: The item does not contain a subscription.
    """
    title = None
    try:
        element = payload(item, "subscription", PUBLIC, SUBSCRIPTION)
    except ParseError:
        if not is_subscribers_node(context.node):
            raise
        subscriber = uris.bare(payload(item, "subscriber", PUBLIC).get("jid"))
        followed = uris.reference(context.service, context.node.partition("/")[2])
    else:
        subscriber = uris.bare(context.service)
        followed = uris.reference(element.get("jid") or element.get("server"), element.get("node"))
        title = child_text(element, "title", namespace_of(element))
    return {
        "subscriber": subscriber,
        **{key: followed[key] if followed else None for key in ("service", "node", "uri")},
        "title": title,
    }
