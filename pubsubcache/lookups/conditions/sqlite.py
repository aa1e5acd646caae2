"""Functions of ours that SQLite calls: what its own can't tell alike on all its versions, or only for ASCII letters.

Where its own are right they go first: they follow the beginning of a path much faster than Python reads all of a
document, so what ours get is a piece of it.
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
HAS_ARROW = (3, 38)  # the version that has the operator ->, which gives a piece as JSON


def register(connection: BaseDatabaseWrapper) -> None:
    """Make the functions known to a connection, if it is to SQLite."""
    if connection.vendor != "sqlite":
        return
    raw: Any = connection.connection
    for name, arguments, function in ((MATCHES, 4, matches), (NUMBER, 2, number), (TEXT, 2, text)):
        raw.create_function(name, arguments, function, deterministic=True)


def piece(connection: BaseDatabaseWrapper, column: str, path: Path) -> tuple[str, list[str], str]:
    """Return SQL with parameters for the piece of a column that SQLite can find, and the path that is left from there.

    Of keys only names of ASCII letters, digits and underscores: what others are in a path depends on the version.
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
    """Whether the field that a path leads to fulfils an operator; all arguments but the operator are JSON."""
    return _matcher(operator, value)(_field(document, path))


def number(document: str | None, path: str) -> int | float | None:
    """Return the field that a path leads to if it is a number, true and false as 1 and 0."""
    field = _field(document, path)
    if isinstance(field, bool):
        return int(field)
    if not is_number(field):
        return None
    return field if isinstance(field, int) and abs(field) <= MAX_INTEGER else float(Decimal(field))


def text(document: str | None, path: str) -> str | None:
    """Return the field that a path leads to if it is a text."""
    field = _field(document, path)
    # Half of a pair of surrogates, which JSON can escape, is no text that SQLite can be given.
    return field.encode(errors="replace").decode() if isinstance(field, str) else None


def _field(document: str | None, path: str) -> Any:
    return MISSING if document is None else follow(_loaded(document), _path(path))


@lru_cache(maxsize=2)  # of a row several functions may ask
def _loaded(document: str) -> Any:
    try:
        return loads(document)
    except (ValueError, RecursionError):  # written by others than us
        return MISSING


@lru_cache(maxsize=256)
def _path(path: str) -> Path:
    return tuple(json.loads(path))


@lru_cache(maxsize=64)
def _matcher(operator: str, value: str) -> Test:
    return OPERATORS[operator].matcher(loads(value))
