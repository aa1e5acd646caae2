"""Decorators by which parsers declare what they read and return; docs/analysers.md is generated from their schemas.

A parser names its schema with the decorator `reads`. Everything in an item that the shapes of the schema do not
mention becomes `rest` of the parsed item.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers.context import ParseContext
from pubsubcache.parsers.elements import name_of, namespace_of
from pubsubcache.parsers.encrypted import is_encrypted, parse_encrypted
from pubsubcache.parsers.shapes import Key, Schema
from pubsubcache.utils.xmlform import PUBSUB, PUBSUB_EVENT, first_payload, normal_item, with_namespace

__all__ = ["Key", "Parse", "Schema", "described", "one_of", "reads", "schemas_of"]

Parse = Callable[[Element, ParseContext], dict[str, Any]]


def reads(schema: Schema) -> Callable[[Parse], Parse]:
    """Decorate a parser with its schema.

    Encrypted items go to `parse_encrypted` instead. Payloads without a namespace of their own get that of the schema.
    The parser gets an item with one payload that fits, unless its schema is for `several`. The result gets the keys
    `rest` and `rest_truncated`, see `shapes.rest_of`.
    """

    def decorate(parse: Parse) -> Parse:
        @wraps(parse)
        def parse_whole(item: Element, context: ParseContext) -> dict[str, Any]:
            element = first_payload(item)
            if element is not None and is_encrypted(element):
                return parse_encrypted(item, context)
            item = _declared(item, (schema,))
            return {**parse(_with_one(item, schema), context), **schema.rest(item)}

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
            return schema, schema.left_out(item)
    return None, []


def _with_one(item: Element, schema: Schema) -> Element:
    """Return `item` without all but the first of the payloads that fit; unchanged if the schema is for several."""
    surplus = {id(one) for one in [one for one in item if schema.fits(one)][1:]}
    if schema.several or not surplus:
        return item
    copy = Element(item.tag, item.attrib)
    copy.extend(one for one in item if id(one) not in surplus)
    return copy


def _declared(item: Element, schemas: tuple[Schema, ...]) -> Element:
    """Return `item` as a listing has it, with the namespaces of payloads that lack one, unless a payload has one.

    Some publishers, and some examples in XEPs, omit the declaration. The payload then is in no namespace, or in that of
    the listing or the notification around it.
    """
    if namespace_of(item) == PUBSUB_EVENT:
        item = normal_item(item)
    known = {shape.name: shape.namespace for schema in reversed(schemas) for shape in reversed(schema.payloads)}
    missing = {"", PUBSUB, PUBSUB_EVENT}
    if any(schema.fits(one) for schema in schemas for one in item):
        return item
    if not any(namespace_of(one) in missing and name_of(one) in known for one in item):
        return item
    copy = Element(item.tag, item.attrib)
    copy.text = item.text
    for one in item:
        namespace = namespace_of(one)
        changes = isinstance(one.tag, str) and namespace in missing and name_of(one) in known
        copy.append(with_namespace(one, namespace, known[name_of(one)]) if changes else one)
    return copy
