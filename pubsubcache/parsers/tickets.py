"""Parser for tickets and other lists of Libervia, which are submitted forms (XEP-0346) with well-known fields."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import dates, html, uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.dataform import DATA, values
from pubsubcache.parsers.elements import attribute, children, payload
from pubsubcache.parsers.encrypted import unless_encrypted
from pubsubcache.parsers.html import XHTML, Rich

_TEXTS = ("status", "type", "priority", "severity", "milestone")


@unless_encrypted
def parse_ticket(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a Libervia ticket.

    Raises:
        ParseError: The item does not contain a ticket.
    """
    fields = list(children(payload(item, "x", DATA), "field", DATA))
    given = values(fields)

    def first(name: str) -> str | None:
        return next((value for value in given.get(name, ()) if value), None)

    body = _body(fields)
    return {
        "title": first("title"),
        "body": body.text,
        "body_xhtml": body.xhtml,
        "published": dates.normalise(first("created")),
        "updated": dates.normalise(first("updated")),
        "author": first("author"),
        "author_email": first("author_email"),
        "author_jid": uris.bare_jid(first("author_jid")),
        "tags": _tags(given.get("labels", [])),
        **{name: first(name) for name in _TEXTS},
        "comments": _comments(given.get("comments_uri", [])),
        "values": {name: value for name, value in given.items() if name != "FORM_TYPE"},
    }


def _body(fields: list[Element]) -> Rich:
    """Return the body: either XHTML in the field or in one of its values, or lines of text as values."""
    field = next((field for field in fields if attribute(field, "var") == "body"), None)
    if field is None:
        return Rich(None, None)
    holders = [field, *children(field, "value", DATA)]
    for holder in holders:
        if (markup := holder.find(f"{{{XHTML}}}div")) is not None:
            return html.from_tree(markup)
    lines = values([field]).get("body", [])
    return Rich("\n".join(lines).strip() or None, None)


def _tags(labels: list[str]) -> list[str]:
    parts = labels[0].split(",") if len(labels) == 1 else labels
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _comments(addresses: list[str]) -> list[dict[str, str]]:
    found = {}
    for address in addresses:
        url = uris.link(address)
        target = uris.parse_xmpp(url)
        if url is not None and target is not None and target.node is not None:
            found[target] = {"uri": url, "service": target.service, "node": target.node}
    return list(found.values())
