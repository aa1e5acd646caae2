"""Parser for data forms (XEP-0004), including those published to nodes (XEP-0346)."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import (
    MAX_NAME,
    attribute,
    child,
    child_text,
    children,
    elements_of,
    flag,
    integer,
    language,
    payload,
    text_of,
    texts,
)
from pubsubcache.parsers.files import MEDIA_URI, media_uri
from pubsubcache.parsers.schema import Key, Schema, reads
from pubsubcache.parsers.shapes import FLAG, INTEGER, LANG, WORDS, Kind, Shape, matches, words
from pubsubcache.parsers.text import clean

DATA = "jabber:x:data"
VALIDATE = "http://jabber.org/protocol/xdata-validate"
LAYOUT = "http://jabber.org/protocol/xdata-layout"
MEDIA = "urn:xmpp:media-element"
TEMPLATES = "fdp/template/"
SUBMITTED = "fdp/submitted/"
MAX_SECTIONS = 5  # sections within each other

_ENTRIES = {"fieldref": "field", "reportedref": "reported"}  # names of elements -> types in the JSON
_METHODS = {f"{{{VALIDATE}}}{name}": name for name in ("basic", "open", "range", "regex")}
_PASSWORDS_STAY = "Passwords (fields of type text-private) stay in the item's XML."


def _name(text: str | None) -> str | None:
    name = clean(text)
    return name if name is not None and len(name) <= MAX_NAME else None


def is_private(field: Element) -> bool:
    """Return whether the values of a field are passwords."""
    return attribute(field, "type") == "text-private"


_NAME = Kind("name", _name)

#: A value of a field.
VALUE = Shape("value", text=WORDS, attributes={LANG: WORDS})

#: A field of a form, whose values are not passwords.
FIELD = Shape(
    "field",
    attributes={"var": _NAME, "type": WORDS, "label": WORDS},
    children=(
        *words("desc", once=True),
        Shape("required", once=True),
        VALUE,
        Shape("option", attributes={"label": WORDS}, children=words("value", once=True)),
        Shape(
            "media",
            MEDIA,
            attributes={"width": INTEGER, "height": INTEGER},
            children=(Shape("uri", text=MEDIA_URI, attributes={"type": WORDS}),),
        ),
        Shape(
            "validate",
            VALIDATE,
            attributes={"datatype": WORDS},
            children=(
                Shape("basic", once=True),
                Shape("open", once=True),
                Shape("range", attributes={"min": WORDS, "max": WORDS}, once=True),
                *words("regex", once=True),
                Shape("list-range", attributes={"min": INTEGER, "max": INTEGER}, once=True),
            ),
            once=True,
        ),
    ),
)
_CELL = Shape("field", attributes={"var": _NAME}, children=words("value"), when=lambda field: _var(field) is not None)
_FORM_TYPE = replace(
    FIELD,
    attributes={"var": _NAME, "type": WORDS.omitted("A FORM_TYPE is hidden by definition (XEP-0068).")},
    when=lambda field: _var(field) == "FORM_TYPE" and _is_plain_form_type(_described(field), _first(_given(field))),
)


def _secret(field: Shape) -> Shape:
    """Return the shape of a field whose values are left out."""
    others = tuple(one for one in field.children if one.name != "value")
    return replace(field, children=(Shape("value", left_out=_PASSWORDS_STAY), *others), when=is_private)


def _section(depth: int) -> Shape:
    """Return the shape of a part of a layout with `depth` levels of sections in it."""
    inner = (_section(depth - 1),) if depth else ()
    entries = (*words("text"), Shape("fieldref", attributes={"var": WORDS}), Shape("reportedref"), *inner)
    return Shape("section", attributes={"label": WORDS}, children=entries)


_ROW = Shape("item", children=(_secret(_CELL), _CELL))
_PAGE = replace(_section(MAX_SECTIONS), name="page", namespace=LAYOUT)

#: A data form, as a payload or within another one.
FORM = Shape(
    "x",
    DATA,
    attributes={"type": WORDS, LANG: WORDS},
    children=(
        *words("title", once=True),
        *words("instructions"),
        _FORM_TYPE,
        _secret(FIELD),
        FIELD,
        Shape("reported", children=(_secret(FIELD), FIELD), once=True),
        _ROW,
        _PAGE,
    ),
    once=True,
)

FORMS = Schema(
    title="Forms",
    about="Data forms (XEP-0004). Nodes of XEP-0346 with empty forms, `fdp/template/...`, have the subtype `template`, "
    "those with submitted forms, `fdp/submitted/...`, the subtype `submitted`.",
    payloads=(FORM,),
    keys=(
        Key("type", "text or null", "`form`, `submit`, `result` or `cancel`."),
        Key("form_type", "text or null", "FORM_TYPE (XEP-0068), which defines the names of the fields."),
        Key("title", "text or null", "The title."),
        Key("instructions", "list of text", "What to do with the form, for people."),
        Key("language", "text or null", "The language of the form's texts."),
        Key(
            "values",
            "object",
            'The values of each field by its name, always a list of text; booleans are "true" or "false". Of several '
            "fields of one name it has the first. Passwords are left out.",
        ),
        Key(
            "fields",
            "list of objects",
            "All fields in order, each `{var, type, label, desc, required, options, texts, media, validate, column}`. "
            "`options` is a list of `{label, value}`. `texts` are the values as given, each `{language, text}`. "
            "`media` is a list of `{width, height, uris}` (XEP-0221), and `uris` of `{uri, media_type}`. `validate` is "
            "null or `{datatype, method, min, max, regex, list_min, list_max}` (XEP-0122). `column` says that the "
            "field describes a column of the table in `items`.",
        ),
        Key(
            "items",
            "list of objects",
            "The rows of a table, each in the shape of `values`. Several fields of one name are one.",
        ),
        Key(
            "pages",
            "list of objects",
            "The layout (XEP-0141): pages as `{type, value, content}`, where `type` is `page`, `value` the label, and "
            "`content` a list of such objects: `text`, `field` (`value` is its name), `reported` (the table) and "
            "`section` (`value` is the label).",
        ),
    ),
    notes='`values` are lists even of a single value, so that one query fits all: `parsed__values__bed__0="roses"`. '
    "A FORM_TYPE that is only a value is not among the `fields`. The same object describes forms in events, tickets "
    "and attachments.",
)


@reads(FORMS)
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
    columns = () if reported is None else children(reported, "field", DATA)
    found = _values(fields)
    form_type = _first(found.pop("FORM_TYPE", []))
    described = chain((_described(field) for field in fields), (_described(field, True) for field in columns))
    return {
        "type": attribute(element, "type"),
        "form_type": form_type,
        "title": child_text(element, "title", DATA),
        "instructions": texts(children(element, "instructions", DATA)),
        "language": language(element),
        "values": found,
        "fields": [field for field in described if not _is_plain_form_type(field, form_type)],
        "items": [_row(row) for row in children(element, "item", DATA)],
        "pages": [_laid_out(page, _PAGE) for page in children(element, "page", LAYOUT)],
    }


def has_form(parent: Element) -> bool:
    """Return whether there is a data form among the children of `parent`."""
    return child(parent, "x", DATA) is not None


def form_in(parent: Element) -> dict[str, Any] | None:
    """Return the data form among the children of `parent`, or None."""
    element = child(parent, "x", DATA)
    return None if element is None else form(element)


def _values(fields: Iterable[Element]) -> dict[str, list[str]]:
    """Return the values of all named fields. Of several fields with the same name, the first is used."""
    found: dict[str, list[str]] = {}
    for field in fields:
        name = _var(field)
        if name is not None and not is_private(field):
            given = _given(field)
            if attribute(field, "type") == "boolean":
                given = [_boolean(text) for text in given]
            found.setdefault(name, given)
    return found


def _row(row: Element) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for field, shape in matches(row, _ROW):
        if shape is _CELL:
            is_boolean = attribute(field, "type") == "boolean"
            given = [_boolean(text) if is_boolean and FLAG.read(text) else text for text in _given(field)]
            found.setdefault(_var(field) or "", []).extend(given)
    return found


def _given(field: Element) -> list[str]:
    return [text_of(value) or "" for value in children(field, "value", DATA)]


def _first(texts: list[str]) -> str | None:
    return texts[0] if texts else None


def _boolean(text: str) -> str:
    return "true" if flag(text) else "false"


def _var(field: Element) -> str | None:
    name = attribute(field, "var")
    return name[:MAX_NAME] if name else None


def _described(field: Element, is_column: bool = False) -> dict[str, Any]:
    validate = child(field, "validate", VALIDATE)
    options = (
        (attribute(option, "label"), child_text(option, "value", DATA)) for option in children(field, "option", DATA)
    )
    return {
        "var": _var(field),
        "type": attribute(field, "type"),
        "label": attribute(field, "label"),
        "desc": child_text(field, "desc", DATA),
        "required": child(field, "required", DATA) is not None,
        "options": [{"label": label, "value": value} for label, value in options],
        "texts": [] if is_private(field) else _texts(field),
        "media": [_media(one) for one in children(field, "media", MEDIA)],
        "validate": None if validate is None else _validation(validate),
        "column": is_column,
    }


def _is_plain_form_type(field: dict[str, Any], form_type: str | None) -> bool:
    """Return whether a field says no more than `form_type`."""
    if field["var"] != "FORM_TYPE" or field["type"] not in {None, "hidden"}:
        return False
    texts = [] if form_type is None else [{"language": None, "text": form_type or None}]
    return field == {**_described(Element("field")), "var": "FORM_TYPE", "type": field["type"], "texts": texts}


def _texts(field: Element) -> list[dict[str, str | None]]:
    return [{"language": language(value), "text": text_of(value)} for value in children(field, "value", DATA)]


def _media(element: Element) -> dict[str, Any]:
    return {
        "width": integer(element.get("width")),
        "height": integer(element.get("height")),
        "uris": [
            {"uri": media_uri(text_of(uri)), "media_type": attribute(uri, "type")}
            for uri in children(element, "uri", MEDIA)
        ],
    }


def _validation(element: Element) -> dict[str, Any]:
    limits, count = (child(element, name, VALIDATE) for name in ("range", "list-range"))
    return {
        "datatype": attribute(element, "datatype"),
        "method": next((_METHODS[one.tag] for one in elements_of(element) if one.tag in _METHODS), None),
        "min": None if limits is None else attribute(limits, "min"),
        "max": None if limits is None else attribute(limits, "max"),
        "regex": child_text(element, "regex", VALIDATE),
        "list_min": None if count is None else integer(count.get("min")),
        "list_max": None if count is None else integer(count.get("max")),
    }


def _laid_out(element: Element, shape: Shape) -> dict[str, Any]:
    """Convert a page or an entry of one. The depth of the recursion is that of the shape."""
    value = next((attribute(element, name) for name in shape.attributes), None)
    return {
        "type": _ENTRIES.get(shape.name, shape.name),
        "value": value if shape.text is None else text_of(element),
        "content": [_laid_out(one, found) for one, found in matches(element, shape) if found is not None],
    }
