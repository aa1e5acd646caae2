"""Parser for tickets and other lists of Libervia, which are submitted forms (XEP-0346) with well-known fields."""

from dataclasses import replace
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import dates, html, uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.dataform import DATA, FIELD, FORM, VALUE, form, is_private
from pubsubcache.parsers.elements import attribute, child, children, payload
from pubsubcache.parsers.html import XHTML, Rich
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import Shape

_TEXTS = {
    "status": "Such as `queued` or `closed`.",
    "type": "Such as `bug` or `feature request`.",
    "priority": "How urgent it is.",
    "severity": "How bad it is.",
    "milestone": "The release or date that it is planned for.",
}


def _is_body(field: Element) -> bool:
    return attribute(field, "var") == "body" and not is_private(field)


def _markup(field: Element) -> list[Element]:
    """Return the elements with markup in a field or in its values."""
    holders = (field, *children(field, "value", DATA))
    return [found for holder in holders if (found := child(holder, "div", XHTML)) is not None]


_MARKUP = Shape("div", XHTML, whole=True, once=True)
_BODY = replace(
    FIELD,
    children=(_MARKUP, replace(VALUE, children=(_MARKUP,)), *(one for one in FIELD.children if one != VALUE)),
    once=True,
    when=lambda field: _is_body(field) and len(_markup(field)) == 1,
)

TICKETS = Schema(
    title="Tickets",
    about="Tickets and other lists of Libervia: submitted forms (XEP-0346) with fields of agreed names. Keys have the "
    "names of those of the microblog if they mean the same.",
    payloads=(replace(FORM, children=(_BODY, *FORM.children)),),
    keys=(
        Key("title", "text or null", "Field `title`."),
        Key("body", "text or null", "Field `body` as plain text."),
        Key("body_xhtml", "markup or null", "The same, sanitised."),
        Key("published", "date or null", "Field `created`."),
        Key("updated", "date or null", "Field `updated`."),
        Key("author", "text or null", "Field `author`. Like the next two, it is a claim of who submitted the form."),
        Key("author_email", "text or null", "Field `author_email`."),
        Key("author_jid", "JID or null", "Field `author_jid`."),
        Key("tags", "list of text", "Field `labels`: its values, or the parts of a single one between commas."),
        *(Key(name, "text or null", meaning) for name, meaning in _TEXTS.items()),
        Key("comments", "list of objects", "Nodes for comments, from field `comments_uri`: `{uri, service, node}`."),
        Key("values", "object", "The values of all fields, as in a [form](#forms)."),
        Key("form", "object", "The whole [form](#forms)."),
    ),
)


@reads(TICKETS)
def parse_ticket(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a Libervia ticket.

    Raises:
        ParseError: The item does not contain a ticket.
    """
    element = payload(item, "x", DATA)
    submitted = form(element)
    given: dict[str, list[str]] = submitted["values"]

    def first(name: str) -> str | None:
        return next((value for value in given.get(name, ()) if value), None)

    body = _body(element, given.get("body", []))
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
        "values": given,
        "form": submitted,
    }


def _body(element: Element, lines: list[str]) -> Rich:
    """Return the body: either XHTML in a field or in one of its values, or lines of text as values."""
    found = [_markup(field) for field in children(element, "field", DATA) if _is_body(field)]
    # Shapes only describe a field with one piece of markup.
    markup = next((one for one in found if len(one) == 1), found[0] if found else [])
    return html.from_tree(markup[0]) if markup else Rich("\n".join(lines).strip() or None, None)


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
