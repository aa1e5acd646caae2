"""Items that only those with a key can read: XEP-0473, XEP-0477, and payloads encrypted as messages are.

They are kept as they came, and said to be encrypted; nothing of what is inside is looked at. Any item may be encrypted,
whatever the kind of its node: parsers of readable payloads hand over by the decorator `unless_encrypted`.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.exceptions import ParseError
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import attribute
from pubsubcache.parsers.uris import bare
from pubsubcache.utils.xmlform import first_payload, split_tag

OXPS = "urn:xmpp:openpgp:pubsub:0"
PTE = "urn:xmpp:pte:0"

# The payload's namespace and name, and how the scheme is called here.
SCHEMES = {
    (OXPS, "encrypted"): "oxps",
    (PTE, "encrypted"): "pte",
    ("urn:xmpp:openpgp:0", "openpgp"): "openpgp",
    ("urn:xmpp:omemo:2", "encrypted"): "omemo",
    ("urn:xmpp:omemo:1", "encrypted"): "omemo",
    ("eu.siacs.conversations.axolotl", "encrypted"): "omemo-legacy",
}

Parse = Callable[[Element, ParseContext], dict[str, Any]]


def is_encrypted(element: Element) -> bool:
    """Say whether an element holds what only those with a key can read."""
    return isinstance(element.tag, str) and split_tag(element.tag) in SCHEMES


def parse_encrypted(item: Element, context: ParseContext) -> dict[str, Any]:
    """Return what can be said of an encrypted `<item/>`. Raises `ParseError` when its payload is not encrypted."""
    element = first_payload(item)
    if element is None:
        raise ParseError("The item has no payload.")
    if not is_encrypted(element):
        raise ParseError("The item is not encrypted in a known way.")
    namespace, name = split_tag(element.tag)
    return {
        "encrypted": True,
        "scheme": SCHEMES[namespace, name],
        "namespace": namespace,
        # The text of XEP-0473 names the attribute "secret", its example "key".
        "key": (attribute(element, "secret") or attribute(element, "key")) if namespace == OXPS else None,
        "by": bare(element.get("by")) if namespace == PTE else None,
        "inner": attribute(element, "type") if namespace == PTE else None,
        "size": sum(len(text.strip()) for text in element.itertext()),
    }


def unless_encrypted(parse: Parse) -> Parse:
    """Have a parser describe encrypted items as `parse_encrypted` does, and read all others itself."""

    @wraps(parse)
    def parse_readable(item: Element, context: ParseContext) -> dict[str, Any]:
        element = first_payload(item)
        if element is not None and is_encrypted(element):
            return parse_encrypted(item, context)
        return parse(item, context)

    return parse_readable
