"""JSON containment with the semantics of PostgreSQL's `@>`, on both databases.

An object contains another one if it has all its keys, with values that contain the other's values. A list contains
another one if each element of the other is contained in one of its elements, in any order. A string, number, boolean
or null contains its equal. At the top level, a list also contains each scalar that is one of its elements.

On SQLite, `json_each` lists the keys and values, which are compared with parameters, so no key becomes part of a JSON
path. Conditions on hot key columns and on the table of tags come first, because these are indexed.
"""

import json
import math
import re
from typing import Any

from django.db import models

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.lookups.hotkeys import KEYS, LENGTH, TAGS

MAX_DEPTH = 8
MAX_VALUES = 200
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")

Sql = tuple[str, tuple[Any, ...]]


def checked(value: Any) -> Any:
    """Validate a value for `Contains`.

    Returns:
        The value after a round trip through JSON.

    Raises:
        InvalidRequest: It is not JSON, has more than `MAX_VALUES` values or more than `MAX_DEPTH` levels.
    """
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest("The contained value must be JSON.") from None
    value = json.loads(text)
    level, count, depth = [value], 0, 0
    while level:
        count, depth = count + len(level), depth + 1
        if count > MAX_VALUES or depth > MAX_DEPTH:
            raise InvalidRequest(f"The contained value must have at most {MAX_VALUES} values and {MAX_DEPTH} levels.")
        level = [inner for outer in level for inner in _inner(outer)]
    return value


def _inner(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


class Contains(models.Func):
    """Condition that `parsed` contains a value, which must be validated with `checked`."""

    output_field = models.BooleanField()
    conditional = True

    def __init__(self, value: Any) -> None:
        super().__init__("parsed", "pk", *(f"parsed_{key}" for key in KEYS))
        self.value = value

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Sql:
        """Use `@>`, which has an index on `parsed`."""
        column, parameters = compiler.compile(self.source_expressions[0])
        if not _can_be_stored(self.value):
            return "FALSE", ()
        return f"{column} @> %s::jsonb", (*parameters, json.dumps(self.value))

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Sql:
        """Use `json_each`, after indexed conditions."""
        columns = [compiler.compile(source)[0] for source in self.source_expressions]
        if not _can_be_stored(self.value):
            return "0", ()
        first = [*self._indexed(*columns[1:])]
        return _all([*first, _in_document(columns[0], self.value)])

    def _indexed(self, pk: str, *hot: str) -> list[Sql]:
        """Return conditions that follow from containment and are indexed."""
        if not isinstance(self.value, dict):
            return []
        found: list[Sql] = [
            (f"{column} = %s", (self.value[key][:LENGTH],))
            for key, column in zip(KEYS, hot, strict=True)
            if isinstance(self.value.get(key), str)
        ]
        tags = self.value.get("tags")
        if isinstance(tags, list):
            in_tags = f"{pk} IN (SELECT item_id FROM {TAGS} WHERE tag = %s)"  # noqa: S608
            found += [(in_tags, (tag,)) for tag in tags if isinstance(tag, str)]
        return found


def _can_be_stored(value: Any) -> bool:
    """Return whether a stored document can contain `value`. Stored strings have neither NUL nor lone surrogates."""
    texts = [value] if isinstance(value, str) else list(value) if isinstance(value, dict) else []
    return not any(_UNSTORABLE.search(text) for text in texts if isinstance(text, str)) and all(
        map(_can_be_stored, _inner(value))
    )


def _all(conditions: list[Sql]) -> Sql:
    sql = " AND ".join(condition for condition, _ in conditions)
    return sql, tuple(parameter for _, parameters in conditions for parameter in parameters)


def _in_document(column: str, value: Any) -> Sql:
    """Return the condition that the document in `column` contains `value`."""
    kind = f"json_type({column})"
    if isinstance(value, dict | list):
        return _in_container(kind, column, value, 0)
    alone, parameters = _is_scalar(kind, f"json_extract({column}, '$')", value)
    among, more = _in_container(kind, column, [value], 0)
    return f"({alone} OR {among})", (*parameters, *more)


def _in_container(kind: str, source: str, value: Any, level: int) -> Sql:
    """Return the condition that the JSON in `source`, whose type is in `kind`, contains an object or a list.

    Values of other types are replaced by null, which has no elements, because `json_each` may fail on them. Redundant
    parentheses are omitted, because SQLite limits the depth of expressions.
    """
    wanted = "object" if isinstance(value, dict) else "array"
    if not value:
        return f"{kind} = '{wanted}'", ()
    name = f"e{level}"
    each = f"EXISTS (SELECT 1 FROM json_each(CASE {kind} WHEN '{wanted}' THEN {source} END) AS {name} WHERE "  # noqa: S608
    conditions: list[Sql] = []
    for key, inner in value.items() if isinstance(value, dict) else ((None, inner) for inner in value):
        is_key = [] if key is None else [(f"{name}.key = %s", (key,))]
        condition, parameters = _all([*is_key, _in_value(name, inner, level)])
        conditions.append((f"{each}{condition})", parameters))
    return _all(conditions)


def _in_value(name: str, value: Any, level: int) -> Sql:
    if isinstance(value, dict | list):
        return _in_container(f"{name}.type", f"{name}.value", value, level + 1)
    return _is_scalar(f"{name}.type", f"{name}.value", value)


def _is_scalar(kind: str, source: str, value: Any) -> Sql:
    """Return the condition that the JSON value in `source`, whose type is in `kind`, equals a scalar."""
    if value is None or isinstance(value, bool):
        return f"{kind} = '{ {None: 'null', True: 'true', False: 'false'}[value] }'", ()
    if isinstance(value, str):
        return f"{kind} = 'text' AND {source} = %s", (value,)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:  # SQLite reads it as a float
        value = float(value) if abs(value) < 1 << 1023 else math.copysign(math.inf, value)
    return f"{kind} IN ('integer', 'real') AND {source} = %s", (value,)
