"""Schemas document what parsers read and return; docs/analysers.md is generated from them.

A parser names its schema with the decorator `reads`. Everything in an item that the shapes of the schema do not
mention becomes `rest` of the parsed item.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import name_of, namespace_of
from pubsubcache.parsers.encrypted import is_encrypted, parse_encrypted
from pubsubcache.parsers.shapes import Shape, left_out_of, rest_of
from pubsubcache.utils.xmlform import PUBSUB, PUBSUB_EVENT, first_payload, with_namespace

Parse = Callable[[Element, ParseContext], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the parsed JSON: its name, its type and its meaning, both in words."""

    name: str
    type: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """What a parser reads and what it returns.

    Args:
        title: Heading of the documentation, such as "Moods".
        about: What the payload is, with the number of the XEP.
        payloads: Shapes of the payloads, each with its namespace. The first one is the current one.
        keys: The keys of the result, without `rest` and `rest_truncated`.
        notes: Further paragraphs of the documentation, in Markdown.
    """

    title: str
    about: str
    payloads: tuple[Shape, ...]
    keys: tuple[Key, ...]
    notes: str = ""

    def fits(self, payload: Element) -> bool:
        """Return whether an element is a payload of this schema."""
        return any(
            shape.name == name_of(payload) and shape.namespace == namespace_of(payload) for shape in self.payloads
        )

    def omissions(self) -> list[tuple[str, str]]:
        """Return the path and the reason of everything that is left out of the JSON, each once."""
        return list(dict.fromkeys(found for shape in self.payloads for found in shape.omissions()))


def reads(schema: Schema) -> Callable[[Parse], Parse]:
    """Decorate a parser with its schema.

    Encrypted items go to `parse_encrypted` instead. Payloads without a namespace of their own get that of the schema.
    The result gets the keys `rest` and `rest_truncated`, see `shapes.rest_of`.
    """

    def decorate(parse: Parse) -> Parse:
        @wraps(parse)
        def parse_whole(item: Element, context: ParseContext) -> dict[str, Any]:
            element = first_payload(item)
            if element is not None and is_encrypted(element):
                return parse_encrypted(item, context)
            item = _declared(item, (schema,))
            return {**parse(item, context), **rest_of(item, schema.payloads)}

        parse_whole.schemas = (schema,)  # type: ignore[attr-defined]
        return parse_whole

    return decorate


def one_of(*parsers: Parse) -> Callable[[Parse], Parse]:
    """Decorate a function that calls one of several `parsers`, depending on the item."""
    schemas = tuple(schema for parser in parsers for schema in schemas_of(parser))

    def decorate(choose: Parse) -> Parse:
        @wraps(choose)
        def parse_declared(item: Element, context: ParseContext) -> dict[str, Any]:
            return choose(_declared(item, schemas), context)

        parse_declared.schemas = schemas  # type: ignore[attr-defined]
        return parse_declared

    return decorate


def schemas_of(parser: object) -> tuple[Schema, ...]:
    """Return the schemas of a parser; an empty tuple if it declares none."""
    return getattr(parser, "schemas", ())


def described(parser: object, item: Element) -> tuple[Schema | None, list[tuple[str, str]]]:
    """Return the schema by which a parser reads an item, and what it leaves out of the JSON.

    Args:
        parser: The parser. One without a schema has none for any item.
        item: The `<item/>` element.

    Returns:
        The schema or None, and the path and the reason of everything in the item that is left out.
    """
    element = first_payload(item)
    schemas = schemas_of(parser)
    if schemas and element is not None and is_encrypted(element):
        schemas = schemas_of(parse_encrypted)
    item = _declared(item, schemas)
    for schema in schemas:
        if any(schema.fits(payload) for payload in item):
            return schema, left_out_of(item, schema.payloads)
    return None, []


def _declared(item: Element, schemas: tuple[Schema, ...]) -> Element:
    """Return `item` with the namespaces of payloads that lack one.

    Some publishers, and some examples in XEPs, omit the declaration. The payload then is in no namespace, or in that of
    the listing or the notification around it.
    """
    known = {shape.name: shape.namespace for schema in reversed(schemas) for shape in reversed(schema.payloads)}
    missing = {"", PUBSUB, PUBSUB_EVENT}
    if not any(namespace_of(one) in missing and name_of(one) in known for one in item):
        return item
    copy = Element(item.tag, item.attrib)
    copy.text = item.text
    for one in item:
        namespace = namespace_of(one)
        changes = isinstance(one.tag, str) and namespace in missing and name_of(one) in known
        copy.append(with_namespace(one, namespace, known[name_of(one)]) if changes else one)
    return copy
