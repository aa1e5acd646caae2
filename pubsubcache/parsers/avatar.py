"""Parsers for avatars (XEP-0084). The image itself stays in the XML of the item."""

import hashlib
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import attribute, children, integer, payload
from pubsubcache.parsers.encrypted import unless_encrypted
from pubsubcache.parsers.text import from_base64

METADATA = "urn:xmpp:avatar:metadata"
DATA = "urn:xmpp:avatar:data"

_SIGNATURES = (
    ("image/png", 0, b"\x89PNG\r\n\x1a\n"),
    ("image/jpeg", 0, b"\xff\xd8\xff"),
    ("image/gif", 0, b"GIF8"),
    ("image/webp", 8, b"WEBP"),
    ("image/avif", 4, b"ftypavif"),
)


@unless_encrypted
def parse_metadata(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse avatar metadata (XEP-0084).

    Raises:
        ParseError: The item does not contain an avatar metadata.
    """
    pictures = [
        {
            "id": attribute(info, "id"),
            "media_type": attribute(info, "type"),
            "size": integer(info.get("bytes")),
            "width": integer(info.get("width")),
            "height": integer(info.get("height")),
            "url": uris.link(info.get("url")),
        }
        for info in children(payload(item, "metadata", METADATA), "info", METADATA)
    ]
    return {"enabled": bool(pictures), "sha1": attribute(item, "id") if pictures else None, "pictures": pictures}


@unless_encrypted
def parse_data(item: Element, context: ParseContext) -> dict[str, Any]:
    """Describe avatar data (XEP-0084): its hash, size and media type, without the data itself.

    Raises:
        ParseError: The item does not contain an avatar data.
    """
    data = from_base64(payload(item, "data", DATA).text)
    if data is None:
        return {"sha1": None, "size": None, "media_type": None, "matches_id": False}
    sha1 = hashlib.sha1(data, usedforsecurity=False).hexdigest()
    return {
        "sha1": sha1,
        "size": len(data),
        "media_type": next((kind for kind, start, mark in _SIGNATURES if data.startswith(mark, start)), None),
        "matches_id": (attribute(item, "id") or "").lower() == sha1,
    }
