"""The context that is passed to a parser along with an item."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ParseContext:
    """Where an item comes from.

    Attributes:
        service: JID of the pubsub service; a bare account JID for PEP (XEP-0163).
        node: Name of the node.
        publisher: JID of the publisher as reported by the service (XEP-0060, 7.1.2.3), or None.
        sender: JID that sent the item; None when the item was read back from the database.
    """

    service: str
    node: str
    publisher: str | None = None
    sender: str | None = None
