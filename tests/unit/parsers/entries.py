"""Builds items with Atom entries, and checks the invariants of every parsed entry."""

import json
import re
import xml.etree.ElementTree as ET
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import ParseContext
from pubsubcache.parsers.html import ATTRIBUTES, TAGS
from pubsubcache.parsers.microblog import BLOGS, POSTS, parse
from pubsubcache.parsers.schema import Schema

PUBSUB = "http://jabber.org/protocol/pubsub"
ATOM = "http://www.w3.org/2005/Atom"
XHTML = "http://www.w3.org/1999/xhtml"

PEP = ParseContext("mira@garden.example", "urn:xmpp:microblog:0")
SERVICE = ParseContext("pubsub.garden.example", "allotments")

LISTS = {"tags", "categories", "authors", "contributors", "comments", "in_reply_to", "links", "media", "translations"}
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
ABSOLUTE = re.compile(r"(?:(?:https?|ftps?|gemini|gopher)://[^/\\]|(?:xmpp|mailto|tel|geo|magnet):)", re.IGNORECASE)


def item(inner: str, attributes: str = "id='i1'", namespace: str = PUBSUB, of: str = "entry", own: str = "") -> Element:
    """Return an `<item/>` with an Atom entry, or another element `of` Atom, that contains `inner`.

    `own` are the attributes of the entry. The prefix `thr` is declared.
    """
    return ET.fromstring(
        f"<item xmlns='{namespace}' {attributes}>"
        f"<{of} xmlns='{ATOM}' xmlns:thr='http://purl.org/syndication/thread/1.0' {own}>{inner}</{of}></item>"
    )


def parsed(inner: str, context: ParseContext = PEP, **how: str) -> dict[str, Any]:
    """Parse an entry that contains `inner`, and check the result."""
    result = parse(item(inner, **how), context)
    check(result)
    return result


def keys(schema: Schema, prefix: str = "") -> set[str]:
    """Return the documented keys, or those of the object `prefix`."""
    names = {key.name for key in schema.keys}
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix) and "." not in name[len(prefix) :]}


def check(result: dict[str, Any]) -> None:
    """Assert the invariants of every result."""
    assert set(result) == keys(BLOGS if "feed" in result else POSTS) | {"rest", "rest_truncated"}
    assert set(result.get("extra", {})) == (set() if "feed" in result else keys(POSTS, "extra."))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    json.dumps(result, ensure_ascii=False).encode()
    check_texts(result)
    for key in ("atom_id", "service", "node", "uri"):
        assert isinstance(result[key], str)
    for key in {"published", "updated"} & set(result):
        assert result[key] is None or DATE.fullmatch(result[key])
    for key in LISTS & set(result):
        assert isinstance(result[key], list)
    assert result["author_jid_verified"] in (True, False)
    assert not result["author_jid_verified"] or result["author_jid"]
    for text in (result, result.get("source") or {}, *result["translations"]):
        for key in {"title_xhtml", "summary_xhtml", "subtitle_xhtml", "content_xhtml", "rights_xhtml"} & set(text):
            if text[key] is not None:
                check_markup(text[key])
    check_links({key: value for key, value in result.items() if key not in ("rest", "geoloc")})


def check_links(value: Any, key: str = "") -> None:
    """Assert that links are absolute, except those in the list `links`."""
    if isinstance(value, dict):
        for name, inner in value.items():
            check_links([{**one, "url": None} for one in inner] if name == "links" else inner, name)
    elif isinstance(value, list):
        for inner in value:
            check_links(inner, key)
    elif key in {"url", "uri", "href", "source", "icon", "logo", "pictures"} and value is not None:
        assert ABSOLUTE.match(value), value


def check_texts(value: Any) -> None:
    """Assert that no text contains characters that a database rejects."""
    if isinstance(value, str):
        assert not FORBIDDEN.search(value)
    elif isinstance(value, dict):
        check_texts(list(value) + list(value.values()))
    elif isinstance(value, list):
        for one in value:
            check_texts(one)


def check_markup(markup: str) -> None:
    """Assert that markup is well-formed and has no active content."""
    root = ET.fromstring(markup)
    assert root.tag == "div"
    for element in root.iter():
        assert element.tag in TAGS, element.tag
        for name, value in element.attrib.items():
            assert name in ATTRIBUTES, name
            if name in {"href", "src", "cite"}:
                assert ABSOLUTE.match(value), value
