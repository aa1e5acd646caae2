"""ORM expressions to filter and sort items by fields of their parsed data."""

from collections.abc import Sequence
from typing import Any

from django.db import NotSupportedError
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BooleanField, Case, Expression, F, FloatField, Func, OrderBy, Q, TextField, When
from django.db.models.functions import Length
from django.db.models.lookups import GreaterThanOrEqual
from django.db.models.sql.compiler import SQLCompiler

from pubsubcache.lookups.conditions import postgresql, sqlite
from pubsubcache.lookups.conditions.indexed import column_comparisons, contained_documents, hot_column
from pubsubcache.lookups.conditions.operators import operator_named
from pubsubcache.lookups.conditions.paths import Path, to_path
from pubsubcache.lookups.conditions.values import dumps, loads
from pubsubcache.lookups.hotkeys import LENGTH

FIELD = "parsed"


class _FieldExpression(Func):
    """Base class of expressions on the field at a path in the parsed data."""

    def __init__(self, path: Path, *columns: str, **extra: Any) -> None:
        self.path = path
        super().__init__(F(FIELD), *(F(column) for column in columns), **extra)

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, *args: Any, **extra: Any) -> Any:
        raise NotSupportedError(f"Searching parsed data is not supported on {connection.display_name}.")

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


class Matches(_FieldExpression):
    """Condition that the field matches an operator.

    Indexed preconditions come first. They may be null, but only for items that do not match.
    """

    output_field = BooleanField()

    def __init__(self, path: Path, operator: str, value: str, **extra: Any) -> None:
        # The value is passed as JSON: Django merges expressions with equal arguments, and in Python 1 equals True.
        self.operator, self.json, self.value = operator, value, loads(value)
        column = hot_column(path)
        self.comparisons = [] if column is None else column_comparisons(operator, self.value)
        super().__init__(path, *([column] if column and self.comparisons else []), **extra)

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        condition = self._on_sqlite(compiler, connection, sqlite.MATCHES, self.operator, self.json)
        return self._indexed_first(compiler, condition)

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        sql, parameters = postgresql.matches(self._on_postgresql(compiler), self.operator, self.value)
        if documents := contained_documents(self.path, self.operator, self.value):
            column, before = compiler.compile(self.get_source_expressions()[0])
            either = " OR ".join(f"{column} @> %s::jsonb" for _ in documents)
            parameters = [one for document in documents for one in (*before, document)] + parameters
            sql = f"({either}) AND {sql}"
        return self._indexed_first(compiler, (sql, parameters))

    def _indexed_first(self, compiler: SQLCompiler, condition: tuple[str, list[Any]]) -> tuple[str, list[Any]]:
        sql, parameters = condition
        for comparison, bounds in reversed(self.comparisons):
            column, before = compiler.compile(self.get_source_expressions()[1])
            sql, parameters = f"{column} {comparison} AND {sql}", [*before, *bounds, *parameters]
        return f"({sql})", parameters


class NumberOf(_FieldExpression):
    """The field as a number; 1 or 0 for a boolean, null for other types."""

    output_field = FloatField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        return self._on_sqlite(compiler, connection, sqlite.NUMBER)

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        return postgresql.render(postgresql.NUMBER, {"field": self._on_postgresql(compiler)})


class TextOf(_FieldExpression):
    """The field as text that sorts by code point; null for other types."""

    output_field = TextField()

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        return self._on_sqlite(compiler, connection, sqlite.TEXT)

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        return postgresql.render(postgresql.TEXT, {"field": self._on_postgresql(compiler)})


class ByCodePoint(Func):
    """Text that sorts by code point, whatever the collation of the database. SQLite does so by default."""

    output_field = TextField()
    template = "%(expressions)s"
    arity = 1

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **extra: Any) -> Any:
        return self.as_sql(compiler, connection, template='%(expressions)s COLLATE "C"', **extra)


def parsed_matches(path: str | Sequence[str | int], operator: str, value: Any = True) -> Q:
    """Return the condition that a field of the parsed data matches an operator.

    Args:
        path: A key of the root object, or a sequence of keys and indexes.
        operator: Name of an operator, see docs/search.md.
        value: A JSON value. A datetime is converted to the format of dates in parsed data.

    Raises:
        InvalidRequest: An argument is invalid.
    """
    chosen = operator_named(operator)
    wanted = chosen.clean(operator, loads(dumps(value)))
    return Q(Matches(to_path(path), chosen.name, dumps(wanted)))


def order_of_parsed(path: str | Sequence[str | int], *, descending: bool = False) -> list[OrderBy]:
    """Return the ordering by a field: numbers, then strings by code point. All other items come last.

    Args:
        path: A key of the root object, or a sequence of keys and indexes.
        descending: Whether to reverse the order; items without a number or string stay last.

    Raises:
        InvalidRequest: The path is invalid.
    """
    steps = to_path(path)
    number: Expression = NumberOf(steps)
    texts: list[Expression | F] = [TextOf(steps)]
    if column := hot_column(steps):  # avoids evaluating the field for most rows
        number = Case(When(**{f"{column}__isnull": True}, then=number))
        texts = [F(column), Case(When(GreaterThanOrEqual(Length(column), LENGTH), then=texts[0]))]
    if descending:
        return [one.desc(nulls_last=True) for one in (*texts, number)]
    return [one.asc(nulls_last=True) for one in (number, *texts)]
