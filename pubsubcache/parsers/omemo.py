"""Parsers for OMEMO device lists and key bundles (XEP-0384), in the current and older namespaces."""

import hashlib
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.exceptions import ParseError
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import attribute, child, child_text, children, integer, namespace_of, payload
from pubsubcache.parsers.encrypted import LEGACY_OMEMO, OMEMO
from pubsubcache.parsers.schema import Key, Schema, one_of, reads
from pubsubcache.parsers.shapes import BASE64, INTEGER, WORDS, Shape, matches
from pubsubcache.parsers.text import from_base64

LEGACY = LEGACY_OMEMO[0]

DEVICE = Shape("device", attributes={"id": INTEGER, "label": WORDS, "labelsig": WORDS}, needs=("id",))
DEVICES = Schema(
    title="OMEMO devices",
    about="The devices of a user that can decrypt messages (XEP-0384); the subtype is `devices`.",
    payloads=(
        *(Shape("devices", namespace, children=(DEVICE,)) for namespace in OMEMO),
        *(Shape("list", namespace, children=(DEVICE,)) for namespace in LEGACY_OMEMO),
    ),
    keys=(
        Key(
            "devices",
            "list of objects",
            "The devices, each once: `{id, label, labelsig}`. `labelsig` is the signature of the label, in base64.",
        ),
        Key("repeated", "list of objects", "Further entries for devices that were listed already, in the same shape."),
    ),
)

KEY = BASE64.omitted("Clients that encrypt must fetch fresh keys from the service. The XML of the item has them.")


# Names of the signed prekey and its id, of its signature, of the identity key, and of a prekey and its id.
_NAMES = ("spk", "id", "spks", "ik", "pk", "id")
_LEGACY_NAMES = (
    "signedPreKeyPublic", "signedPreKeyId", "signedPreKeySignature", "identityKey", "preKeyPublic", "preKeyId",
)  # fmt: skip


def _bundle(namespace: str) -> Shape:
    signed, signed_id, signature, identity, prekey, prekey_id = _names(namespace)
    return Shape(
        "bundle",
        namespace,
        attributes={"label": WORDS},
        children=(
            Shape(signed, text=KEY, attributes={signed_id: INTEGER}, once=True),
            Shape(signature, text=KEY, once=True),
            Shape(identity, text=KEY, once=True),
            Shape("prekeys", children=(Shape(prekey, text=KEY, attributes={prekey_id: INTEGER}),), once=True),
        ),
    )


def _names(namespace: str) -> tuple[str, str, str, str, str, str]:
    return _LEGACY_NAMES if namespace in LEGACY_OMEMO else _NAMES


BUNDLES = Schema(
    title="OMEMO bundles",
    about="The public keys of one OMEMO device (XEP-0384); the subtype is `bundles`.",
    payloads=(*map(_bundle, (*OMEMO, *LEGACY_OMEMO)),),
    keys=(
        Key("device", "number or null", "The id of the device: the id of the item, or the end of the node's name."),
        Key("label", "text or null", "The name of the device, in older versions."),
        Key("identity_key", "text or null", "The SHA-256 hash of the identity key, in lower-case hexadecimal."),
        Key("signed_prekey_id", "number or null", "The id of the signed prekey."),
        Key("has_signature", "true or false", "Whether the signed prekey has a signature."),
        Key("prekeys", "number", "The number of prekeys."),
        Key("prekey_ids", "list of numbers", "The ids of the prekeys."),
    ),
)


def is_bundles_node(name: str) -> bool:
    """Return whether a node name denotes key bundles rather than a device list."""
    return "bundles" in name.rpartition("omemo:")[2] or name.startswith(f"{LEGACY}.bundles")


@reads(DEVICES)
def parse_devices(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse an OMEMO device list (XEP-0384).

    Raises:
        ParseError: The item does not contain a device list.
    """
    try:
        element = payload(item, "devices", *OMEMO)
    except ParseError:
        element = payload(item, "list", *LEGACY_OMEMO)
    found: dict[int | None, dict[str, Any]] = {}
    repeated = []
    for one, shape in matches(element, DEVICES.payloads[0]):
        if shape is not None:
            number = integer(one.get("id"))
            device = {"id": number, "label": attribute(one, "label"), "labelsig": attribute(one, "labelsig")}
            if found.setdefault(number, device) is not device:
                repeated.append(device)
    return {"devices": list(found.values()), "repeated": repeated}


@reads(BUNDLES)
def parse_bundle(item: Element, context: ParseContext) -> dict[str, Any]:
    """Describe an OMEMO key bundle (XEP-0384).

    Raises:
        ParseError: The item does not contain a bundle.
    """
    element = payload(item, "bundle", *OMEMO, *LEGACY_OMEMO)
    space = namespace_of(element)
    signed, signed_id, signature, identity, prekey, prekey_id = _names(space)
    key = from_base64(child_text(element, identity, space))
    signed_prekey, prekeys = child(element, signed, space), child(element, "prekeys", space)
    ids = [] if prekeys is None else [integer(one.get(prekey_id)) for one in children(prekeys, prekey, space)]
    # Older versions have a node per device.
    device = context.node.rpartition("bundles:")[2] if "bundles:" in context.node else item.get("id")
    return {
        "device": integer(device),
        "label": attribute(element, "label"),
        "identity_key": None if key is None else hashlib.sha256(key).hexdigest(),
        "signed_prekey_id": None if signed_prekey is None else integer(signed_prekey.get(signed_id)),
        "has_signature": child_text(element, signature, space) is not None,
        "prekeys": len(ids),
        "prekey_ids": [number for number in ids if number is not None],
    }


@one_of(parse_devices, parse_bundle)
def parse(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse an OMEMO device list or key bundle (XEP-0384).

    Raises:
        ParseError: The item does not contain a device list or bundle.
    """
    is_bundle = any(map(BUNDLES.fits, item)) or is_bundles_node(context.node)
    return parse_bundle(item, context) if is_bundle else parse_devices(item, context)
