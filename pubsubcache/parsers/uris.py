"""Helpers for XMPP URIs of nodes and items (XEP-0060, 12.22; RFC 5122), for JIDs, and for safe links."""

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.parsers.text import clean, storable
from pubsubcache.types import NodeAddress
from pubsubcache.utils import jid

MAX_LENGTH = 8192
MAX_BASE = 250  # characters; each relative link in its scope becomes so much longer

# Schemes that neither run code nor expose the local machine.
SCHEMES = frozenset({"ftp", "ftps", "gemini", "geo", "gopher", "http", "https", "magnet", "mailto", "tel", "xmpp"})
# Those of them with a host.
HIERARCHICAL = frozenset({"ftp", "ftps", "gemini", "gopher", "http", "https"})

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_HOST = re.compile(r"//[^/\\?#]")
# The parts of a URI (RFC 3986, appendix B).
_PARTS = re.compile(
    r"""(?: (?P<scheme>[a-z][a-z0-9+.-]*+) : )?+ (?: // (?P<authority>[^/?#]*+) )?+ (?P<path>[^?#]*+)
    (?: \? (?P<query>[^#]*+) )?+ (?: \# (?P<fragment>.*+) )?+""",
    re.DOTALL | re.IGNORECASE | re.VERBOSE,
)
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


def link(href: str | None, base: str | None = None) -> str | None:
    """Return `href` if it is safe to use as a link, else None.

    A link is safe if it has no scheme or one of `SCHEMES`. A scheme obfuscated with characters that browsers ignore is
    rejected. White space is percent-encoded, or removed around the parameters of an `xmpp:` URI.

    Args:
        href: The link as published.
        base: The result of `base_of`, to resolve a relative link against. Without it, a relative link stays relative.
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
    href = "%20".join(href.split())
    return href if base is None else resolve(href, base)


def absolute(href: str | None, base: str | None = None) -> str | None:
    """Return `href` as `link` does, but None if it is still relative, or incomplete such as `https:/path`.

    Browsers resolve both against the address of the page that shows them.
    """
    found = link(href, base)
    scheme = _SCHEME.match(found) if found else None
    if found is None or scheme is None:
        return None
    return found if scheme[1].lower() not in HIERARCHICAL or _HOST.match(found, scheme.end()) else None


def base_of(declared: str | None, outer: str | None = None) -> str | None:
    """Return the base URI within an element (XML Base); None if relative links in it cannot be resolved.

    Args:
        declared: The `xml:base` of the element, or None. It may be relative to the outer base.
        outer: The base URI around the element.
    """
    if declared is None or not declared.strip():
        return outer
    found = absolute(declared, outer)
    scheme = _SCHEME.match(found) if found else None
    return found if found and len(found) <= MAX_BASE and scheme and scheme[1].lower() in HIERARCHICAL else None


def resolve(reference: str, base: str) -> str:
    """Resolve a URI reference against a base URI with a host (RFC 3986, 5.2)."""
    parts, outer = _PARTS.fullmatch(reference), _PARTS.fullmatch(base)
    assert parts is not None and outer is not None  # the pattern matches any text
    if parts["scheme"]:
        return reference
    authority, path, query = parts["authority"], parts["path"], parts["query"]
    if authority is None and not path:
        path = outer["path"]
        query = outer["query"] if query is None else query
    elif authority is None and not path.startswith("/"):
        path = _without_dots(f"{outer['path'].rpartition('/')[0]}/{path}")
    else:
        path = _without_dots(path)
    resolved = f"{outer['scheme']}://{outer['authority'] if authority is None else authority}{path}"
    if query is not None:
        resolved += f"?{query}"
    return resolved if parts["fragment"] is None else f"{resolved}#{parts['fragment']}"


def _without_dots(path: str) -> str:
    """Remove the segments `.` and `..` from an absolute path, or from an empty one (RFC 3986, 5.2.4)."""
    segments = path.split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[max(1, len(kept) - 1) :]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/".join(kept)
