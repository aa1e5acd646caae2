"""JSON values and their comparison: types are distinct, numbers compare exactly, strings by code point."""

import json
import re
from collections.abc import Callable, Hashable
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.parsers import dates
from pubsubcache.types import check_text

ESCAPE = "\\"


def loads(text: str) -> Any:
    """Parse JSON with exact numbers. Raises `ValueError` for invalid JSON, including NaN and Infinity."""
    return json.loads(text, parse_float=Decimal, parse_constant=_reject_constant)


def dumps(value: Any) -> str:
    """Serialise a value to JSON. Datetimes become strings in the format of the cache.

    Raises:
        InvalidRequest: The value is not JSON, or contains a number out of range or a string that cannot be stored.
    """
    try:
        text = json.dumps(value, default=_plain, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest("The value is not JSON, or contains a number that is too large.") from error
    check_text("A value", text)
    if re.search(r"(?<!\\)(?:\\\\)*\\u0000", text):
        raise InvalidRequest("The value must not contain null characters.")
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return dates.iso(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def is_number(value: Any) -> bool:
    """Return whether a JSON value is a number; booleans are not."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def frozen(value: Any) -> Hashable:
    """Return a hashable key that is equal for equal JSON values only: 1 equals 1.0, but neither true nor "1"."""
    if isinstance(value, bool):
        return bool, value
    if isinstance(value, list):
        return list, tuple(frozen(one) for one in value)
    if isinstance(value, dict):
        return dict, frozenset((key, frozen(one)) for key, one in value.items())
    hashable: Hashable = value
    return hashable


def folded(text: str) -> str:
    """Fold the case of a string, in all scripts and exactly as PostgreSQL can.

    Lower case comes first, because some letters remain distinct the other way round. Upper case follows, because the
    lower-case sigma has two forms.
    """
    return text.lower().upper()


def folded_value(value: Any) -> Any:
    """Return a JSON value, with its case folded if it is a string."""
    return folded(value) if isinstance(value, str) else value


def like_pattern(pattern: str) -> str:
    """Normalise a LIKE pattern: keep a backslash only where it escapes %, _ or a backslash."""
    return re.sub(r"\\(.?)", lambda match: _plain_in_pattern(match[1] or ESCAPE), pattern, flags=re.DOTALL)


def _plain_in_pattern(character: str) -> str:
    return ESCAPE + character if character in "%_\\" else character


@lru_cache(maxsize=64)
def like_matcher(pattern: str) -> Callable[[str], Any]:
    """Return a function that tests whether a string matches a pattern from `like_pattern`.

    The parts between two % are found from left to right without backtracking, so no pattern takes long.
    """
    parts: list[str] = [""]
    for piece in re.findall(r"\\.|.", pattern, flags=re.DOTALL):
        if piece == "%":
            parts.append("")
        else:
            parts[-1] += "." if piece == "_" else re.escape(piece[-1])
    first, *middle = parts
    last = f".*{middle.pop()}" if middle else ""
    within = "".join(f"(?>.*?{part})" for part in middle if part)
    return re.compile(first + within + last, re.DOTALL).fullmatch
