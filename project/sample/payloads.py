"""Builds the payloads of the sample as clients do."""

from datetime import datetime, timedelta
from urllib.parse import quote
from xml.etree.ElementTree import Element, SubElement

from project.sample.texts import Event, Post, Ticket
from pubsubcache.types import NodeAddress

ATOM = "http://www.w3.org/2005/Atom"
XHTML = "http://www.w3.org/1999/xhtml"


def _date(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def entry(post: Post, author: str, author_jid: str, address: NodeAddress, comments: NodeAddress | None) -> Element:
    """Build an Atom entry (XEP-0277, XEP-0472).

    Args:
        post: The post.
        author: Name of the author.
        author_jid: Bare JID of the author.
        address: Node of the entry.
        comments: Comments node of the entry, or None.
    """
    root = Element(f"{{{ATOM}}}entry")
    SubElement(root, f"{{{ATOM}}}title", {"type": "text"}).text = post.title
    SubElement(root, f"{{{ATOM}}}id").text = f"{address.uri};item={quote(post.id, safe='')}"
    SubElement(root, f"{{{ATOM}}}published").text = _date(post.published)
    SubElement(root, f"{{{ATOM}}}updated").text = _date(post.published)
    person = SubElement(root, f"{{{ATOM}}}author")
    SubElement(person, f"{{{ATOM}}}name").text = author
    SubElement(person, f"{{{ATOM}}}uri").text = f"xmpp:{author_jid}"
    if post.paragraphs:
        content = SubElement(root, f"{{{ATOM}}}content", {"type": "xhtml"})
        body = SubElement(content, f"{{{XHTML}}}div")
        for paragraph in post.paragraphs:
            SubElement(body, f"{{{XHTML}}}p").text = paragraph
    for tag in post.tags:
        SubElement(root, f"{{{ATOM}}}category", {"term": tag})
    if comments is not None:
        SubElement(root, f"{{{ATOM}}}link", {"rel": "replies", "title": "comments", "href": comments.uri})
    return root


def event(source: Event) -> Element:
    """Build a calendar event (XEP-0471)."""
    namespace, place = "urn:xmpp:calendar-events:0", "http://jabber.org/protocol/geoloc"
    root = Element(f"{{{namespace}}}event")
    SubElement(root, f"{{{namespace}}}name").text = source.title
    SubElement(root, f"{{{namespace}}}start").text = _date(source.start)
    SubElement(root, f"{{{namespace}}}end").text = _date(source.start + timedelta(hours=source.hours))
    SubElement(root, f"{{{namespace}}}description", {"type": "text"}).text = source.description
    for tag in source.tags:
        SubElement(root, f"{{{namespace}}}category", {"term": tag})
    location = SubElement(SubElement(root, f"{{{namespace}}}location"), f"{{{place}}}geoloc")
    SubElement(location, f"{{{place}}}locality").text = source.place
    return root


def ticket(source: Ticket, author_jid: str) -> Element:
    """Build a ticket, which is a submitted form (XEP-0346)."""
    namespace = "jabber:x:data"
    root = Element(f"{{{namespace}}}x", {"type": "submit"})
    date = _date(source.created)
    fields = {
        "title": (source.title,),
        "body": (source.body,),
        "author": (source.author.title(),),
        "author_jid": (author_jid,),
        "created": (date,),
        "updated": (date,),
        "labels": source.labels,
        "status": (source.status,),
        "priority": (source.priority,),
    }
    for name, values in fields.items():
        field = SubElement(root, f"{{{namespace}}}field", {"var": name})
        for value in values:
            SubElement(field, f"{{{namespace}}}value").text = value
    return root


def profile(name: str, jid: str) -> Element:
    """Build a profile (XEP-0292)."""
    namespace = "urn:ietf:params:xml:ns:vcard-4.0"
    root = Element(f"{{{namespace}}}vcard")
    texts = {"fn": name, "nickname": "alice", "note": "I grow beans, and explain them to computers."}
    for kind, value in texts.items():
        SubElement(SubElement(root, f"{{{namespace}}}{kind}"), f"{{{namespace}}}text").text = value
    SubElement(SubElement(root, f"{{{namespace}}}impp"), f"{{{namespace}}}uri").text = f"xmpp:{jid}"
    return root


def mood() -> Element:
    """Build a user mood (XEP-0107)."""
    namespace = "http://jabber.org/protocol/mood"
    root = Element(f"{{{namespace}}}mood")
    SubElement(root, f"{{{namespace}}}contented")
    SubElement(root, f"{{{namespace}}}text").text = "The apples are in."
    return root


def tune() -> Element:
    """Build a user tune (XEP-0118)."""
    namespace = "http://jabber.org/protocol/tune"
    root = Element(f"{{{namespace}}}tune")
    for name, value in {"artist": "The Village Band", "title": "March of the Frogs", "length": "194"}.items():
        SubElement(root, f"{{{namespace}}}{name}").text = value
    return root


def nick() -> Element:
    """Build a nickname (XEP-0172)."""
    root = Element("{http://jabber.org/protocol/nick}nick")
    root.text = "Alice of the Hedges"
    return root


def geoloc() -> Element:
    """Build a user location (XEP-0080)."""
    namespace = "http://jabber.org/protocol/geoloc"
    root = Element(f"{{{namespace}}}geoloc")
    for name, value in {"lat": "48.2015", "lon": "16.3695", "locality": "the garden", "accuracy": "20"}.items():
        SubElement(root, f"{{{namespace}}}{name}").text = value
    return root


def bookmark(name: str, nickname: str = "") -> Element:
    """Build the bookmark of a room (XEP-0402), which is also how a space lists its rooms (XEP-0503)."""
    namespace = "urn:xmpp:bookmarks:1"
    root = Element(f"{{{namespace}}}conference", {"name": name, "autojoin": "true"})
    if nickname:
        SubElement(root, f"{{{namespace}}}nick").text = nickname
    return root
