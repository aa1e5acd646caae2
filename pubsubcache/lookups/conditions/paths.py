"""Paths to fields of parsed data: strings are keys of objects, integers are indexes of arrays."""

import json
from collections.abc import Sequence
from typing import Any

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.types import MAX_NUMBER, check_text

MAX_DEPTH = 100
Path = tuple[str | int, ...]


class Missing:
    """Value of a missing field, as opposed to null."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = Missing()


def to_path(path: str | Sequence[str | int]) -> Path:
    """Validate a path.

    Args:
        path: A key of the root object, or a sequence of keys and indexes. Negative indexes count from the end.

    Raises:
        InvalidRequest: The path is invalid.
    """
    if isinstance(path, str):
        path = [path]
    if not isinstance(path, list | tuple) or not 0 < len(path) <= MAX_DEPTH:
        raise InvalidRequest(f"A path must be a key or a list of 1 to {MAX_DEPTH} keys and indexes, got {path!r:.50}.")
    for step in path:
        if isinstance(step, str):
            check_text("A key of a path", step)
        elif isinstance(step, bool) or not isinstance(step, int) or abs(step) > MAX_NUMBER:
            raise InvalidRequest(f"A path must consist of keys and indexes, got {step!r:.50}.")
    return tuple(path)


def read_path(written: str) -> Path:
    """Parse a path given as a JSON array, a JSON string or a plain key. Raises `InvalidRequest`."""
    try:
        path = json.loads(written)
    except (ValueError, RecursionError):
        path = written
    return to_path(path if isinstance(path, str | list) else written)


def follow(data: Any, path: Path) -> Any:
    """Return the field at a path in JSON data, or `MISSING`."""
    for step in path:
        if isinstance(step, str):
            if not isinstance(data, dict) or step not in data:
                return MISSING
        elif not isinstance(data, list) or not -len(data) <= step < len(data):
            return MISSING
        data = data[step]
    return data
