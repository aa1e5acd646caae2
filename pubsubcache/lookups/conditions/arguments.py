"""Parses conditions on parsed data that are given as strings, for example on a command line."""

import json
import re
from typing import Any

from pubsubcache.lookups.conditions.operators import Operator, operator_named
from pubsubcache.lookups.conditions.paths import Path, read_path
from pubsubcache.lookups.conditions.timepatterns import point_in_time
from pubsubcache.lookups.conditions.values import loads
from pubsubcache.parsers import dates

_PATTERN = re.compile(r"\s*TP\(([^()]*)\)\s*")
_TEXT_OR_PATTERN = re.compile(r'"(?:[^"\\]|\\.)*"|TP\(([^()]*)\)', re.DOTALL)


def read_condition(path: str, operator: str, value: str = "") -> tuple[Path, str, Any]:
    """Parse a condition to the arguments of `pubsubcache.lookups.parsed.parsed_matches`.

    Args:
        path: A key, or a JSON array of keys and indexes.
        operator: Name of an operator.
        value: JSON, or plain text. Operators that order values also accept time patterns, alone or in an array, for
            example `TP(6 months ago)`.

    Raises:
        InvalidRequest: The path, the operator or a time pattern is invalid.
    """
    return read_path(path), operator, _read_value(operator_named(operator), value)


def _read_value(operator: Operator, written: str) -> Any:
    """Parse a value: JSON if it is valid JSON, else plain text."""
    if operator.ordered:
        if (pattern := _PATTERN.fullmatch(written)) is not None:
            return _time(pattern[1])
        if written.lstrip().startswith("["):
            written = _TEXT_OR_PATTERN.sub(lambda found: json.dumps(_time(found[1])) if found[1] else found[0], written)
    try:
        value = loads(written)
    except (ValueError, RecursionError):
        return written
    return written if operator.textual and not isinstance(value, str) else value


def _time(pattern: str) -> str:
    """Convert a time pattern to the format of dates in parsed data."""
    return dates.iso(point_in_time(pattern))
