"""Parsers for blogs and comments: XEP-0277, XEP-0472, Atom (RFC 4287) and Atom threading (RFC 4685)."""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import atom, dates, elements, geoloc, uris
from pubsubcache.parsers.atom import APPLIED, COMMON, METADATA, THREAD, Link, Scope, child_text, children
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import attribute, integer, number, payload, raw_attribute
from pubsubcache.parsers.html import ATOM
from pubsubcache.parsers.schema import Key, Schema, one_of, reads
from pubsubcache.parsers.shapes import ABSOLUTE_LINK, DATE, INTEGER, NUMBER, WORDS, Shape, words
from pubsubcache.parsers.text import storable

COMMENTS_PREFIX = "urn:xmpp:microblog:0:comments/"
MEDIA = "http://search.yahoo.com/mrss/"

_PICTURE = re.compile(r"[^?#]+\.(?:avif|gif|jpe?g|png|svg|webp)(?:[?#].*)?", re.IGNORECASE | re.DOTALL)
_MEDIA_NAMES = ("content", "thumbnail")

#: What the key of a relation holds of a link, besides its URL.
_HELD = {
    "alternate": {"media_type"},
    "enclosure": {"media_type", "title", "length"},
    "related": {"media_type", "title", "length"},
    "via": {"ref"},
    "replies": set[str](),
}

_MEDIA_SHAPES = tuple(
    Shape(
        name,
        MEDIA,
        attributes={
            "url": ABSOLUTE_LINK,
            "type": WORDS,
            "medium": WORDS,
            "duration": NUMBER,
            **dict.fromkeys(("fileSize", "width", "height"), INTEGER),
            **APPLIED,
        },
        children=words("title", "description", once=True),
    )
    for name in _MEDIA_NAMES
)
ENTRY = Shape(
    "entry",
    ATOM,
    attributes=COMMON,
    children=(
        *METADATA,
        Shape("published", text=DATE, once=True),
        *atom.text_shapes("summary"),
        Shape(
            "content",
            attributes={"src": ABSOLUTE_LINK, "type": WORDS, **APPLIED},
            when=lambda one: (
                not len(one) and not (one.text or "").strip() and uris.absolute(one.get("src")) is not None
            ),
        ),
        *atom.text_shapes("content", src=ABSOLUTE_LINK),
        atom.SOURCE,
        Shape(
            "in-reply-to",
            THREAD,
            attributes={"ref": WORDS, "href": ABSOLUTE_LINK, "type": WORDS, "source": ABSOLUTE_LINK, **APPLIED},
        ),
        Shape("total", THREAD, text=INTEGER, once=True),
        geoloc.PLACE,
        *_MEDIA_SHAPES,
        Shape("group", MEDIA, attributes=APPLIED, children=_MEDIA_SHAPES),
    ),
)

_ADDRESS_KEYS = (
    Key("id", "text or null", "The item id."),
    Key("atom_id", "text", "The atom:id, or empty. It is not unique: a repeated post may keep that of the original."),
    Key("service", "text", "The service of the node."),
    Key("node", "text", "The name of the node."),
    Key("uri", "text", "The `xmpp:` URI of the item, percent-encoded."),
)
_AUTHOR_KEYS = (
    Key(
        "author",
        "text or null",
        "The name of the author who decides: the first one with a JID; if none has one, the first; without any, the"
        " author of atom:source by the same rule. Without a name, the localpart of `author_jid`.",
    ),
    Key(
        "author_jid",
        "JID or null",
        "The JID of that author. Without one, the publisher; if the service does not report the publisher, the owner of"
        " a PEP node, but not of a comments node.",
    ),
    Key(
        "author_jid_verified",
        "true or false",
        "Whether the service confirms `author_jid` by reporting it as the publisher (XEP-0277, 9.1). If the service"
        " does not report the publisher, the owner of a PEP node counts as the publisher of items that name the owner"
        " as their author, except in comments nodes. Name and e-mail address are never confirmed.",
    ),
    Key("author_email", "text or null", "The e-mail address of that author, as the item claims."),
    Key(
        "authors",
        "list of objects",
        "All authors, each `{name, email, jid, uri}`. `jid` is that of an `xmpp:` URI, `uri` is a web address.",
    ),
    Key("contributors", "list of objects", "Other people involved, like `authors`."),
)
_CATEGORY_KEYS = (
    Key("tags", "list of text", "The terms of the categories, trimmed, each once; the label where there is no term."),
    Key(
        "categories",
        "list of objects",
        "The categories, each `{term, scheme, label}`: `scheme` is the URI of a vocabulary, `label` is for display.",
    ),
)
_COMMON_KEYS = (
    Key("generator", "object or null", "The software: `{name, uri, version}`."),
    Key("icon", "link or null", "A small square picture."),
    Key("logo", "link or null", "A larger picture, twice as wide as high."),
)
_LINK_KEYS = (
    "`{rel, url, media_type, title, language, length, description, logo, ref, count, updated}`: `rel` is the relation,"
    " `language` that of the target, `length` in bytes, `logo` the URL of a picture, `ref` an atom:id; `count` and"
    " `updated` tell how many replies are there, and when the last one came (RFC 4685)."
)


