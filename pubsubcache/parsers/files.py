"""Helpers for shared files: metadata (XEP-0446), hashes (XEP-0300) and sources (XEP-0447, XEP-0448)."""

import re
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import dates, uris
from pubsubcache.parsers.elements import (
    attribute,
    child,
    child_text,
    children,
    integer,
    language,
    namespace_of,
    text_of,
    texts,
    translations,
)
from pubsubcache.parsers.schema import Key, Schema
from pubsubcache.parsers.shapes import ANY, DATE, FULL_JID, INTEGER, LANG, LINK, WORDS, Kind, Shape, words
from pubsubcache.parsers.text import clean

METADATA = "urn:xmpp:file:metadata:0"
SHARING = "urn:xmpp:sfs:0"
ENCRYPTED_SHARING = "urn:xmpp:esfs:0"
HASHES = "urn:xmpp:hashes:2"
URL_DATA = "http://jabber.org/protocol/url-data"
JINGLE_PUB = "urn:xmpp:jinglepub:1"
THUMBNAILS = "urn:xmpp:thumbs:1"

_DIMENSIONS = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")
_KEYS_STAY = "The keys of encrypted files stay in the item's XML."


def media_uri(text: str | None) -> str | None:
    """Return a safe link or a `cid:` URI (XEP-0231), which only identifies data; None for anything else."""
    text = clean(text)
    is_data = text is not None and text[:4].lower() == "cid:" and len(text) <= uris.MAX_LENGTH
    return text if is_data else uris.link(text)


#: The URI of a picture or of other media, see `media_uri`.
MEDIA_URI = Kind("media URI", media_uri)

#: An address of data on the web (XEP-0103).
URL = Shape("url-data", URL_DATA, attributes={"target": LINK})

#: A hash (XEP-0300).
HASH = Shape("hash", HASHES, text=WORDS, attributes={"algo": WORDS})

_JINGLE = Shape(
    "jinglepub",
    JINGLE_PUB,
    attributes={"from": FULL_JID, "id": WORDS},
    children=(
        Shape("description", ANY),
        Shape("uri", text=LINK, once=True),
        Shape("meta", attributes={LANG: WORDS, "title": WORDS, "summary": WORDS}),
    ),
)
_ENCRYPTED = Shape(
    "encrypted",
    ENCRYPTED_SHARING,
    attributes={"cipher": WORDS},
    children=(
        Shape("key", left_out=_KEYS_STAY),
        Shape("iv", left_out=_KEYS_STAY),
        HASH,
        Shape("sources", SHARING, children=(URL, _JINGLE), once=True),
    ),
)

#: What describes a file: the content of `<file-sharing/>`, and a part of the content of other elements.
FILE_PARTS = (
    Shape(
        "file",
        METADATA,
        children=(
            *words("name", "media-type", once=True),
            Shape("desc", text=WORDS, attributes={LANG: WORDS}),
            Shape("date", text=DATE, once=True),
            *(Shape(name, text=INTEGER, once=True) for name in ("size", "width", "height", "length")),
            *words("dimensions", "dimension"),
            HASH,
            Shape("hash-used", HASHES, attributes={"algo": WORDS}),
            Shape(
                "thumbnail",
                THUMBNAILS,
                attributes={"uri": MEDIA_URI, "media-type": WORDS, "width": INTEGER, "height": INTEGER},
            ),
        ),
        once=True,
    ),
    Shape("sources", SHARING, children=(URL, _JINGLE, _ENCRYPTED), once=True),
)

#: A shared file (XEP-0447).
FILE = Shape("file-sharing", SHARING, attributes={"disposition": WORDS, "id": WORDS}, children=FILE_PARTS)

FILES = Schema(
    title="Files",
    about="Shared files (XEP-0446, XEP-0447, XEP-0448), as in events and stickers.",
    payloads=(FILE,),
    keys=(
        Key("name", "text or null", "The name of the file."),
        Key("media_type", "text or null", "Such as `image/png`."),
        Key("size", "number or null", "Size in bytes."),
        Key("desc", "text or null", "A description."),
        Key("descs", "list of objects", "The description in all languages, each `{language, text}`."),
        Key("date", "date or null", "When the file was last modified."),
        Key("width", "number or null", "Width of a picture or a film, in pixels."),
        Key("height", "number or null", "Height, in pixels."),
        Key("dimensions", "list of text", "Width and height in one text, as older clients give them: `512x512`."),
        Key("length", "number or null", "Length of a recording, in milliseconds."),
        Key("hashes", "list of objects", "Hashes of the file as given, each `{algo, value}`."),
        Key("hashes_used", "list of text", "Algorithms of hashes to come (`hash-used` of XEP-0300)."),
        Key("urls", "list of links", "Where the file can be downloaded."),
        Key(
            "jingle",
            "list of objects",
            "Clients that offer the file (XEP-0358), each `{jid, id, applications, uri, about}`. `jid` has a resource, "
            "`applications` are namespaces, and `about` is a list of `{language, title, summary}`.",
        ),
        Key(
            "encrypted_sources",
            "list of objects",
            "Where to get encrypted copies (XEP-0448), each `{cipher, hashes, urls, jingle}`. Their keys are left out.",
        ),
        Key("thumbnails", "list of objects", "Small pictures of the file, each `{uri, media_type, width, height}`."),
        Key("id", "text or null", "Identifies the file within its item."),
        Key("disposition", "text or null", "`inline` to show the file, `attachment` to offer it."),
    ),
)


