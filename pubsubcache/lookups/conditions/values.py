"""JSON values as comparisons see them: by type, numbers by what they are worth, texts by code point."""

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
    """Return JSON data with its numbers exact. Raises `ValueError` for what is no JSON, NaN and Infinity among it."""
    return json.loads(text, parse_float=Decimal, parse_constant=_no_number)


def dumps(value: Any) -> str:
    """Return JSON text, of numbers that any float can hold and texts that any database can.

    Times become texts in the form of the cache. Raises `InvalidRequest` for what is no JSON.
    """
    try:
        text = json.dumps(value, default=_plain, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest("A value is no JSON, or has a number that is too large.") from error
    check_text("A value", text)
    if re.search(r"(?<!\\)(?:\\\\)*\\u0000", text):
        raise InvalidRequest("A value is to be without null characters.")
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return dates.iso(value)
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def is_number(value: Any) -> bool:
    """Whether a JSON value is a number, which true and false are not."""
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def frozen(value: Any) -> Hashable:
    """Return something equal for equal JSON values, and for no others: 1 is 1.0, but neither true nor "1"."""
    if isinstance(value, bool):
        return bool, value
    if isinstance(value, list):
        return list, tuple(frozen(one) for one in value)
    if isinstance(value, dict):
        return dict, frozenset((key, frozen(one)) for key, one in value.items())
    hashable: Hashable = value
    return hashable


def folded(text: str) -> str:
    """Return a text without the difference of cases, in all scripts.

    By way of lower case, as the other way round some letters would stay two; and in upper case, as lower case has
    two forms of the sigma, by its place. PostgreSQL can do exactly the same.
    """
    return text.lower().upper()


def folded_value(value: Any) -> Any:
    """Return a JSON value, folded if it is a text."""
    return folded(value) if isinstance(value, str) else value


def like_pattern(pattern: str) -> str:
    """Return a LIKE pattern with a backslash only before what it makes plain: %, _ and itself."""
    return re.sub(r"\\(.?)", lambda match: _plain_in_pattern(match[1] or ESCAPE), pattern, flags=re.DOTALL)


def _plain_in_pattern(character: str) -> str:
    return ESCAPE + character if character in "%_\\" else character


@lru_cache(maxsize=64)
def like_matcher(pattern: str) -> Callable[[str], Any]:
    """Return a function that tells whether a text matches a pattern of `like_pattern`.

    Each part between two % is looked for once, from left to right, so that no pattern takes long.
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
