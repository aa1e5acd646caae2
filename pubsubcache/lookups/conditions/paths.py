"""Paths to fields of parsed data: keys of objects and indexes of arrays, told apart by their type."""

import json
from collections.abc import Sequence
from typing import Any

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.types import MAX_NUMBER, check_text

MAX_DEPTH = 100
Path = tuple[str | int, ...]


class Missing:
    """The value of a field that is not there, which is not null."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING = Missing()


def to_path(path: str | Sequence[str | int]) -> Path:
    """Return the path that code gives: a text is a key of the root, a sequence leads further in.

    Texts are keys of objects, numbers indexes of arrays, from the end if negative. Raises `InvalidRequest`.
    """
    if isinstance(path, str):
        path = [path]
    if not isinstance(path, list | tuple) or not 0 < len(path) <= MAX_DEPTH:
        raise InvalidRequest(
            f"A path is to be a key, or a list of up to {MAX_DEPTH} keys and indexes, not {path!r:.50}."
        )
    for step in path:
        if isinstance(step, str):
            check_text("A key of a path", step)
        elif isinstance(step, bool) or not isinstance(step, int) or abs(step) > MAX_NUMBER:
            raise InvalidRequest(f"A path is made of keys and indexes, not of {step!r:.50}.")
    return tuple(path)


def read_path(written: str) -> Path:
    """Return the path that a person writes: a JSON array or text, else the very key. Raises `InvalidRequest`."""
    try:
        path = json.loads(written)
    except (ValueError, RecursionError):
        path = written
    return to_path(path if isinstance(path, str | list) else written)


def follow(data: Any, path: Path) -> Any:
    """Return the field of JSON data that a path leads to, or `MISSING`."""
    for step in path:
        if isinstance(step, str):
            if not isinstance(data, dict) or step not in data:
                return MISSING
        elif not isinstance(data, list) or not -len(data) <= step < len(data):
            return MISSING
        data = data[step]
    return data
