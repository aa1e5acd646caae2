"""Parsers for OpenPGP keys (XEP-0373). The keys themselves are not copied."""

import hashlib
import re
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.exceptions import ParseError
from pubsubcache.parsers import dates
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import attribute, child_text, children, payload
from pubsubcache.parsers.encrypted import unless_encrypted
from pubsubcache.parsers.text import from_base64

OPENPGP = "urn:xmpp:openpgp:0"
KEYS_NODE = f"{OPENPGP}:public-keys"

_FINGERPRINT = re.compile(r"[0-9A-F]{40,64}")


@unless_encrypted
def parse(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a list of OpenPGP keys, or describe one key (XEP-0373).

    Raises:
        ParseError: The item does not contain a key list or key.
    """
    is_list = item.find(f"{{{OPENPGP}}}public-keys-list") is not None or context.node == KEYS_NODE
    return parse_keys(item, context) if is_list else parse_key(item, context)


def parse_keys(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a list of OpenPGP keys (XEP-0373).

    Raises:
        ParseError: The item does not contain a key list.
    """
    listed = children(payload(item, "public-keys-list", OPENPGP), "pubkey-metadata", OPENPGP)
    found = ((_fingerprint(one.get("v4-fingerprint")), dates.normalise(attribute(one, "date"))) for one in listed)
    return {"keys": [{"fingerprint": fingerprint, "date": date} for fingerprint, date in found if fingerprint]}


def parse_key(item: Element, context: ParseContext) -> dict[str, Any]:
    """Describe an OpenPGP key (XEP-0373), without the key itself.

    Raises:
        ParseError: The item does not contain a key.
    """
    try:
        data, secret = child_text(payload(item, "pubkey", OPENPGP), "data", OPENPGP), False
    except ParseError:
        if item.find(f"{{{OPENPGP}}}secretkey") is None:
            raise
        data, secret = payload(item, "secretkey", OPENPGP).text, True
    key = from_base64(data)
    return {
        "fingerprint": _fingerprint(context.node.rpartition(":")[2]),
        "secret": secret,
        "size": None if key is None else len(key),
        "sha256": None if key is None else hashlib.sha256(key).hexdigest(),
    }


def _fingerprint(text: str | None) -> str | None:
    text = "".join((text or "").split()).upper()
    return text if _FINGERPRINT.fullmatch(text) else None
