"""Parser for blog posts and comments: XEP-0277, XEP-0472, Atom (RFC 4287) and Atom threading (RFC 4685).

`parse_entry` returns the keys below, which are stored in the `parsed` field of an item. **Every key is always
present**; a missing value is null, or [] for a list. A "date" is a string such as "2026-01-31T12:00:00Z": UTC, of fixed
length, so it sorts as text. A "JID" is a normalised bare JID.

====================  ==================  ==========================================================================
key                   type                meaning
====================  ==================  ==========================================================================
id                    text or null        the pubsub item id
atom_id               text                atom:id, or ""; not unique: a repeated post may keep the atom:id of its origin
service               text                the service that has the item
node                  text                the node that has the item
uri                   text                `xmpp:service?;node=...;item=...`, percent-encoded
language              text or null        xml:lang of the entry, else of its content or title
title                 text or null        the title as plain text; many posts have nothing else
title_xhtml           markup or null      the title as markup
summary               text or null        atom:summary as plain text
summary_xhtml         markup or null      atom:summary as markup
content               text or null        the content as plain text; falls back to the summary, then to the title
content_xhtml         markup or null      the same as markup
published             date or null        when it was first published; falls back to `updated`
updated               date or null        when it was last changed
author                text or null        the author's name, else the localpart of `author_jid`
author_jid            JID or null         from atom:author, else the publisher, else the owner of the PEP node
author_jid_verified   true or false       whether the service confirms `author_jid`, see below
author_email          text or null        from atom:author
tags                  list of text        terms of the categories, trimmed, without duplicates
comments              list of objects     comments nodes, each `{uri, service, node}`
reply                 object or null      the post replied to (thr:in-reply-to), see below
geoloc                object or null      where it was written, in the schema of `geoloc.place`
generator             object or null      the software: `{name, uri, version}`
source                object or null      the feed it was copied from (atom:source): `{id, title, url}`
extra                 object              `{repeated, attachments, pictures, alt_links}`, see below
====================  ==================  ==========================================================================

"markup" is one well-formed XHTML `<div>` that is **already sanitised and safe to show** in a page. It is null if there
is no markup, or if it costs too much to process: nested too deeply, or with too much content in tables but outside
their cells. All other text is plain and must be escaped for display.

`extra.repeated` is null or `{by, uri, ref, service, node, item}`: who repeated the post (JID or null), the URI of the
original (link `via`), its atom:id, and the parts of an `xmpp:` URI.
`extra.attachments` is a list of `{url, sources: [{url}], media_type, desc, size, external}`. `size` is in bytes or
null. `external` is true for a reference (link `related`), false for an enclosure. `extra.alt_links` is a list of
`{url, media_type}`: other locations of the post (link `alternate`) and external content (`src` of atom:content).
`extra.pictures` is a list of the URLs of enclosures that are pictures; an entry of a gallery (XEP-0472, 5.3) has at
least one. No link has a scheme that can run a script.

`reply` is `{ref, href, media_type, source, uri, service, node, item, others}`: the atom:id replied to; its first URL
with the media type and the feed; its `xmpp:` URI and the parts of that URI; and a list of further atom:ids replied to.

**Authorship.** The name and the e-mail address are claims of the entry. `author_jid_verified` is true if the service
reports `author_jid` as the publisher of the item (XEP-0277, 9.1). It is false if the publisher is someone else, as for
a repeated post, or unknown. There is one exception: in a PEP node only the owner may publish by default, so the owner
is taken as the publisher of entries that name the owner as their author. This does not apply to comments nodes, to
which others publish.

An unreadable field is null and does not affect the others. At most 1000 elements of each name are read.
"""

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.exceptions import ParseError
from pubsubcache.parsers import dates, elements, geoloc, uris
from pubsubcache.parsers.atom import author, child_text, children, tags, text_construct
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import attribute, integer, language, raw_attribute, text_of
from pubsubcache.parsers.encrypted import unless_encrypted
from pubsubcache.parsers.html import ATOM
from pubsubcache.parsers.text import clean, storable

