"""Parses notifications (XEP-0060, 7 and 12): converts the XML of a message to events.

The events are copies, in the order of the message. Whether the sender is authorised for the node is checked elsewhere.
"""

from collections.abc import Iterator
from dataclasses import replace
from xml.etree.ElementTree import Element

from pubsubcache.types import Item, Publish, PubsubEvent, Retract, known_id
from pubsubcache.utils.xmlform import PUBSUB_EVENT
from pubsubcache.xmpp.forms import form_values

EVENT = f"{{{PUBSUB_EVENT}}}event"
ITEM, RETRACT = f"{{{PUBSUB_EVENT}}}item", f"{{{PUBSUB_EVENT}}}retract"
DELAY = ("{urn:xmpp:delay}delay", "{jabber:x:delay}x")


def parse_message(message: Element, own_jid: str) -> list[PubsubEvent]:
    """Parse the notifications in a message.

    Args:
        message: The `<message/>` element.
        own_jid: JID of the account, which is the sender of messages without `from` (RFC 6120, 8.1.2.1).

    Returns:
        The events in order; empty if the message is an error or not a notification.
    """
    if message.get("type") == "error" or (event := message.find(EVENT)) is None:
        return []
    sender = message.get("from") or own_jid
    delayed = any(message.find(tag) is not None for tag in DELAY)
    return [replace(found, delayed=delayed) for action in event for found in _events(action, sender)]


def _events(action: Element, sender: str) -> Iterator[PubsubEvent]:
    """Convert a child of `<event/>` to an event, if it concerns the cache."""
    node = action.get("node", "")
    match action.tag.removeprefix(f"{{{PUBSUB_EVENT}}}"):
        case "items":
            yield _items(action, sender, node)
        case "purge":
            yield PubsubEvent(sender=sender, node=node, kind="purge")
        case "delete":
            redirect = action.find(f"{{{PUBSUB_EVENT}}}redirect")
            target = "" if redirect is None else redirect.get("uri", "")
            yield PubsubEvent(sender=sender, node=node, kind="delete", redirect=target)
        case "configuration":
            fields = {name: list(values) for name, values in form_values(action).items()}
            yield PubsubEvent(sender=sender, node=node, kind="configuration", extra={"fields": fields})
        case "subscription":
            yield PubsubEvent(
                sender=sender,
                node=node,
                kind="subscription",
                subscription=action.get("subscription", ""),
                subscriber=action.get("jid", ""),
            )


def _items(items: Element, sender: str, node: str) -> PubsubEvent:
    changes: list[Publish | Retract] = []
    unreadable = "" if len(items) else "The notification names no item."
    for child in items:
        if child.tag not in (ITEM, RETRACT):
            continue
        if not child.get("id"):
            unreadable = "An item of the notification has no id."
        elif child.tag == RETRACT:
            changes.append(Retract(id=known_id(child.get("id", ""))))
        else:
            item = Item.from_element(child)
            changes.append(Publish(item=item, has_payload=bool(item.left_out) or len(child) > 0))
    return PubsubEvent(sender=sender, node=node, kind="items", changes=tuple(changes), unreadable=unreadable)
