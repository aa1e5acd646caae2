"""Parser for encrypted items: XEP-0473, XEP-0477, and payloads encrypted with OMEMO or OpenPGP.

Encrypted items are stored unchanged and marked as encrypted. Items of any node may be encrypted, so all other parsers
use the decorator `unless_encrypted`.
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

# Namespace and name of the payload -> name of the scheme in `parsed`.
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
    """Return whether an element is an encrypted payload."""
    return isinstance(element.tag, str) and split_tag(element.tag) in SCHEMES


def parse_encrypted(item: Element, context: ParseContext) -> dict[str, Any]:
    """Describe an encrypted item.

    Raises:
        ParseError: The payload is not encrypted.
    """
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
    """Decorate a parser so that encrypted items go to `parse_encrypted` instead."""

    @wraps(parse)
    def parse_readable(item: Element, context: ParseContext) -> dict[str, Any]:
        element = first_payload(item)
        if element is not None and is_encrypted(element):
            return parse_encrypted(item, context)
        return parse(item, context)

    return parse_readable
