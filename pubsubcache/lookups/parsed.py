"""Conditions on fields of parsed data, and their order, as expressions of the ORM."""

from collections.abc import Sequence
from typing import Any

from django.db import NotSupportedError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, F, FloatField, Func, OrderBy, Q, TextField
from django.db.models.sql.compiler import SQLCompiler

from pubsubcache.lookups import postgresql, sqlite
from pubsubcache.lookups.operators import Operator, operator_named
from pubsubcache.lookups.paths import Path, to_path
from pubsubcache.lookups.values import dumps, loads

FIELD = "parsed"


class _OfField(Func):
    """Something about the field that a path in the parsed data leads to."""

    def __init__(self, path: Path, *more: Any, **extra: Any) -> None:
        self.path = path
        super().__init__(F(FIELD), **extra)

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> Any:
        raise NotSupportedError(f"Parsed data can't be searched on {connection.display_name}.")

    def _on_sqlite(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, function: str, *arguments: str
    ) -> tuple[str, list[Any]]:
        column, parameters = compiler.compile(self.get_source_expressions()[0])
        piece, more, rest = sqlite.piece(connection, column, self.path)
        sql = f"{function}({', '.join([piece, '%s', *('%s' for _ in arguments)])})"
        return sql, [*parameters, *more, rest, *arguments]

    def _on_postgresql(self, compiler: SQLCompiler) -> postgresql.Piece:
        column, parameters = compiler.compile(self.get_source_expressions()[0])
        return postgresql.field_at(column, list(parameters), self.path)


class Matches(_OfField):
    """Whether the field fulfils an operator; never null."""

    output_field = BooleanField()

    def __init__(self, path: Path, operator: Operator, value: Any, **extra: Any) -> None:
        self.operator = operator
        self.value = value
        super().__init__(path, **extra)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        return self._on_sqlite(compiler, connection, sqlite.MATCHES, self.operator.name, dumps(self.value))

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        return postgresql.matches(self._on_postgresql(compiler), self.operator.name, self.value)


class NumberOf(_OfField):
    """The field if it is a number, true and false as 1 and 0; else null."""

    output_field = FloatField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        return self._on_sqlite(compiler, connection, sqlite.NUMBER)

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        return postgresql.filled(postgresql.NUMBER, {"field": self._on_postgresql(compiler)})


class TextOf(_OfField):
    """The field if it is a text, which sorts by code point; else null."""

    output_field = TextField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        return self._on_sqlite(compiler, connection, sqlite.TEXT)

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        return postgresql.filled(postgresql.TEXT, {"field": self._on_postgresql(compiler)})


class ByCodePoint(Func):
    """A text that sorts by code point, whatever the database's collation is."""

    output_field = TextField()
    template = "%(expressions)s"
    arity = 1

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        """Return it for PostgreSQL; SQLite's own order is that of code points."""
        return self.as_sql(compiler, connection, template='%(expressions)s COLLATE "C"', **extra)


def parsed_matches(path: str | Sequence[str | int], operator: str, value: Any = True) -> Q:
    """Return the condition that a field of the parsed data fulfils an operator, see docs/search.md.

    `path` is a key of the root, or a sequence of keys and indexes that leads further in. `value` is a JSON value, a
    datetime is a text in the form of the cache. Raises `InvalidRequest`.
    """
    chosen = operator_named(operator)
    return Q(Matches(to_path(path), chosen, chosen.clean(operator, loads(dumps(value)))))


def order_of_parsed(path: str | Sequence[str | int], *, descending: bool = False) -> list[OrderBy]:
    """Return the order by a field of the parsed data: numbers, then texts by code point; all else last either way."""
    steps = to_path(path)
    number, text = NumberOf(steps), TextOf(steps)
    if descending:
        return [text.desc(nulls_last=True), number.desc(nulls_last=True)]
    return [number.asc(nulls_last=True), text.asc(nulls_last=True)]
