"""Builds items with Atom entries, and checks the invariants of every parsed entry."""

import json
import re
import xml.etree.ElementTree as ET
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import ParseContext
from pubsubcache.parsers.html import ATTRIBUTES, TAGS
from pubsubcache.parsers.microblog import parse_entry

PUBSUB = "http://jabber.org/protocol/pubsub"
ATOM = "http://www.w3.org/2005/Atom"
XHTML = "http://www.w3.org/1999/xhtml"

PEP = ParseContext("mira@garden.example", "urn:xmpp:microblog:0")
SERVICE = ParseContext("pubsub.garden.example", "allotments")

KEYS = {
    *("id", "atom_id", "service", "node", "uri", "language", "title", "title_xhtml", "summary", "summary_xhtml"),
    *("content", "content_xhtml", "published", "updated", "author", "author_jid", "author_jid_verified"),
    *("author_email", "tags", "comments", "reply", "geoloc", "generator", "source", "extra"),
}
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")


def item(inner: str, attributes: str = "id='i1'", namespace: str = PUBSUB) -> Element:
    """Return an `<item/>` with an Atom entry that contains `inner`; the prefix `thr` is declared."""
    return ET.fromstring(
        f"<item xmlns='{namespace}' {attributes}>"
        f"<entry xmlns='{ATOM}' xmlns:thr='http://purl.org/syndication/thread/1.0'>{inner}</entry></item>"
    )


def parsed(inner: str, context: ParseContext = PEP, **how: str) -> dict[str, Any]:
    """Parse an entry that contains `inner`, and check the result."""
    result = parse_entry(item(inner, **how), context)
    check(result)
    return result


def check(result: dict[str, Any]) -> None:
    """Assert the invariants of every result."""
    assert set(result) == KEYS
    assert set(result["extra"]) == {"repeated", "attachments", "pictures", "alt_links"}
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    json.dumps(result, ensure_ascii=False).encode()
    check_texts(result)
    for key in ("atom_id", "service", "node", "uri"):
        assert isinstance(result[key], str)
    for key in ("published", "updated"):
        assert result[key] is None or DATE.fullmatch(result[key])
    for key in ("tags", "comments"):
        assert isinstance(result[key], list)
    assert result["author_jid_verified"] in (True, False)
    assert not result["author_jid_verified"] or result["author_jid"]
    for key in ("title_xhtml", "summary_xhtml", "content_xhtml"):
        if result[key] is not None:
            check_markup(result[key])


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
                assert re.match(r"(https?|ftps?|xmpp|mailto|tel|geo|magnet|gemini|gopher):", value, re.I), value
