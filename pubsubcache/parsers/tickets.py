"""Parser for tickets and other lists of Libervia, which are submitted forms (XEP-0346) with well-known fields."""

from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import dates, html, uris
from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.dataform import DATA, FORM, form, is_private
from pubsubcache.parsers.elements import attribute, children, payload
from pubsubcache.parsers.html import XHTML, Rich
from pubsubcache.parsers.schema import Key, Schema, reads

_TEXTS = {
    "status": "Such as `queued` or `closed`.",
    "type": "Such as `bug` or `feature request`.",
    "priority": "How urgent it is.",
    "severity": "How bad it is.",
    "milestone": "The release or date that it is planned for.",
}

TICKETS = Schema(
    title="Tickets",
    about="Tickets and other lists of Libervia: submitted forms (XEP-0346) with fields of agreed names. Keys have the "
    "names of those of the microblog if they mean the same.",
    payloads=(FORM,),
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
    """Return the body: either XHTML in the field or in one of its values, or lines of text as values."""
    fields = (field for field in children(element, "field", DATA) if attribute(field, "var") == "body")
    field = next((field for field in fields if not is_private(field)), Element("field"))
    for holder in (field, *children(field, "value", DATA)):
        if (markup := holder.find(f"{{{XHTML}}}div")) is not None:
            return html.from_tree(markup)
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
