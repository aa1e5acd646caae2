"""Parsers for avatars (XEP-0084). The image itself stays in the XML of the item."""

import hashlib
import re
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import attribute, child, children, integer, payload
from pubsubcache.parsers.mood import details
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import ANY, BASE64, INTEGER, LINK, OTHER, WORDS, Shape
from pubsubcache.parsers.text import from_base64

METADATA = "urn:xmpp:avatar:metadata"
DATA = "urn:xmpp:avatar:data"

_SHA1 = re.compile(r"[0-9a-fA-F]{40}")
_SIGNATURES = (
    ("image/png", 0, b"\x89PNG\r\n\x1a\n"),
    ("image/jpeg", 0, b"\xff\xd8\xff"),
    ("image/gif", 0, b"GIF8"),
    ("image/webp", 8, b"WEBP"),
    ("image/avif", 4, b"ftypavif"),
)
_PICTURE = {"id": WORDS, "type": WORDS, "bytes": INTEGER, "width": INTEGER, "height": INTEGER}

AVATARS = Schema(
    title="Avatars",
    about=(
        "The picture that stands for a user (XEP-0084), in the node `urn:xmpp:avatar:metadata`; the subtype is "
        "`metadata`. Blogs and spaces (XEP-0503) have such items for their own pictures."
    ),
    payloads=(
        Shape(
            "metadata",
            METADATA,
            children=(
                Shape("info", attributes={**_PICTURE, "url": LINK}),
                Shape("pointer", attributes=_PICTURE, children=(Shape(ANY, OTHER, once=True),)),
                Shape("stop", once=True),
            ),
        ),
    ),
    keys=(
        Key("enabled", "true or false", "False when the user has taken the avatar away."),
        Key(
            "sha1",
            "text or null",
            "The hash of the picture, and the id of its item in the node of the data: the id of the item, or of a "
            "picture if the item's id is not a hash.",
        ),
        Key(
            "pictures",
            "list of objects",
            "The picture in its formats, each `{id, media_type, size, width, height, url}`. `size` is in bytes.",
        ),
        Key(
            "pointers",
            "list of objects",
            "The picture at third parties, each `{id, media_type, size, width, height, namespace, name}`. `namespace` "
            "and `name` say how to get it; `rest` has the content of that element.",
        ),
    ),
    several=True,
)
AVATAR_DATA = Schema(
    title="Avatar data",
    about="The picture of a user (XEP-0084), in the node `urn:xmpp:avatar:data`; the subtype is `data`.",
    payloads=(Shape("data", DATA, text=BASE64.omitted("Pictures are large. The XML of the item has the data.")),),
    keys=(
        Key(
            "sha1",
            "text or null",
            "The hash computed from the data, in lower-case hexadecimal. Null if the data is not base64.",
        ),
        Key("size", "number or null", "Bytes."),
        Key(
            "media_type",
            "text or null",
            "The format, recognised from the data: image/png, image/jpeg, image/gif, image/webp or image/avif.",
        ),
        Key("matches_id", "true or false", "Whether the item's id is this hash, as the XEP demands."),
    ),
)


@reads(AVATARS)
def parse_metadata(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse avatar metadata (XEP-0084).

    Raises:
        ParseError: The item does not contain an avatar metadata.
    """
    payload(item, "metadata", METADATA)
    parts = list(children(item, "metadata", METADATA))
    pictures = [
        {**_picture(info), "url": uris.link(info.get("url"))}
        for part in parts
        for info in children(part, "info", METADATA)
    ]
    pointers = [
        {**_picture(pointer), **next(iter(details(pointer)), {"namespace": None, "name": None})}
        for part in parts
        for pointer in children(part, "pointer", METADATA)
    ]
    # In older versions of the XEP, <stop/> disables the avatar.
    is_stopped = any(child(part, "stop", METADATA) is not None for part in parts)
    return {
        "enabled": bool(pictures or pointers) and not is_stopped,
        "sha1": _sha1(attribute(item, "id"), pictures) if pictures else None,
        "pictures": pictures,
        "pointers": pointers,
    }


def _picture(element: Element) -> dict[str, Any]:
    return {
        "id": attribute(element, "id"),
        "media_type": attribute(element, "type"),
        "size": integer(element.get("bytes")),
        "width": integer(element.get("width")),
        "height": integer(element.get("height")),
    }


def _sha1(item_id: str | None, pictures: list[dict[str, Any]]) -> str | None:
    """Return the first hash among the id of the item and the ids of the pictures, that in PNG first."""
    in_png = sorted(pictures, key=lambda picture: picture["media_type"] != "image/png")
    candidates = [item_id, *(picture["id"] for picture in in_png)]
    return next((found for found in candidates if found and _SHA1.fullmatch(found)), None)


@reads(AVATAR_DATA)
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
