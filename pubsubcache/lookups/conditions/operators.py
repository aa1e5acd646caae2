"""Defines the operators of searches in parsed data: their names, accepted values and meaning.

The meaning is defined in Python, which SQLite calls; `postgresql` implements it in SQL. Each item, including those
without the field, matches either an operator or its opposite, such as `==` and `!=`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.lookups.conditions.paths import MISSING
from pubsubcache.lookups.conditions.values import (
    dumps,
    folded,
    folded_value,
    frozen,
    is_number,
    like_matcher,
    like_pattern,
)

Test = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator.

    Attributes:
        name: Canonical name.
        clean: Validates and converts a given value. Raises `InvalidRequest`.
        test: Takes a cleaned value and returns a function that tests a field.
        negated: Whether the operator matches the fields that fail the test.
        ordered: Whether the operator also accepts time patterns.
        textual: Whether the operator only accepts strings.
    """

    name: str
    clean: Callable[[str, Any], Any]
    test: Callable[[Any], Test]
    negated: bool = False
    ordered: bool = False
    textual: bool = False

    def matcher(self, value: Any) -> Test:
        """Return a function that tests whether a field, or `MISSING`, matches a cleaned value."""
        test = self.test(value)
        return (lambda field: not test(field)) if self.negated else test


# Validation of values


def _anything(name: str, value: Any) -> Any:
    return value


def _nothing(name: str, value: Any) -> Any:
    return value is not False


def _comparable(name: str, value: Any) -> Any:
    if not isinstance(value, str) and not is_number(value):
        raise InvalidRequest(f"{name} needs a number or a string, got {_shown(value)}.")
    return value


def _two(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list) or len(value) != 2:
        raise InvalidRequest(f"{name} needs an array of two values such as [1, 5], got {_shown(value)}.")
    if isinstance(_comparable(name, value[0]), str) != isinstance(_comparable(name, value[1]), str):
        raise InvalidRequest(f"{name} needs two numbers or two strings, got {_shown(value)}.")
    return value


def _array(name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise InvalidRequest(f'{name} needs an array such as ["a", "b"], got {_shown(value)}.')
    return value


def _wrapped(name: str, value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _pattern(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} needs a string, got {_shown(value)}.")
    return like_pattern(value)


def _shown(value: Any) -> str:
    return dumps(value)[:50]


# Meaning of operators


def _exists(value: bool) -> Test:
    return lambda field: (field is not MISSING) is value


def _equal(value: Any) -> Test:
    wanted = frozen(value)
    return lambda field: frozen(field) == wanted


def _in(value: list[Any]) -> Test:
    wanted = {frozen(one) for one in value}
    return lambda field: frozen(field) in wanted


def _compared(compare: Callable[[Any, Any], bool]) -> Callable[[Any], Test]:
    return lambda value: lambda field: _same_kind(field, value) and compare(field, value)


def _same_kind(field: Any, value: Any) -> bool:
    return isinstance(field, str) if isinstance(value, str) else is_number(field)


def _between(value: list[Any]) -> Test:
    low, high = value
    return lambda field: _same_kind(field, low) and low <= field <= high


def _overlaps(prepare: Callable[[Any], Any]) -> Callable[[list[Any]], Test]:
    def test(value: list[Any]) -> Test:
        wanted = {frozen(prepare(one)) for one in value}
        return lambda field: any(frozen(prepare(one)) in wanted for one in _elements(field))

    return test


def _elements(field: Any) -> list[Any]:
    """Return the elements of an array field; any other field counts as an array with one element."""
    if field is MISSING:
        return []
    return field if isinstance(field, list) else [field]


def _like(value: str) -> Test:
    matches = like_matcher(value)
    return lambda field: isinstance(field, str) and matches(field) is not None


def _ilike(value: str) -> Test:
    matches = like_matcher(folded(value))
    return lambda field: isinstance(field, str) and matches(folded(field)) is not None


_overlap = _overlaps(lambda one: one)
_ioverlap = _overlaps(folded_value)

OPERATORS = {
    operator.name: operator
    for operator in (
        Operator("==", _anything, _equal, ordered=True),
        Operator("!=", _anything, _equal, ordered=True, negated=True),
        Operator(">", _comparable, _compared(lambda field, value: field > value), ordered=True),
        Operator(">=", _comparable, _compared(lambda field, value: field >= value), ordered=True),
        Operator("<", _comparable, _compared(lambda field, value: field < value), ordered=True),
        Operator("<=", _comparable, _compared(lambda field, value: field <= value), ordered=True),
        Operator("between", _two, _between, ordered=True),
        Operator("in", _array, _in),
        Operator("not_in", _array, _in, negated=True),
        Operator("overlap", _wrapped, _overlap),
        Operator("ioverlap", _wrapped, _ioverlap),
        Operator("disjoint", _wrapped, _overlap, negated=True),
        Operator("idisjoint", _wrapped, _ioverlap, negated=True),
        Operator("like", _pattern, _like, textual=True),
        Operator("ilike", _pattern, _ilike, textual=True),
        Operator("not_like", _pattern, _like, negated=True, textual=True),
        Operator("not_ilike", _pattern, _ilike, negated=True, textual=True),
        Operator("exists", _nothing, _exists),
        Operator("missing", _nothing, _exists, negated=True),
    )
}
ALIASES = {"eq": "==", "ne": "!=", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}
OPPOSITES = {
    "!=": "==",
    "not_in": "in",
    "disjoint": "overlap",
    "idisjoint": "ioverlap",
    "not_like": "like",
    "not_ilike": "ilike",
    "missing": "exists",
}


def operator_named(name: str) -> Operator:
    """Return the operator with this name or alias.

    Raises:
        InvalidRequest: The name is unknown.
    """
    operator = OPERATORS.get(ALIASES.get(name, name)) if isinstance(name, str) else None
    if operator is None:
        raise InvalidRequest(f"Unknown operator {name!r:.50}; known are {', '.join([*OPERATORS, *ALIASES])}.")
    return operator
