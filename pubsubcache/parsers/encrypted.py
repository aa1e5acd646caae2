"""Parser for encrypted items: XEP-0473, XEP-0477, and payloads encrypted with OMEMO or OpenPGP.

Encrypted items are stored unchanged and marked as encrypted. Items of any node may be encrypted, so other parsers leave
them to this one, see `schema.reads`.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.exceptions import ParseError
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import attribute, flag, integer
from pubsubcache.parsers.shapes import ANY, FLAG, INTEGER, JID, WORDS, Key, Schema, Shape, matches
from pubsubcache.parsers.uris import bare
from pubsubcache.utils.xmlform import first_payload, split_tag

OXPS = "urn:xmpp:openpgp:pubsub:0"
PTE = "urn:xmpp:pte:0"
OPENPGP = "urn:xmpp:openpgp:0"
OMEMO = ("urn:xmpp:omemo:2", "urn:xmpp:omemo:1")
LEGACY_OMEMO = ("eu.siacs.conversations.axolotl", "urn:xmpp:omemo:0")

# Namespace and name of the payload -> name of the scheme in `parsed`.
SCHEMES = {
    (OXPS, "encrypted"): "oxps",
    (PTE, "encrypted"): "pte",
    (OPENPGP, "openpgp"): "openpgp",
    **{(namespace, "encrypted"): "omemo" for namespace in OMEMO},
    **{(namespace, "encrypted"): "omemo-legacy" for namespace in LEGACY_OMEMO},
}

CIPHERTEXT = WORDS.omitted("Encrypted content can only be read with a key. The XML of the item has it.")

# A message key, encrypted for one device. It is a child of <keys/> in current versions, and of <header/> in older ones.
MESSAGE_KEY = Shape("key", text=CIPHERTEXT, attributes={"rid": INTEGER, "kex": FLAG}, needs=("rid",))
OLDER_KEY = Shape("key", text=CIPHERTEXT, attributes={"rid": INTEGER, "prekey": FLAG}, needs=("rid",))
KEYS = Shape("keys", attributes={"jid": JID}, children=(MESSAGE_KEY,))
HEADER = Shape(
    "header", attributes={"sid": INTEGER}, children=(KEYS, OLDER_KEY, Shape("iv", text=CIPHERTEXT)), once=True
)
OMEMO_CONTENT = (HEADER, Shape("payload", text=CIPHERTEXT))
OPENPGP_CONTENT = Shape("openpgp", OPENPGP, text=CIPHERTEXT)
INNER = Shape("encrypted", ANY, children=OMEMO_CONTENT, once=True)
TARGETED = Shape("encrypted", PTE, attributes={"by": JID, "type": WORDS}, children=(INNER, OPENPGP_CONTENT))

ENCRYPTED = Schema(
    title="Encrypted items",
    about="Encrypted items (XEP-0473, XEP-0477), and payloads encrypted as messages are (XEP-0373, XEP-0384).",
    payloads=(
        Shape("encrypted", OXPS, text=CIPHERTEXT, attributes={"key": WORDS}),
        TARGETED,
        OPENPGP_CONTENT,
        *(Shape("encrypted", namespace, children=OMEMO_CONTENT) for namespace in (*OMEMO, *LEGACY_OMEMO)),
    ),
    keys=(
        Key("encrypted", "true", "Always true: the item cannot be read without a key."),
        Key(
            "scheme",
            "text",
            "`oxps` (XEP-0473), `pte` (XEP-0477), `openpgp` (XEP-0373), `omemo` or `omemo-legacy` (XEP-0384).",
        ),
        Key("namespace", "text", "The namespace of the payload."),
        Key("key", "text or null", "The id of the shared secret (XEP-0473)."),
        Key("by", "JID or null", "Who encrypted the item, as the item claims (XEP-0477)."),
        Key("inner", "text or null", "The namespace of the encryption inside (XEP-0477)."),
        Key("sender_device", "number or null", "The OMEMO device that encrypted the item."),
        Key(
            "recipients",
            "list of objects",
            "The OMEMO devices that can decrypt the item, by account: `{jid, devices}`. `devices` is a list of "
            "`{id, key_exchange}`; `key_exchange` says whether the key starts a session. Older versions have no `jid`.",
        ),
        Key("size", "number", "The number of characters of the encrypted content."),
    ),
    notes=(
        "Encrypted items are stored unchanged. **Any item may be encrypted**, for example a post in a blog. This "
        "schema then replaces that of its analyser, so `parsed__encrypted=True` finds all encrypted items."
    ),
)

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
    header = _header(element)
    return {
        "encrypted": True,
        "scheme": SCHEMES[namespace, name],
        "namespace": namespace,
        # The name "secret" is that of a draft of XEP-0473.
        "key": (attribute(element, "key") or attribute(element, "secret")) if namespace == OXPS else None,
        "by": bare(element.get("by")) if namespace == PTE else None,
        "inner": attribute(element, "type") if namespace == PTE else None,
        "sender_device": None if header is None else integer(header.get("sid")),
        "recipients": [] if header is None else _recipients(header),
        "size": sum(len(text.strip()) for text in element.itertext()),
        **ENCRYPTED.rest(item),
    }


parse_encrypted.schemas = (ENCRYPTED,)  # type: ignore[attr-defined]


def _header(element: Element) -> Element | None:
    """Return the header of an OMEMO payload, which may be inside one of XEP-0477."""
    namespace, _ = split_tag(element.tag)
    outer = _first(element, TARGETED, INNER) if namespace == PTE else element
    return None if outer is None else _first(outer, INNER, HEADER)


def _first(parent: Element, shape: Shape, wanted: Shape) -> Element | None:
    return next((one for one, read in matches(parent, shape) if read is wanted), None)


def _recipients(header: Element) -> list[dict[str, Any]]:
    found = []
    devices = []
    for one, shape in matches(header, HEADER):
        if shape is KEYS:
            inside = [_device(key, "kex") for key, read in matches(one, KEYS) if read is not None]
            found.append({"jid": bare(one.get("jid")), "devices": inside})
        elif shape is OLDER_KEY:
            devices.append(_device(one, "prekey"))
    return [*found, {"jid": None, "devices": devices}] if devices else found


def _device(key: Element, key_exchange: str) -> dict[str, Any]:
    return {"id": integer(key.get("rid")), "key_exchange": flag(key.get(key_exchange))}


def unless_encrypted(parse: Parse) -> Parse:
    """Decorate a parser so that encrypted items go to `parse_encrypted` instead."""

    @wraps(parse)
    def parse_readable(item: Element, context: ParseContext) -> dict[str, Any]:
        element = first_payload(item)
        if element is not None and is_encrypted(element):
            return parse_encrypted(item, context)
        return parse(item, context)

    return parse_readable
