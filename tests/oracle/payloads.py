"""Payloads of published items: ordinary ones, rare ones, and some that no parser reads."""

from typing import Any
from xml.etree.ElementTree import Element, SubElement

from pubsubcache.types import NodeAddress
from pubsubcache.utils.xmlform import PUBSUB
from pubsubcache.xmpp.session import Session
from tests.acceptance.site import entry

LARGE = 20_000


def payloads(kind: str, title: str) -> list[Element]:
    """Return the payload elements of an item; `title` makes them distinct."""
    match kind:
        case "other":
            element = Element("{urn:example:other}thing", {"title": title})
            element.text = "  text \n between < & > elements ]]> "
            SubElement(element, "{urn:example:third}child").tail = " tail "
            return [element]
        case "empty":
            return [Element("{urn:example:empty}nothing")]
        case "two":
            return [entry(title), Element("{urn:example:second}payload", {"n": title})]
        case "none":
            return []
        case "large":
            return [entry(title, summary="Ä " * LARGE)]
        case "odd":
            return [entry(title, updated="yesterday", published="", id="&amp;#0;", summary="\u202e\ufeff🙂&lt;b&gt;")]
    return [entry(title)]


async def publish(session: Session, address: NodeAddress, name: str, elements: list[Element]) -> Any:
    """Publish an item with any number of payload elements. Raises the errors of `PubsubService`."""
    query = Element(f"{{{PUBSUB}}}pubsub")
    publishing = SubElement(query, f"{{{PUBSUB}}}publish", {"node": address.name})
    SubElement(publishing, f"{{{PUBSUB}}}item", {"id": name}).extend(elements)
    return await session.ask("set", address.service, query)
