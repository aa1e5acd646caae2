"""Parsers for OpenPGP keys (XEP-0373)."""

import hashlib
import re
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.exceptions import ParseError
from pubsubcache.parsers import dates
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import attribute, child_text, payload
from pubsubcache.parsers.encrypted import OPENPGP
from pubsubcache.parsers.schema import Key, Schema, one_of, reads
from pubsubcache.parsers.shapes import BASE64, DATE, Kind, Shape, matches
from pubsubcache.parsers.text import from_base64

KEYS_NODE = f"{OPENPGP}:public-keys"

_FINGERPRINT = re.compile(r"[0-9A-F]{40,64}")


def _fingerprint(text: str | None) -> str | None:
    text = "".join((text or "").split()).upper()
    return text if _FINGERPRINT.fullmatch(text) else None


KEY_LISTS = Schema(
    title="OpenPGP key lists",
    about="The OpenPGP keys of a user (XEP-0373), in the node `urn:xmpp:openpgp:0:public-keys`; the subtype is `keys`.",
    payloads=(
        Shape(
            "public-keys-list",
            OPENPGP,
            children=(
                Shape(
                    "pubkey-metadata",
                    attributes={"v4-fingerprint": Kind("fingerprint", _fingerprint), "date": DATE},
                    needs=("v4-fingerprint",),
                ),
            ),
        ),
    ),
    keys=(
        Key(
            "keys",
            "list of objects",
            "The keys, each `{fingerprint, date}`: the version 4 fingerprint in upper case, and when the key was "
            "published.",
        ),
    ),
)
KEYS = Schema(
    title="OpenPGP keys",
    about="An OpenPGP key (XEP-0373), in a node of its own; the subtype is `key`.",
    payloads=(
        Shape(
            "pubkey",
            OPENPGP,
            attributes={"date": DATE},
            children=(
                Shape(
                    "data",
                    text=BASE64.omitted("Clients that encrypt must fetch the key from the service. The XML has it."),
                    once=True,
                ),
            ),
        ),
        Shape("secretkey", OPENPGP, left_out="Backups of secret keys are only for the owner. The XML has them."),
    ),
    keys=(
        Key("fingerprint", "text or null", "The fingerprint at the end of the node's name."),
        Key("date", "date or null", "When the key was published, according to the payload or else the id of the item."),
        Key("secret", "true or false", "Whether it is the backup of a secret key, encrypted with a password."),
        Key("size", "number or null", "Bytes. Null if the key is not base64."),
        Key("sha256", "text or null", "The SHA-256 hash of the key, in lower-case hexadecimal."),
    ),
)


@reads(KEY_LISTS)
def parse_keys(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a list of OpenPGP keys (XEP-0373).

    Raises:
        ParseError: The item does not contain a key list.
    """
    listed = matches(payload(item, "public-keys-list", OPENPGP), KEY_LISTS.payloads[0])
    return {
        "keys": [
            {"fingerprint": _fingerprint(one.get("v4-fingerprint")), "date": dates.normalise(attribute(one, "date"))}
            for one, shape in listed
            if shape is not None
        ]
    }


@reads(KEYS)
def parse_key(item: Element, context: ParseContext) -> dict[str, Any]:
    """Describe an OpenPGP key (XEP-0373), without the key itself.

    Raises:
        ParseError: The item does not contain a key.
    """
    try:
        element = payload(item, "pubkey", OPENPGP)
        data, secret = child_text(element, "data", OPENPGP), False
    except ParseError:
        if item.find(f"{{{OPENPGP}}}secretkey") is None:
            raise
        element = payload(item, "secretkey", OPENPGP)
        data, secret = element.text, True
    key = from_base64(data)
    return {
        "fingerprint": _fingerprint(context.node.rpartition(":")[2]),
        # Older versions of the XEP have the date in the payload.
        "date": dates.normalise(element.get("date")) or dates.normalise(item.get("id")),
        "secret": secret,
        "size": None if key is None else len(key),
        "sha256": None if key is None else hashlib.sha256(key).hexdigest(),
    }


@one_of(parse_keys, parse_key)
def parse(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a list of OpenPGP keys, or describe one key (XEP-0373).

    Raises:
        ParseError: The item does not contain a key list or key.
    """
    is_list = any(map(KEY_LISTS.fits, item)) or context.node == KEYS_NODE
    return parse_keys(item, context) if is_list else parse_key(item, context)
