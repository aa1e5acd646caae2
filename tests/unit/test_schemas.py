"""Test that the documented schemas match the results of the built-in analysers."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest

from docs.generate import PAGE, examples, generated, schemas
from pubsubcache.analysers import builtin
from pubsubcache.analysers.builtin import builtin_analysers
from pubsubcache.parsers import ParseContext, conversion
from pubsubcache.parsers.generic import parse_any
from pubsubcache.parsers.schema import Schema, schemas_of
from tests.examples import EXAMPLES
from tests.unit.test_docs import page, rows, section, tokens

JSON_TYPES = {
    "text": str, "date": str, "link": str, "JID": str, "markup": str, "number": int | float, "true or false": bool,
    "true": bool, "object": dict, "file": dict, "null": type(None), "list": list,
}  # fmt: skip
REST = {"rest", "rest_truncated"}
by_schema = pytest.mark.parametrize("schema", schemas(), ids=lambda schema: schema.title)


@cache
def parsed_examples(schema: Schema) -> list[dict[str, Any]]:
    return [example.parsed() for example in examples(schema)]


def documented(title: str) -> dict[str, str]:
    """Return the keys of the table in a section, with their types."""
    found = [row for row in rows(section("docs/analysers.md", title)) if row[0].strip("| ").startswith("`")]
    return {key: row[1] for row in found for key in re.findall(r"`([\w.]+)`", row[0])}


def all_keys(data: Any, *free: str) -> set[str]:
    """Return all keys in JSON data, except those of objects named in `free`, whose keys users choose."""
    if isinstance(data, dict):
        inner = [all_keys(value, *free) for key, value in data.items() if key not in free]
        return set(data).union(*inner)
    return {key for value in data for key in all_keys(value, *free)} if isinstance(data, list) else set()


def test_the_page_is_up_to_date() -> None:
    text = PAGE.read_text()
    assert generated(text) == text, "run make docs"


def test_every_parser_has_schemas_and_every_example_has_one() -> None:
    for analyser in builtin_analysers():
        assert schemas_of(analyser.parser), analyser.name
    shown = [example.name for schema in schemas() for example in examples(schema)]
    assert sorted(shown) == sorted(example.name for example in EXAMPLES)


def test_titles_of_schemas_are_unique() -> None:
    titles = [schema.title for schema in schemas()]
    assert sorted(set(titles)) == sorted(titles)


def test_every_analyser_says_why_its_nodes_are_cached_or_not() -> None:
    for analyser in builtin_analysers():
        assert re.fullmatch(r"[A-Z].+\.", analyser.why), analyser.name


@by_schema
def test_every_key_of_a_schema_is_documented(schema: Schema) -> None:
    names = {key.name for key in schema.keys}
    assert parsed_examples(schema)
    for parsed in parsed_examples(schema):
        assert {name for name in names if "." not in name} | REST == set(parsed)
        for outer in {name.partition(".")[0] for name in names if "." in name}:
            assert {name.partition(".")[2] for name in names if name.startswith(f"{outer}.")} == set(parsed[outer])


@by_schema
def test_every_key_within_a_schema_is_documented(schema: Schema) -> None:
    known = set(re.findall(r"\w+", " ".join(tokens(with_linked(schema.title)))))
    for parsed in parsed_examples(schema):
        assert all_keys(parsed, *NAMED_BY_USERS, *REST) <= known | REST


#: Keys of objects that have keys of their own choice.
NAMED_BY_USERS = {"values", "items", "attributes", "parameters", "extra"}


def with_linked(title: str) -> str:
    """Return the section of a schema and those that it links to."""
    titles = {schema.title.lower().replace(" ", "-"): schema.title for schema in schemas()}
    found, waiting = "", [title]
    seen = set()
    while waiting:
        if (title := waiting.pop()) not in seen:
            seen.add(title)
            text = section("docs/analysers.md", title)
            found += text
            waiting += [titles[anchor] for anchor in re.findall(r"\]\(#([\w-]+)\)", text) if anchor in titles]
    return found


@by_schema
def test_the_types_of_a_schema_are_those_of_its_values(schema: Schema) -> None:
    for key in schema.keys:
        allowed = [JSON_TYPES[word] for word in kinds(key.type)]
        values = [value_at(parsed, key.name) for parsed in parsed_examples(schema)]
        for value in values:
            assert any(isinstance(value, kind) for kind in allowed), (key, value)
        assert any(value not in (None, [], {}) for value in values), f"{key.name} is never shown"


def kinds(words: str) -> list[str]:
    """Return the types in a cell, such as "text or null"."""
    if words in JSON_TYPES:
        return [words]
    return ["list" if word.startswith("list of ") else word for word in words.split(" or ")]


def value_at(parsed: Any, path: str) -> Any:
    for key in path.split("."):
        parsed = parsed[key]
    return parsed


def test_any_xml_is_documented() -> None:
    parsed = parse_any(fromstring("<item><a/></item>"), ParseContext("s", "n"))
    text = section("docs/analysers.md", "Any XML")
    assert set(documented("Any XML")) == set(parsed)
    assert all_keys(parsed) <= set(re.findall(r"\w+", " ".join(tokens(text))))
    bounds = {str(value) for name, value in vars(conversion).items() if name.startswith("MAX_") and name != "MAX_NAME"}
    assert bounds <= set(re.findall(r"\d+", text))


def test_every_subtype_of_a_built_in_analyser_is_documented() -> None:
    source = Path(builtin.__file__).read_text()
    subtypes = {
        node.value
        for assignment in ast.walk(ast.parse(source))
        if isinstance(assignment, ast.Assign) and ast.unparse(assignment.targets[0]) == "analysis.subtype"
        for node in ast.walk(assignment.value.body if isinstance(assignment.value, ast.IfExp) else assignment.value)
        if isinstance(node, ast.Constant)
    }
    assert len(subtypes) > 5
    assert subtypes <= tokens(page("docs/analysers.md"))
