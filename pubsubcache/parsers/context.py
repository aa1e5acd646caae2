"""What a parser is told of an item besides the item itself."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ParseContext:
    """Where an item comes from.

    `service` the JID of the pubsub service (a bare account JID for PEP, XEP-0163) and `node` the node's name;
    `publisher` the JID that the service says published the item (XEP-0060, 7.1.2.3), None where it does not say;
    `sender` the JID that the item came from, None when it was read back from the database.
    """

    service: str
    node: str
    publisher: str | None = None
    sender: str | None = None
