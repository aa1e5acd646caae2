"""Parser for data forms (XEP-0004), including those published to nodes (XEP-0346)."""

from collections.abc import Iterable
from itertools import chain, islice
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import (
    MAX_ELEMENTS,
    MAX_NAME,
    attribute,
    child,
    child_text,
    children,
    flag,
    payload,
    text_of,
    texts,
)
from pubsubcache.parsers.encrypted import unless_encrypted

DATA = "jabber:x:data"
TEMPLATES = "fdp/template/"
SUBMITTED = "fdp/submitted/"


@unless_encrypted
def parse_form(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse a data form (XEP-0004).

    Raises:
        ParseError: The item does not contain a data form.
    """
    return form(payload(item, "x", DATA))


def form(element: Element) -> dict[str, Any]:
    """Convert an `<x xmlns="jabber:x:data"/>` element to JSON."""
    fields = list(children(element, "field", DATA))
    reported = child(element, "reported", DATA)
    rows = islice(children(element, "item", DATA), MAX_ELEMENTS)
    found = values(fields)
    return {
        "type": attribute(element, "type"),
        "form_type": next(iter(found.pop("FORM_TYPE", [])), None),
        "title": child_text(element, "title", DATA),
        "instructions": texts(children(element, "instructions", DATA)),
        "values": found,
        "fields": [_described(field) for field in chain(fields, _fields_of(reported)) if _var(field) != "FORM_TYPE"],
        "items": [values(_fields_of(row)) for row in rows],
    }


def form_in(parent: Element) -> dict[str, Any] | None:
    """Return the data form among the children of `parent`, or None."""
    element = child(parent, "x", DATA)
    return None if element is None else form(element)


def values(fields: Iterable[Element]) -> dict[str, list[str]]:
    """Return the values of all named fields. Of several fields with the same name, the first is used."""
    found: dict[str, list[str]] = {}
    for field in fields:
        name, kind = _var(field), attribute(field, "type")
        if name is not None and kind != "text-private":
            given = [text_of(value) or "" for value in children(field, "value", DATA)]
            if kind == "boolean":
                given = ["true" if flag(value) else "false" for value in given]
            found.setdefault(name, given)
    return found


def _fields_of(element: Element | None) -> Iterable[Element]:
    return () if element is None else children(element, "field", DATA)


def _var(field: Element) -> str | None:
    name = attribute(field, "var")
    return name[:MAX_NAME] if name else None


def _described(field: Element) -> dict[str, Any]:
    options = ((attribute(option, "label"), child_text(option, "value", DATA)) for option in _options(field))
    return {
        "var": _var(field),
        "type": attribute(field, "type"),
        "label": attribute(field, "label"),
        "desc": child_text(field, "desc", DATA),
        "required": child(field, "required", DATA) is not None,
        "options": [{"label": label, "value": value} for label, value in options],
    }


def _options(field: Element) -> Iterable[Element]:
    return children(field, "option", DATA)
