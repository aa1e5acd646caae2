"""Helpers for XMPP URIs of nodes and items (XEP-0060, 12.22; RFC 5122), for JIDs, and for safe links."""

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.parsers.text import clean, storable
from pubsubcache.types import NodeAddress
from pubsubcache.utils import jid

MAX_LENGTH = 8192

# Schemes that neither run code nor expose the local machine.
SCHEMES = frozenset({"ftp", "ftps", "gemini", "geo", "gopher", "http", "https", "magnet", "mailto", "tel", "xmpp"})

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_INVISIBLE = re.compile(r"[\x00-\x20\x7f-\xa0\u200b-\u200f\u2028-\u202f\ufeff]+")


class XmppUri(NamedTuple):
    """The target of an XMPP URI: a normalised JID, and the node and item id or None."""

    service: str
    node: str | None
    item: str | None


def item_uri(service: str, node: str, item_id: str | None) -> str:
    """Return the URI of an item, or of the node if `item_id` is None. All arguments must be storable."""
    uri = NodeAddress(service, node).uri
    return uri if item_id is None else f"{uri};item={quote(item_id, safe='')}"


def reference(service: str | None, node: str | None, item: str | None = None) -> dict[str, str | None] | None:
    """Describe a node or an item that a payload refers to.

    Args:
        service: JID of the service, not normalised.
        node: Name of the node.
        item: Item id; None for the node itself.

    Returns:
        `{uri, service, node, item}`, or None if the JID is invalid or the node is missing.
    """
    normal = None if service is None else _normal(service)
    node, item = storable(node or "") or None, storable(item or "") or None
    if normal is None or node is None:
        return None
    return {"uri": item_uri(normal, node, item), "service": normal, "node": node, "item": item}


def parse_xmpp(uri: str | None) -> XmppUri | None:
    """Parse an `xmpp:` URI; return None if it is not one or its JID is invalid.

    Tolerates white space around parameters and `&` between them, which some publishers use.
    """
    uri = (uri or "").strip()
    if len(uri) > MAX_LENGTH or uri[:5].lower() != "xmpp:":
        return None
    path, _, query = uri[5:].partition("#")[0].partition("?")
    if path.startswith("//"):  # the account to use, followed by the JID
        path = path[2:].partition("/")[2]
    try:
        service = jid.normalise(storable(unquote(path)))
    except InvalidRequest:
        return None
    parameters: dict[str, str] = {}
    for part in re.split("[;&]", query):
        key, _, value = part.strip().partition("=")
        parameters.setdefault(key, storable(unquote(value.strip())))
    return XmppUri(service, parameters.get("node") or None, parameters.get("item") or None)


def bare_jid(text: str | None) -> str | None:
    """Return the bare JID of an `xmpp:` URI or of a plain JID; None for anything else."""
    if found := parse_xmpp(text):
        return found.service.partition("/")[0]
    if not text or "@" not in text or ":" in text:
        return None
    return bare(text)


def full(text: str | None) -> str | None:
    """Normalise a JID and keep its resource, if any; return None if it is invalid."""
    return _normal(text) if text else None


def bare(text: str | None) -> str | None:
    """Normalise a JID and remove its resource; return None if it is invalid."""
    try:
        return jid.bare(storable(text)) if text and len(text) <= MAX_LENGTH else None
    except InvalidRequest:
        return None


def _normal(text: str) -> str | None:
    try:
        return jid.normalise(storable(text)) if len(text) <= MAX_LENGTH else None
    except InvalidRequest:
        return None


def link(href: str | None) -> str | None:
    """Return `href` if it is safe to use as a link, else None.

    A link is safe if it has no scheme or one of `SCHEMES`. A scheme obfuscated with characters that browsers ignore is
    rejected. White space is percent-encoded, or removed around the parameters of an `xmpp:` URI.
    """
    href = clean(href)
    if href is None or len(href) > MAX_LENGTH:
        return None
    hidden = _SCHEME.match(_INVISIBLE.sub("", href))
    scheme = _SCHEME.match(href)
    if hidden and not (scheme and scheme[1].lower() in SCHEMES):
        return None
    if scheme and scheme[1].lower() == "xmpp":
        href = "".join(part.strip() for part in re.split("([;&?])", href))
    return "%20".join(href.split())
