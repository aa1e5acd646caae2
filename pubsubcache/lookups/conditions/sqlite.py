"""Python functions that SQLite calls to evaluate operators.

SQLite's own functions differ between versions, or handle only ASCII letters. Where they are reliable, they resolve the
first steps of a path, which is much faster than loading the whole document in Python.
"""

import json
from decimal import Decimal
from functools import lru_cache
from itertools import takewhile
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from pubsubcache.lookups.conditions.operators import OPERATORS, Test
from pubsubcache.lookups.conditions.paths import MISSING, Path, follow
from pubsubcache.lookups.conditions.values import is_number, loads

MATCHES = "pubsubcache_matches"
NUMBER = "pubsubcache_number"
TEXT = "pubsubcache_text"
MAX_INTEGER = 2**63 - 1
HAS_ARROW = (3, 38)  # first version with the operator ->, which returns JSON


def register(connection: BaseDatabaseWrapper) -> None:
    """Register the functions on a connection, if it is to SQLite."""
    if connection.vendor != "sqlite":
        return
    raw: Any = connection.connection
    for name, arguments, function in ((MATCHES, 4, matches), (NUMBER, 2, number), (TEXT, 2, text)):
        raw.create_function(name, arguments, function, deterministic=True)


def piece(connection: BaseDatabaseWrapper, column: str, path: Path) -> tuple[str, list[str], str]:
    """Let SQLite resolve the first steps of a path.

    Only keys of ASCII letters, digits and underscores are used, because the syntax for others depends on the version.

    Returns:
        SQL for a piece of the document, its parameters, and the rest of the path as JSON.
    """
    database: Any = connection.Database  # type: ignore[attr-defined]
    plain = [*takewhile(_is_plain, path)] if database.sqlite_version_info >= HAS_ARROW else []
    rest = json.dumps(path[len(plain) :])
    if not plain:
        return column, [], rest
    steps = [f'."{step}"' if isinstance(step, str) else f"[{step}]" for step in plain]
    return f"({column} -> %s)", [f"${''.join(steps)}"], rest


def _is_plain(step: str | int) -> bool:
    return step >= 0 if isinstance(step, int) else step.isascii() and step.isidentifier()


def matches(document: str | None, path: str, operator: str, value: str) -> bool:
    """Return whether the field at a path matches an operator. All arguments but the operator are JSON."""
    return _matcher(operator, value)(_field(document, path))


def number(document: str | None, path: str) -> int | float | None:
    """Return the field at a path if it is a number; 1 or 0 for a boolean."""
    field = _field(document, path)
    if isinstance(field, bool):
        return int(field)
    if not is_number(field):
        return None
    return field if isinstance(field, int) and abs(field) <= MAX_INTEGER else float(Decimal(field))


def text(document: str | None, path: str) -> str | None:
    """Return the field at a path if it is a string."""
    field = _field(document, path)
    # JSON may contain an escaped lone surrogate, which cannot be passed to SQLite.
    return field.encode(errors="replace").decode() if isinstance(field, str) else None


def _field(document: str | None, path: str) -> Any:
    return MISSING if document is None else follow(_loaded(document), _path(path))


@lru_cache(maxsize=2)  # several functions may be called for the same row
def _loaded(document: str) -> Any:
    try:
        return loads(document)
    except (ValueError, RecursionError):  # not written by the cache
        return MISSING


@lru_cache(maxsize=256)
def _path(path: str) -> Path:
    return tuple(json.loads(path))


@lru_cache(maxsize=64)
def _matcher(operator: str, value: str) -> Test:
    return OPERATORS[operator].matcher(loads(value))
