"""Implements the operators in SQL for PostgreSQL.

In a template, `{name}` is a placeholder for a template in `PARTS` or for a given piece of SQL with its parameters.
"""

import re
from collections.abc import Mapping
from typing import Any

from pubsubcache.lookups.conditions.operators import OPPOSITES
from pubsubcache.lookups.conditions.paths import Path
from pubsubcache.lookups.conditions.values import dumps

Piece = tuple[str, list[Any]]


def _folded(template: str) -> str:
    """Fold case like `values.folded`. ICU's root collation covers all scripts, whatever the database's collation."""
    return f'upper(lower({template} COLLATE "und-x-icu")) COLLATE "C"'


PARTS = {
    "field_text": "({field} #>> '{}')",
    "is_text": "jsonb_typeof({field}) = 'string'",
    "is_number": "jsonb_typeof({field}) = 'number'",
    "elements": (
        "jsonb_array_elements(CASE WHEN {field} IS NULL THEN '[]' WHEN jsonb_typeof({field}) = 'array' THEN {field} "
        "ELSE jsonb_build_array({field}) END) AS element"
    ),
    "values": "jsonb_array_elements({value}) AS element",
    "folded_element": (
        "CASE WHEN jsonb_typeof(element) = 'string' THEN to_jsonb({folded_element_text}) ELSE element END"
    ),
    "folded_element_text": _folded("(element #>> '{}')"),
    "folded_field": _folded("{field_text}"),
    "folded_text": _folded("{text}"),
}
TESTS = {
    "==": "{field} = {value}",
    "in": "{field} IN (SELECT element FROM {values})",
    "overlap": "EXISTS (SELECT 1 FROM {elements} WHERE element IN (SELECT element FROM {values}))",
    "ioverlap": ("EXISTS (SELECT 1 FROM {elements} WHERE {folded_element} IN (SELECT {folded_element} FROM {values}))"),
    "like": '{is_text} AND {field_text} COLLATE "C" LIKE {text}',
    "ilike": "{is_text} AND {folded_field} LIKE {folded_text}",
}
COMPARED_TEXT = '{is_text} AND {field_text} COLLATE "C" '
COMPARED_NUMBER = "{is_number} AND {field} "
NUMBER = (
    "CASE jsonb_typeof({field}) WHEN 'number' THEN {field_text}::numeric "
    "WHEN 'boolean' THEN {field_text}::boolean::int::numeric END"
)
TEXT = 'CASE WHEN {is_text} THEN {field_text} END COLLATE "C"'


def field_at(column: str, parameters: list[Any], path: Path) -> Piece:
    """Return SQL for the field at a path in a column, as jsonb."""
    for step in path:
        if isinstance(step, str):
            column, parameters = f"({column} -> %s::text)", [*parameters, step]
        else:  # strict mode: -> would treat a scalar as an array with one element
            place = str(step) if step >= 0 else f"last - {-step - 1}"
            column = f"jsonb_path_query_first({column}, %s::jsonpath, '{{}}', true)"
            parameters = [*parameters, f"strict $[{place}]"]
    return column, parameters


def render(template: str, pieces: Mapping[str, Piece]) -> Piece:
    """Replace all placeholders of a template; return the SQL and its parameters in order."""
    sql, parameters = "", []
    for place, part in enumerate(re.split(r"\{(\w+)\}", template)):
        piece, more = (part, []) if place % 2 == 0 else pieces.get(part) or render(PARTS[part], pieces)
        sql += piece
        parameters += more
    return sql, parameters


def matches(field: Piece, operator: str, value: Any) -> Piece:
    """Return the condition that a field matches an operator. It is true or false, but never null."""
    positive = OPPOSITES.get(operator, operator)
    pieces = {"field": field, "value": ("%s::jsonb", [dumps(value)]), "text": ("%s::text", [value])}
    if positive == "exists":
        template = "{field} IS NOT NULL" if value else "{field} IS NULL"
    elif positive == "between":
        pieces |= {"low": _bound(value[0]), "high": _bound(value[1])}
        template = f"{_compared(value[0])} BETWEEN {{low}} AND {{high}}"
    elif positive in TESTS:
        template = TESTS[positive]
    else:
        pieces["bound"] = _bound(value)
        template = f"{_compared(value)} {positive} {{bound}}"
    return render(f"({template}) IS {'TRUE' if positive == operator else 'NOT TRUE'}", pieces)


def _compared(value: Any) -> str:
    return COMPARED_TEXT if isinstance(value, str) else COMPARED_NUMBER


def _bound(value: Any) -> Piece:
    return ("%s::text", [value]) if isinstance(value, str) else ("%s::jsonb", [dumps(value)])
