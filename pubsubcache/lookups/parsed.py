"""Conditions on fields of parsed data, and their order, as expressions of the ORM."""

from collections.abc import Sequence
from typing import Any

from django.db import NotSupportedError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, Case, Expression, F, FloatField, Func, OrderBy, Q, TextField, When
from django.db.models.functions import Length
from django.db.models.lookups import GreaterThanOrEqual
from django.db.models.sql.compiler import SQLCompiler

from pubsubcache.lookups.conditions import postgresql, sqlite
from pubsubcache.lookups.conditions.indexed import contained, hot_column, of_column
from pubsubcache.lookups.conditions.operators import operator_named
from pubsubcache.lookups.conditions.paths import Path, to_path
from pubsubcache.lookups.conditions.values import dumps, loads
from pubsubcache.lookups.hotkeys import LENGTH

FIELD = "parsed"


class _OfField(Func):
    """Something about the field that a path in the parsed data leads to."""

    def __init__(self, path: Path, *columns: str, **extra: Any) -> None:
        self.path = path
        super().__init__(F(FIELD), *(F(column) for column in columns), **extra)

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
    """Whether the field fulfils an operator; never null.

    What indexes know of that goes before it, as a condition of its own: it may be null, but not where this is true.
    """

    output_field = BooleanField()

    def __init__(self, path: Path, operator: str, value: str, **extra: Any) -> None:
        # As JSON: Django takes expressions of equal arguments for one, and to Python 1 equals true.
        self.operator, self.json, self.value = operator, value, loads(value)
        column = hot_column(path)
        self.known = [] if column is None else of_column(operator, self.value)
        super().__init__(path, *([column] if column and self.known else []), **extra)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        condition = self._on_sqlite(compiler, connection, sqlite.MATCHES, self.operator, self.json)
        return self._known_first(compiler, condition)

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        sql, parameters = postgresql.matches(self._on_postgresql(compiler), self.operator, self.value)
        if documents := contained(self.path, self.operator, self.value):
            column, before = compiler.compile(self.get_source_expressions()[0])
            either = " OR ".join(f"{column} @> %s::jsonb" for _ in documents)
            parameters = [one for document in documents for one in (*before, document)] + parameters
            sql = f"({either}) AND {sql}"
        return self._known_first(compiler, (sql, parameters))

    def _known_first(self, compiler: SQLCompiler, condition: tuple[str, list[Any]]) -> tuple[str, list[Any]]:
        sql, parameters = condition
        for comparison, bounds in reversed(self.known):
            column, before = compiler.compile(self.get_source_expressions()[1])
            sql, parameters = f"{column} {comparison} AND {sql}", [*before, *bounds, *parameters]
        return f"({sql})", parameters


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
    wanted = chosen.clean(operator, loads(dumps(value)))
    return Q(Matches(to_path(path), chosen.name, dumps(wanted)))


def order_of_parsed(path: str | Sequence[str | int], *, descending: bool = False) -> list[OrderBy]:
    """Return the order by a field of the parsed data: numbers, then texts by code point; all else last either way."""
    steps = to_path(path)
    number: Expression = NumberOf(steps)
    texts: list[Expression | F] = [TextOf(steps)]
    if column := hot_column(steps):  # with which the field itself is seldom looked at
        number = Case(When(**{f"{column}__isnull": True}, then=number))
        texts = [F(column), Case(When(GreaterThanOrEqual(Length(column), LENGTH), then=texts[0]))]
    if descending:
        return [one.desc(nulls_last=True) for one in (*texts, number)]
    return [one.asc(nulls_last=True) for one in (number, *texts)]