COMMENTS_PREFIX = "urn:xmpp:microblog:0:comments/"
THREAD = "http://purl.org/syndication/thread/1.0"

_PICTURE = re.compile(r"[^?#]+\.(?:avif|gif|jpe?g|png|svg|webp)(?:[?#].*)?", re.IGNORECASE | re.DOTALL)


def is_comments_node(name: str) -> bool:
    """Return whether a node name denotes a comments node (XEP-0277, 3.1)."""
    return name.startswith(COMMENTS_PREFIX)


@unless_encrypted
def parse_entry(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse the Atom entry of an item to the schema in the module docstring.

    Encrypted items are described by `pubsubcache.parsers.encrypted` instead.

    Args:
        item: The `<item/>` element, in the namespace of pubsub or of pubsub events.
        context: Where the item comes from.

    Raises:
        ParseError: The item does not contain an Atom entry.
    """
    entry = _entry(item)
    service, node = storable(context.service), storable(context.node)
    item_id = raw_attribute(item, "id")
    updated = dates.normalise(child_text(entry, "updated"))
    return {
        "id": item_id,
        "atom_id": child_text(entry, "id") or "",
        "service": service,
        "node": node,
        "uri": uris.item_uri(service, node, item_id),
        "language": language(entry, *children(entry, "content"), *children(entry, "title"), item),
        **_texts(entry),
        "published": dates.normalise(child_text(entry, "published")) or updated,
        "updated": updated,
        **_authorship(entry, item, context),
        "tags": tags(entry),
        "comments": _comments(entry),
        "reply": _reply(entry),
        "geoloc": geoloc.place_in(entry),
        "generator": _generator(entry),
        "source": _source(entry),
        "extra": {
            "repeated": _repeated(entry, item, context),
            "attachments": _attachments(entry),
            "pictures": _pictures(entry),
            "alt_links": _alt_links(entry),
        },
    }


def _entry(item: Element) -> Element:
    """Return the Atom entry of an item. Raises `ParseError`."""
    entry = item.find(f"{{{ATOM}}}entry")
    if entry is not None:
        return entry
    if not len(item):
        raise ParseError("The item has no payload.")
    if item.find(f"{{{ATOM}}}feed") is not None:
        raise ParseError("The payload is an Atom feed, which describes the blog, not an Atom entry.")
    raise ParseError("The item does not contain an Atom entry.")


def _texts(entry: Element) -> dict[str, str | None]:
    title, summary, content = (text_construct(entry, name) for name in ("title", "summary", "content"))
    if content == (None, None):
        content = summary if summary != (None, None) else title
    texts = {"title": title, "summary": summary, "content": content}
    return {
        name + suffix: value for name, rich in texts.items() for suffix, value in zip(("", "_xhtml"), rich, strict=True)
    }


def _publisher(item: Element, context: ParseContext) -> str | None:
    """Return the bare JID of the publisher as reported by the service, or None."""
    return uris.bare(context.publisher) or uris.bare(item.get("publisher"))


def _owner(context: ParseContext) -> str | None:
    """Return the owner of a PEP node to which, judging by its name, only the owner publishes; else None."""
    service = uris.bare(context.service)
    if service is None or "@" not in service or is_comments_node(context.node):
        return None
    return service if context.sender is None or uris.bare(context.sender) == service else None


def _authorship(entry: Element, item: Element, context: ParseContext) -> dict[str, Any]:
    claimed = author(entry)
    publisher, owner = _publisher(item, context), _owner(context)
    if publisher:
        jid: str | None = claimed.jid or publisher
        verified = jid == publisher
    else:
        jid = claimed.jid or owner
        verified = claimed.jid is not None and claimed.jid == owner
    return {
        "author": claimed.name or (jid.partition("@")[0] if jid else None),
        "author_jid": jid,
        "author_jid_verified": verified,
        "author_email": claimed.email,
    }


def _links(entry: Element, *relations: str) -> Iterator[tuple[Element, str]]:
    """Yield the links with one of these relations and their URLs, without unsafe ones."""
    for element in children(entry, "link"):
        relation = (attribute(element, "rel") or "alternate").lower()
        url = uris.link(element.get("href"))
        if url is not None and relation in relations:
            yield element, url


def _comments(entry: Element) -> list[dict[str, str]]:
    found = {}
    for _, url in _links(entry, "replies"):
        target = uris.parse_xmpp(url)
        if target is not None and target.node is not None:
            found[target] = {"uri": url, "service": target.service, "node": target.node}
    return list(found.values())


def _attachments(entry: Element) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for element, url in _links(entry, "enclosure", "related"):
        found.setdefault(
            url,
            {
                "url": url,
                "sources": [{"url": url}],
                "media_type": attribute(element, "type"),
                "desc": attribute(element, "title"),
                "size": integer(element.get("length")),
                "external": (attribute(element, "rel") or "").lower() == "related",
            },
        )
    return list(found.values())


def _pictures(entry: Element) -> list[str]:
    """Return the URLs of pictures, recognised by the media type or else by the file extension."""
    found = []
    for element, url in _links(entry, "enclosure"):
        media_type = attribute(element, "type")
        if media_type.lower().startswith("image/") if media_type else _PICTURE.fullmatch(url):
            found.append(url)
    return list(dict.fromkeys(found))


def _alt_links(entry: Element) -> list[dict[str, str | None]]:
    elsewhere = ((element, uris.link(element.get("src"))) for element in children(entry, "content"))
    found: dict[str, dict[str, str | None]] = {}
    for element, url in chain(_links(entry, "alternate"), elsewhere):
        if url is not None:
            found.setdefault(url, {"url": url, "media_type": attribute(element, "type")})
    return list(found.values())


def _repeated(entry: Element, item: Element, context: ParseContext) -> dict[str, str | None] | None:
    """Return who repeated the post, and the original (XEP-0472, 4.5)."""
    for element, url in _links(entry, "via"):
        origin = uris.parse_xmpp(url)
        return {
            "by": _publisher(item, context) or _owner(context),
            "uri": url,
            "ref": attribute(element, "ref"),
            "service": origin.service if origin else None,
            "node": origin.node if origin else None,
            "item": origin.item if origin else None,
        }
    return None


def _reply(entry: Element) -> dict[str, Any] | None:
    """Return the post replied to. Several elements may refer to it, with its web and XMPP URIs."""
    replies = list(elements.children(entry, "in-reply-to", THREAD))
    if not replies:
        return None
    first = replies[0]
    ref = attribute(first, "ref")
    same = [element for element in replies if attribute(element, "ref") == ref]
    addresses = [url for element in same if (url := uris.link(element.get("href")))]
    xmpp = next(((url, target) for url in addresses if (target := uris.parse_xmpp(url))), None)
    others = dict.fromkeys(attribute(element, "ref") for element in replies)
    return {
        "ref": ref,
        "href": addresses[0] if addresses else None,
        "media_type": attribute(first, "type"),
        "source": uris.link(first.get("source")),
        "uri": xmpp[0] if xmpp else None,
        "service": xmpp[1].service if xmpp else None,
        "node": xmpp[1].node if xmpp else None,
        "item": xmpp[1].item if xmpp else None,
        "others": [other for other in others if other and other != ref],
    }


def _generator(entry: Element) -> dict[str, str | None] | None:
    element = entry.find(f"{{{ATOM}}}generator")
    if element is None:
        return None
    return {
        "name": text_of(element),
        "uri": uris.link(element.get("uri")),
        "version": clean(element.get("version")),
    }


def _source(entry: Element) -> dict[str, str | None] | None:
    element = entry.find(f"{{{ATOM}}}source")
    if element is None:
        return None
    urls = [url for _, url in _links(element, "alternate", "self")]
    return {
        "id": child_text(element, "id"),
        "title": text_construct(element, "title").text,
        "url": urls[0] if urls else None,
    }