def _text_keys(name: str, text: str, markup: str) -> tuple[Key, Key]:
    return Key(name, "text or null", text), Key(f"{name}_xhtml", "markup or null", markup)


POSTS = Schema(
    title="Blog posts and comments",
    about="Posts of blogs and comments on anything: Atom entries (RFC 4287) as in XEP-0277 and XEP-0472, with replies"
    " of RFC 4685 and places of XEP-0080.",
    payloads=(ENTRY,),
    keys=(
        *_ADDRESS_KEYS,
        Key(
            "language",
            "text or null",
            "The xml:lang of the entry; without one, the language that was chosen, see below.",
        ),
        *_text_keys("title", "The title as plain text. Many posts have nothing else.", "The title as markup."),
        *_text_keys("summary", "The summary as plain text.", "The summary as markup."),
        *_text_keys(
            "content",
            "The content as plain text. Without one, the summary; without that, the title.",
            "The same as markup.",
        ),
        *_text_keys("rights", "The copyright or licence as plain text.", "The copyright or licence as markup."),
        Key(
            "translations",
            "list of objects",
            "All texts, if there are several languages or repeated elements, else empty; those above come first. Each"
            " is `{language, title, title_xhtml, summary, summary_xhtml, content, content_xhtml, rights,"
            " rights_xhtml}`.",
        ),
        Key("published", "date or null", "When it was first published. Without a date, `updated`."),
        Key("updated", "date or null", "When it was last changed."),
        *_AUTHOR_KEYS,
        *_CATEGORY_KEYS,
        Key("comments", "list of objects", "Comments nodes (links `replies`), each `{uri, service, node}`."),
        Key("replies_total", "number or null", "How many replies there are (thr:total)."),
        Key(
            "reply",
            "object or null",
            "The post that this one replies to: `{ref, href, media_type, source, uri, service, node, item, others}`."
            " `ref` is its atom:id, `href` its first URL, `media_type` and `source` are its type and feed as given"
            " first, `uri` is its `xmpp:` URI with the parts, `others` lists the atom:ids of further posts.",
        ),
        Key(
            "in_reply_to",
            "list of objects",
            "All elements thr:in-reply-to, each `{ref, href, media_type, source}`. Several may refer to the same post.",
        ),
        Key("geoloc", "object or null", "Where it was written, a [place](#places)."),
        *_COMMON_KEYS,
        Key(
            "source",
            "object or null",
            "The feed it was copied from (atom:source): `id`, the atom:id; `url`, its first link `alternate` or `self`;"
            " and `language`, `title`, `title_xhtml`, `subtitle`, `subtitle_xhtml`, `rights`, `rights_xhtml`,"
            " `translations`, `updated`, `authors`, `contributors`, `tags`, `categories`, `generator`, `icon`, `logo`"
            " and `links` as in [blogs](#blogs).",
        ),
        Key(
            "links",
            "list of objects",
            "The links that no other key has with all their attributes, in order. The URL may be relative. Each is "
            + _LINK_KEYS,
        ),
        Key(
            "media",
            "list of objects",
            "Pictures, sounds and films by Media RSS: `{kind, url, media_type, medium, size, width, height, duration,"
            " title, description}`. `kind` is `content` or `thumbnail`, `medium` such as image, `duration` in seconds.",
        ),
        Key("extra", "object", "What follows."),
        Key(
            "extra.repeated",
            "object or null",
            "Who repeated the post, and the original: `{by, uri, service, node, item, ref}`. `by` is a JID or null,"
            " `uri` the first link `via` with the parts of an `xmpp:` URI, and `ref` the atom:id.",
        ),
        Key(
            "extra.attachments",
            "list of objects",
            "Attached files (links `enclosure`) and references (links `related`), each"
            " `{url, sources, media_type, desc, size, external}`. `sources` is a list of `{url}`, `desc` the title,"
            " `size` in bytes, and `external` is true for a reference.",
        ),
        Key(
            "extra.pictures",
            "list of links",
            "The enclosures that are pictures. An entry of a gallery (XEP-0472, 5.3) has at least one.",
        ),
        Key(
            "extra.alt_links",
            "list of objects",
            "Other locations of the post (links `alternate`) and external content, each `{url, media_type}`.",
        ),
    ),
    notes="""\
**Markup** is one well-formed XHTML `<div>` that is already sanitised and safe to show in a page: it has no scripts,
styles, forms, frames or event handlers, only text with its structure, links and pictures. It is null if there is no
markup, or if it costs too much to process: nested too deeply, or with too much content in tables but outside their
cells. All other text is plain and must be escaped for display.

**Languages.** `title`, `summary`, `content` and `rights` are in the language of the entry (xml:lang, which elements
inherit). If no text is in that language, the language of the first content decides, else that of the first title,
summary or rights. What does not exist in this language is in the first one that has it. Text and markup of one key
always are in the same language.

**Links** are resolved against `xml:base` (RFC 3986) if that is an absolute URL with a host and has at most 250
characters. A link of the post that is still relative is only in `links`; any other relative address, such as that of an
icon, is in `rest`. Markup contains no relative links, because browsers would resolve them against the address of your
site. No link has a scheme that can run a script.

**Prefixes** of namespaces in attribute values and in text are kept as text. They cannot be resolved, because the cache
stores items in a normal form without declarations of prefixes.

Feeds of all profiles of XEP-0472 are recognised by their entries, whatever the name of the node. A synchronised node
has its profile in `extra["payload_type"]` if the service reports it. To find galleries:
`PubsubNode.objects.filter(extra__payload_type="urn:xmpp:pubsub-social-feed:gallery:1")`.
""",
)
BLOGS = Schema(
    title="Blogs",
    about="An item that describes its blog or comments node: an Atom feed without entries, usually with the item id 0"
    " (XEP-0277, 5).",
    payloads=(atom.FEED,),
    keys=(
        Key("feed", "true", 'Always: `.exclude(parsed__has_key="feed")` leaves the posts.'),
        *_ADDRESS_KEYS,
        Key(
            "language",
            "text or null",
            "The xml:lang of the feed; without one, the language that was chosen as for posts.",
        ),
        *_text_keys("title", "The title as plain text.", "The title as markup."),
        *_text_keys("subtitle", "A description as plain text.", "A description as markup."),
        *_text_keys("rights", "The copyright or licence as plain text.", "The copyright or licence as markup."),
        Key(
            "translations",
            "list of objects",
            "All texts, if there are several languages or repeated elements, else empty; those above come first. Each"
            " is `{language, title, title_xhtml, subtitle, subtitle_xhtml, rights, rights_xhtml}`.",
        ),
        Key("updated", "date or null", "When the blog was last changed."),
        *_AUTHOR_KEYS,
        *_CATEGORY_KEYS,
        *_COMMON_KEYS,
        Key(
            "start",
            "object or null",
            "The post that a comments node is about (first link `start`): `{uri, service, node, item, ref}`, as in"
            " `extra.repeated` of posts.",
        ),
        Key("links", "list of objects", "All links, in order. The URL may be relative. Each is " + _LINK_KEYS),
    ),
    notes="Markup, languages, links and prefixes are treated as in [blog posts](#blog-posts-and-comments).",
)


