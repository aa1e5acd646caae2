"""Helpers for signatures of items (XEP-0475) and their OpenPGP profile (XEP-0476).

A signature is an attachment (XEP-0470) to the item that is signed. Summaries of attachments list the signers.
"""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import dates, uris
from pubsubcache.parsers.elements import qualified, text_of
from pubsubcache.parsers.shapes import ANY, BASE64, DATE, JID, OTHER, Shape, matches

SIGNING = "urn:xmpp:pubsub-signing:0"
OPENPGP_PROFILE = "urn:xmpp:pubsub-signing:openpgp:0"

TIME = Shape("time", attributes={"stamp": DATE}, once=True)
SIGNER = Shape("signer", text=JID, attributes={"jid": JID})
RECIPIENT = Shape("to", attributes={"jid": JID})
PROFILES = (
    Shape(
        "sign",
        OPENPGP_PROFILE,
        text=BASE64.omitted("Clients verify signatures against the XML of both items, which has the signature."),
    ),
    Shape(ANY, OTHER),
)

#: What `signature` reads.
SIGNATURE = Shape(
    "signature", SIGNING, attributes={"timestamp": DATE}, children=(TIME, SIGNER, RECIPIENT, *PROFILES), once=True
)


def signature(element: Element) -> dict[str, Any]:
    """Describe a `<signature/>` of an item (XEP-0475), without verifying it.

    Returns:
        `signed_at`, when the item was signed; `timestamp`, when the signature was attached; `signers` and `recipients`,
        lists of JIDs; and `profiles`, a list of `{namespace, name}`: how it is signed.
    """
    read = [(one, shape) for one, shape in matches(element, SIGNATURE) if shape is not None]
    jids = [
        (shape, uris.bare(jid))
        for one, shape in read
        if shape in (SIGNER, RECIPIENT)
        for jid in (one.get("jid"), text_of(one) if shape is SIGNER else None)
    ]
    return {
        "signed_at": next((dates.normalise(one.get("stamp")) for one, shape in read if shape is TIME), None),
        "timestamp": dates.normalise(element.get("timestamp")),
        "signers": list(dict.fromkeys(jid for shape, jid in jids if jid and shape is SIGNER)),
        "recipients": list(dict.fromkeys(jid for shape, jid in jids if jid and shape is RECIPIENT)),
        "profiles": [qualified(one) for one, shape in read if shape in PROFILES],
    }
