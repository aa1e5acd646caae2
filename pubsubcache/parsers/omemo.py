"""Parsers for OMEMO device lists and key bundles (XEP-0384), in the current and older namespaces.

The keys themselves are not copied. Clients that encrypt must read them from a fresh item.
"""

import hashlib
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.exceptions import ParseError
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import attribute, child, child_text, children, integer, namespace_of, payload
from pubsubcache.parsers.encrypted import unless_encrypted
from pubsubcache.parsers.text import from_base64

OMEMO = "urn:xmpp:omemo:2"
FORMER_OMEMO = "urn:xmpp:omemo:1"
LEGACY = "eu.siacs.conversations.axolotl"

# Names of the signed prekey, its id, its signature, the identity key and a prekey.
_NAMES = ("spk", "id", "spks", "ik", "pk")
_LEGACY_NAMES = ("signedPreKeyPublic", "signedPreKeyId", "signedPreKeySignature", "identityKey", "preKeyPublic")


def is_bundles_node(name: str) -> bool:
    """Return whether a node name denotes key bundles rather than a device list."""
    return "bundles" in name.rpartition("omemo:")[2] or name.startswith(f"{LEGACY}.bundles")


@unless_encrypted
def parse(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse an OMEMO device list or key bundle (XEP-0384).

    Raises:
        ParseError: The item does not contain a device list or bundle.
    """
    is_bundle = any(
        item.find(f"{{{space}}}bundle") is not None for space in (OMEMO, FORMER_OMEMO, LEGACY)
    ) or is_bundles_node(context.node)
    return parse_bundle(item, context) if is_bundle else parse_devices(item, context)


def parse_devices(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse an OMEMO device list (XEP-0384).

    Raises:
        ParseError: The item does not contain a device list.
    """
    try:
        element = payload(item, "devices", OMEMO, FORMER_OMEMO)
    except ParseError:
        element = payload(item, "list", LEGACY)
    found: dict[int, dict[str, Any]] = {}
    for device in children(element, "device", namespace_of(element)):
        number = integer(device.get("id"))
        if number is not None:
            found.setdefault(number, {"id": number, "label": attribute(device, "label")})
    return {"devices": list(found.values())}


def parse_bundle(item: Element, context: ParseContext) -> dict[str, Any]:
    """Describe an OMEMO key bundle (XEP-0384).

    Raises:
        ParseError: The item does not contain a bundle.
    """
    element = payload(item, "bundle", OMEMO, FORMER_OMEMO, LEGACY)
    space = namespace_of(element)
    signed, number, signature, identity, prekey = _LEGACY_NAMES if space == LEGACY else _NAMES
    key = from_base64(child_text(element, identity, space))
    signed_prekey, prekeys = child(element, signed, space), child(element, "prekeys", space)
    is_legacy_node = context.node.startswith(f"{LEGACY}.bundles:")
    return {
        "device": integer(context.node.rpartition(":")[2] if is_legacy_node else item.get("id")),
        "identity_key": None if key is None else hashlib.sha256(key).hexdigest(),
        "signed_prekey_id": None if signed_prekey is None else integer(signed_prekey.get(number)),
        "has_signature": child_text(element, signature, space) is not None,
        "prekeys": 0 if prekeys is None else sum(1 for _ in children(prekeys, prekey, space)),
    }