def shared_file(element: Element) -> dict[str, Any]:
    """Describe the file in an element that contains `<file/>` and `<sources/>`, such as `<file-sharing/>`."""
    metadata = child(element, "file", METADATA)
    found = metadata if metadata is not None else Element("file")
    sources = _sources(element)
    width, height, dimensions = _dimensions(found)
    descriptions = translations(children(found, "desc", METADATA))
    return {
        "name": child_text(found, "name", METADATA),
        "media_type": child_text(found, "media-type", METADATA),
        "size": integer(child_text(found, "size", METADATA)),
        "desc": descriptions[0]["text"] if descriptions else None,
        "descs": descriptions,
        "date": dates.normalise(child_text(found, "date", METADATA)),
        "width": width,
        "height": height,
        "dimensions": dimensions,
        "length": integer(child_text(found, "length", METADATA)),
        "hashes": hashes(found),
        "hashes_used": [name for one in children(found, "hash-used", HASHES) if (name := attribute(one, "algo"))],
        "urls": _links(sources),
        "jingle": _jingle(sources),
        "encrypted_sources": [_encrypted(one) for one in children(sources, "encrypted", ENCRYPTED_SHARING)],
        "thumbnails": [_thumbnail(one) for one in children(found, "thumbnail", THUMBNAILS)],
        "id": attribute(element, "id"),
        "disposition": attribute(element, "disposition"),
    }


def shared_files(element: Element | None) -> list[dict[str, Any]]:
    """Describe the files of all `<file-sharing/>` children; an empty list for None."""
    return [] if element is None else [shared_file(one) for one in children(element, "file-sharing", SHARING)]


def hashes(element: Element) -> list[dict[str, str | None]]:
    """Return `{algo, value}` for each hash in an element (XEP-0300)."""
    found = ((attribute(one, "algo"), text_of(one)) for one in children(element, "hash", HASHES))
    return [{"algo": algorithm, "value": value} for algorithm, value in found if algorithm or value]


def link_in(element: Element) -> str | None:
    """Return the URL of the first usable `<url-data/>` child (XEP-0103), or None."""
    return next(iter(_links(element)), None)


def _links(element: Element) -> list[str]:
    found = (uris.link(one.get("target")) for one in children(element, "url-data", URL_DATA))
    return list(dict.fromkeys(url for url in found if url is not None))


def _sources(element: Element) -> Element:
    found = child(element, "sources", SHARING)
    return Element("sources") if found is None else found


def _jingle(sources: Element) -> list[dict[str, Any]]:
    return [
        {
            "jid": uris.full(one.get("from")),
            "id": attribute(one, "id"),
            "applications": [namespace_of(content) for content in children(one, "description", "*")],
            "uri": uris.link(child_text(one, "uri", JINGLE_PUB)),
            "about": [
                {
                    "language": language(about),
                    "title": attribute(about, "title"),
                    "summary": attribute(about, "summary"),
                }
                for about in children(one, "meta", JINGLE_PUB)
            ],
        }
        for one in children(sources, "jinglepub", JINGLE_PUB)
    ]


def _encrypted(element: Element) -> dict[str, Any]:
    sources = _sources(element)
    return {
        "cipher": attribute(element, "cipher"),
        "hashes": hashes(element),
        "urls": _links(sources),
        "jingle": _jingle(sources),
    }


def _dimensions(metadata: Element) -> tuple[int | None, int | None, list[str]]:
    """Return width and height, given as separate elements or as one text such as "512x512", and these texts."""
    width, height = (integer(child_text(metadata, name, METADATA)) for name in ("width", "height"))
    together = texts(one for name in ("dimensions", "dimension") for one in children(metadata, name, METADATA))
    for text in together:
        if (width, height) == (None, None) and (found := _DIMENSIONS.fullmatch(text)):
            width, height = int(found[1]), int(found[2])
    return width, height, together


def _thumbnail(element: Element) -> dict[str, Any]:
    return {
        "uri": media_uri(element.get("uri")),
        "media_type": attribute(element, "media-type"),
        "width": integer(element.get("width")),
        "height": integer(element.get("height")),
    }
