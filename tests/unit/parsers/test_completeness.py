"""Nothing of a payload is lost: each text and attribute is in the JSON, or its schema says that it is left out."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from random import Random
from typing import Any
from xml.etree.ElementTree import tostring

import pytest

from pubsubcache.analysers.builtin import builtin_analysers
from pubsubcache.exceptions import ParseError
from pubsubcache.parsers import ParseContext
from pubsubcache.parsers.html import ATOM
from pubsubcache.parsers.schema import Schema, described, schemas_of
from tests.examples import EXAMPLES, SERVICE, Example
from tests.selection import how_many
from tests.unit.parsers.corpus import Choice, Maker, Payload, missing, revealed, values_of
from tests.unit.parsers.mutations import mutate

PAYLOADS = how_many(25, 300)  # per analyser and schema
MUTATIONS = how_many(5, 200)  # per example
SCHEMAS = [
    pytest.param(analyser.name, schema, id=f"{analyser.name}-{schema.title}")
    for analyser in builtin_analysers()
    for schema in schemas_of(analyser.parser)
]
by_schema = pytest.mark.parametrize(("name", "schema"), SCHEMAS)


#: Names of elements that the JSON does not have, because they only tell the type of a value.
TYPES_OF_VALUES = re.compile(r"/vcard/.*\*/\*.* \(name\)")


def parser_of(name: str) -> Any:
    return next(analyser.parser for analyser in builtin_analysers() if analyser.name == name)


def contexts(name: str, schema: Schema) -> list[ParseContext]:
    """Return the contexts of the examples that have the schema."""
    examples = [example for example in EXAMPLES if example.analyser == name]
    return [one.context for one in examples if any(map(schema.fits, one.item))] or [ParseContext(SERVICE, "node")]


def parsed(name: str, schema: Schema) -> Iterator[tuple[Payload, ParseContext, dict[str, Any]]]:
    """Yield generated items of a schema with their context and JSON. Most of them can be parsed."""
    random = Random(f"{name} {schema.title}")
    maker, parse = Maker(random, schema), parser_of(name)
    outcomes: Counter[bool] = Counter()
    while sum(outcomes.values()) < PAYLOADS:
        payload, context = maker.item(), random.choice(contexts(name, schema))
        before = tostring(payload.item)
        try:
            found = json.loads(json.dumps(parse(payload.item, context), allow_nan=False))
        except ParseError:
            outcomes[False] += 1
            continue
        assert tostring(payload.item) == before
        if not found["rest_truncated"]:
            outcomes[True] += 1
            yield payload, context, found
    assert outcomes[True] > outcomes[False]


@by_schema
def test_every_value_is_in_the_json_or_left_out(name: str, schema: Schema) -> None:
    for payload, _, found in parsed(name, schema):
        lost = [place for place in missing(payload.values, found) if not TYPES_OF_VALUES.match(place)]
        assert lost == [], tostring(payload.item, encoding="unicode")
        assert revealed(payload.values, found) == [], tostring(payload.item, encoding="unicode")


@by_schema
def test_every_word_and_flag_makes_a_difference_in_the_json(name: str, schema: Schema) -> None:
    """Their values are not unique, so they cannot be looked for."""
    for payload, context, found in parsed(name, schema):
        for number, choice in enumerate(payload.choices[:10]):
            changed = deepcopy(payload)
            if not means_nothing(choice) and changed.choices[number].change():
                again = parser_of(name)(changed.item, context)
                assert again != found, f"{choice.path}: {tostring(payload.item, encoding='unicode')}"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_every_value_of_an_example_is_in_the_json_or_left_out(example: Example) -> None:
    schema, _ = described(parser_of(example.analyser), example.item)
    assert schema is not None
    assert missing(values_of(example.item, schema), example.parsed()) == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_every_value_of_a_damaged_example_is_in_the_json_or_left_out(example: Example) -> None:
    random, parse = Random(example.name), parser_of(example.analyser)
    for _ in range(MUTATIONS):
        item = example.item
        mutate(random, item)
        try:
            found = parse(item, example.context)
        except ParseError:
            continue
        schema, _ = described(parse, item)
        if schema is not None and not found["rest_truncated"]:
            assert missing(values_of(item, schema), found) == [], tostring(item, encoding="unicode")


def means_nothing(choice: Choice) -> bool:
    """Whether a choice describes a text that is not there."""
    is_type_of_text = choice.attribute == "type" and choice.element.tag.startswith(f"{{{ATOM}}}")
    return is_type_of_text and not choice.element.text


def test_there_are_enough_payloads() -> None:
    assert len(SCHEMAS) * PAYLOADS >= 1000