def is_comments_node(name: str) -> bool:
    """Return whether a node name denotes a comments node (XEP-0277, 3.1)."""
    return name.startswith(COMMENTS_PREFIX)


@reads(POSTS)
def parse_entry(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse the Atom entry of an item.

    Args:
        item: The `<item/>` element, in the namespace of pubsub or of pubsub events.
        context: Where the item comes from.

    Raises:
        ParseError: The item does not contain an Atom entry.
    """
    entry = payload(item, "entry", ATOM)
    scope = Scope().of(item).of(entry)
    texts = atom.texts(entry, scope, "title", "summary", "content", "rights", main="content")
    metadata = atom.metadata(entry, scope)
    links = atom.links(entry, scope)
    in_reply_to = [_in_reply_to(one, scope.of(one)) for one in elements.children(entry, "in-reply-to", THREAD)]
    attached, alternates = _by_url(links, "enclosure", "related"), _by_url(links, "alternate")
    origin = next(iter(_by_url(links, "via").values()), None)
    comments = _comments(links)
    kept = [*attached.values(), *alternates.values(), *comments.values(), *([origin] if origin else [])]
    repeater = _publisher(item, context) or _owner(context)
    return {
        **_address(item, entry, context),
        **texts,
        **_content(texts),  # instead of that in texts
        "published": dates.normalise(child_text(entry, "published")) or metadata["updated"],
        **metadata,
        **_authorship(item, entry, scope, context),
        "comments": [_target(link.url, "service", "node") for link in comments.values()],
        "replies_total": integer(elements.child_text(entry, "total", THREAD)),
        "reply": _reply(in_reply_to),
        "in_reply_to": in_reply_to,
        "geoloc": geoloc.place_in(entry),
        "source": _source(entry, scope),
        "links": _other_links(links, kept),
        "media": _media(entry, scope),
        "extra": {
            "repeated": None if origin is None else {"by": repeater, **_referred(origin)},
            "attachments": [_attachment(link) for link in attached.values()],
            "pictures": _pictures(links),
            "alt_links": _alt_links(alternates.values(), entry, scope),
        },
    }


@reads(BLOGS)
def parse_feed(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse the Atom feed of an item, which describes the node (XEP-0277, 5).

    Raises:
        ParseError: The item does not contain an Atom feed.
    """
    feed = payload(item, "feed", ATOM)
    scope = Scope().of(item).of(feed)
    start = next(iter(_by_url(atom.links(feed, scope), "start").values()), None)
    return {
        "feed": True,
        **_address(item, feed, context),
        **atom.feed(feed, scope),
        **_authorship(item, feed, scope, context),
        "start": None if start is None else _referred(start),
    }


@one_of(parse_entry, parse_feed)
def parse(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse an item of a blog or a comments node: a post, or the description of the node.

    Raises:
        ParseError: The item does not contain an Atom entry or feed.
    """
    has_feed = elements.child(item, "feed", ATOM) is not None
    is_feed = has_feed and elements.child(item, "entry", ATOM) is None
    return (parse_feed if is_feed else parse_entry)(item, context)


def _address(item: Element, element: Element, context: ParseContext) -> dict[str, str | None]:
    service, node, item_id = storable(context.service), storable(context.node), raw_attribute(item, "id")
    return {
        "id": item_id,
        "atom_id": child_text(element, "id") or "",
        "service": service,
        "node": node,
        "uri": uris.item_uri(service, node, item_id),
    }


def _content(texts: dict[str, Any]) -> dict[str, str | None]:
    """Return the content, or what stands in for it."""
    name = next((name for name in ("content", "summary") if texts[name] or texts[f"{name}_xhtml"]), "title")
    return {"content": texts[name], "content_xhtml": texts[f"{name}_xhtml"]}


def _publisher(item: Element, context: ParseContext) -> str | None:
    """Return the bare JID of the publisher as reported by the service, or None."""
    return uris.bare(context.publisher) or uris.bare(item.get("publisher"))


def _owner(context: ParseContext) -> str | None:
    """Return the owner of a PEP node to which, judging by its name, only the owner publishes; else None."""
    service = uris.bare(context.service)
    if service is None or "@" not in service or is_comments_node(context.node):
        return None
    return service if context.sender is None or uris.bare(context.sender) == service else None


def _authorship(item: Element, element: Element, scope: Scope, context: ParseContext) -> dict[str, Any]:
    claimed = atom.author(element, scope)
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


def _by_url(links: Iterable[Link], *relations: str) -> dict[str, Link]:
    """Return the links with one of these relations by their URL, without relative ones; of several, the first."""
    found: dict[str, Link] = {}
    for link in links:
        if link.rel in relations and uris.absolute(link.url):
            found.setdefault(link.url, link)
    return found


def _target(url: str | None, *parts: str) -> dict[str, str | None]:
    """Return a URL as `uri`, with these parts if it is an XMPP URI."""
    target = uris.parse_xmpp(url)
    return {"uri": url, **{part: getattr(target, part, None) for part in parts}}


def _referred(link: Link) -> dict[str, str | None]:
    return {**_target(link.url, "service", "node", "item"), "ref": link.ref}


def _comments(links: Iterable[Link]) -> dict[tuple[str, str | None], Link]:
    found: dict[tuple[str, str | None], Link] = {}
    for link in _by_url(links, "replies").values():
        target = uris.parse_xmpp(link.url)
        if target is not None and target.node is not None:
            found.setdefault((target.service, target.node), link)
    return found


def _attachment(link: Link) -> dict[str, Any]:
    return {
        "url": link.url,
        "sources": [{"url": link.url}],
        "media_type": link.media_type,
        "desc": link.title,
        "size": link.length,
        "external": link.rel == "related",
    }


def _pictures(links: Iterable[Link]) -> list[str]:
    """Return the URLs of pictures, recognised by the media type or else by the file extension."""
    found = (
        link.url
        for link in links
        if link.rel == "enclosure"
        and uris.absolute(link.url)
        and (link.media_type.lower().startswith("image/") if link.media_type else _PICTURE.fullmatch(link.url))
    )
    return list(dict.fromkeys(found))


def _alt_links(alternates: Iterable[Link], entry: Element, scope: Scope) -> list[dict[str, str | None]]:
    found = [(link.url, link.media_type) for link in alternates]
    for element in children(entry, "content"):
        url = uris.absolute(element.get("src"), scope.of(element).base)
        if url is not None:
            found.append((url, attribute(element, "type")))
    return [{"url": url, "media_type": media_type} for url, media_type in dict.fromkeys(found)]


def _other_links(links: Iterable[Link], kept: Iterable[Link]) -> list[dict[str, Any]]:
    """Return the links that have more to say than the keys of the links in `kept`."""
    holders = {(link.rel, link.url): link for link in kept}
    others = (link for link in links if not _is_held(link, holders.get((link.rel, link.url))))
    return [link.to_json() for link in dict.fromkeys(others)]


def _is_held(link: Link, holder: Link | None) -> bool:
    """Return whether the key of a link's relation, which describes `holder`, tells all of a link with the same URL."""
    if holder is None:
        return False
    if link.rel == "replies" and link.title == "comments":  # always, says XEP-0277
        link = replace(link, title=None)
    held = holder.to_json()
    return all(
        value is None or (name in _HELD[link.rel] and value == held[name])
        for name, value in link.to_json().items()
        if name not in ("rel", "url")
    )


def _in_reply_to(element: Element, scope: Scope) -> dict[str, str | None]:
    return {
        "ref": attribute(element, "ref"),
        "href": uris.absolute(element.get("href"), scope.base),
        "media_type": attribute(element, "type"),
        "source": uris.absolute(element.get("source"), scope.base),
    }


def _reply(replies: list[dict[str, str | None]]) -> dict[str, Any] | None:
    """Return the post replied to. Several elements may refer to it, with its web and XMPP URIs."""
    if not replies:
        return None
    first = replies[0]
    ref = first["ref"]
    addresses = [reply["href"] for reply in replies if reply["ref"] == ref and reply["href"]]
    xmpp = next((url for url in addresses if uris.parse_xmpp(url)), None)
    others = dict.fromkeys(reply["ref"] for reply in replies)
    return {
        **first,
        "href": addresses[0] if addresses else None,
        **_target(xmpp, "service", "node", "item"),
        "others": [other for other in others if other and other != ref],
    }


def _source(entry: Element, scope: Scope) -> dict[str, Any] | None:
    """Return the feed that an entry was copied from (RFC 4287, 4.2.11)."""
    element = elements.child(entry, "source", ATOM)
    if element is None:
        return None
    scope = scope.of(element)
    urls = _by_url(atom.links(element, scope), "alternate", "self")
    return {"id": child_text(element, "id"), "url": next(iter(urls), None), **atom.feed(element, scope)}


def _media(entry: Element, scope: Scope) -> list[dict[str, Any]]:
    """Return the pictures, sounds and films of an entry and of groups in it (Media RSS)."""
    found = []
    groups = [(group, scope.of(group)) for group in elements.children(entry, "group", MEDIA)]
    for parent, around in [(entry, scope), *groups]:
        for name in _MEDIA_NAMES:
            found += [_medium(one, around.of(one)) for one in elements.children(parent, name, MEDIA)]
    return found


def _medium(element: Element, scope: Scope) -> dict[str, Any]:
    return {
        "kind": elements.name_of(element),
        "url": uris.absolute(element.get("url"), scope.base),
        "media_type": attribute(element, "type"),
        "medium": attribute(element, "medium"),
        "size": integer(element.get("fileSize")),
        "width": integer(element.get("width")),
        "height": integer(element.get("height")),
        "duration": number(element.get("duration")),
        "title": elements.child_text(element, "title", MEDIA),
        "description": elements.child_text(element, "description", MEDIA),
    }
