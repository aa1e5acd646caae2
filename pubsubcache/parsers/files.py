"""Helpers for shared files: metadata (XEP-0446), hashes (XEP-0300) and sources (XEP-0447)."""

import re
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import dates, uris
from pubsubcache.parsers.elements import attribute, child, child_text, children, integer, text_of

METADATA = "urn:xmpp:file:metadata:0"
SHARING = "urn:xmpp:sfs:0"
HASHES = "urn:xmpp:hashes:2"
URL_DATA = "http://jabber.org/protocol/url-data"
THUMBNAILS = "urn:xmpp:thumbs:1"

_DIMENSIONS = re.compile(r"([0-9]{1,9})x([0-9]{1,9})")


def shared_file(element: Element) -> dict[str, Any]:
    """Describe the file in an element that contains `<file/>` and `<sources/>`, such as `<file-sharing/>`."""
    metadata = child(element, "file", METADATA)
    found = metadata if metadata is not None else Element("file")
    width, height = _dimensions(found)
    return {
        "name": child_text(found, "name", METADATA),
        "media_type": child_text(found, "media-type", METADATA),
        "size": integer(child_text(found, "size", METADATA)),
        "desc": child_text(found, "desc", METADATA),
        "date": dates.normalise(child_text(found, "date", METADATA)),
        "width": width,
        "height": height,
        "hashes": hashes(found),
        "urls": _urls(element),
        "thumbnails": [_thumbnail(one) for one in children(found, "thumbnail", THUMBNAILS)],
    }


def shared_files(element: Element | None) -> list[dict[str, Any]]:
    """Describe the files of all `<file-sharing/>` children; an empty list for None."""
    return [] if element is None else [shared_file(one) for one in children(element, "file-sharing", SHARING)]


def hashes(element: Element) -> list[dict[str, str | None]]:
    """Return `{algo, value}` for each hash in an element (XEP-0300)."""
    found = ((attribute(one, "algo"), text_of(one)) for one in children(element, "hash", HASHES))
    return [{"algo": algorithm, "value": value} for algorithm, value in found if value is not None]


def link_in(element: Element) -> str | None:
    """Return the URL of the first usable `<url-data/>` child (XEP-0103), or None."""
    return next(iter(_links(element)), None)


def _links(element: Element) -> list[str]:
    found = (uris.link(one.get("target")) for one in children(element, "url-data", URL_DATA))
    return list(dict.fromkeys(url for url in found if url is not None))


def _urls(element: Element) -> list[str]:
    sources = child(element, "sources", SHARING)
    return [] if sources is None else _links(sources)


def _dimensions(metadata: Element) -> tuple[int | None, int | None]:
    """Return width and height, given as separate elements or as one text such as "512x512"."""
    width, height = (integer(child_text(metadata, name, METADATA)) for name in ("width", "height"))
    for name in ("dimensions", "dimension"):
        if (width, height) == (None, None) and (
            found := _DIMENSIONS.fullmatch(child_text(metadata, name, METADATA) or "")
        ):
            width, height = int(found[1]), int(found[2])
    return width, height


def _thumbnail(element: Element) -> dict[str, Any]:
    return {
        "uri": _thumbnail_uri(attribute(element, "uri")),
        "media_type": attribute(element, "media-type"),
        "width": integer(element.get("width")),
        "height": integer(element.get("height")),
    }


def _thumbnail_uri(uri: str | None) -> str | None:
    """Return a safe link or a `cid:` URI (XEP-0231), which only identifies data."""
    return uri if uri is not None and uri[:4].lower() == "cid:" and len(uri) <= uris.MAX_LENGTH else uris.link(uri)
