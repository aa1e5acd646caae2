"""Queries whose SQL is made once: to make it each time takes the ORM far longer than the database takes to answer.

For what every read asks; all other queries are plain ones. Only parameters differ between two uses.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.models import QuerySet


@dataclass(frozen=True, slots=True)
class Statement:
    """A query of columns, compiled; bound to no connection, so any thread may run it."""

    alias: str
    sql: str
    slots: tuple[int, ...]  # the argument that each of the SQL's parameters takes
    columns: tuple[Any, ...]

    @classmethod
    def of(cls, query: QuerySet[Any, tuple[Any, ...]], placeholders: Sequence[object]) -> "Statement":
        """Compile a query made by `values_list` with `placeholders` for its parameters, each another value.

        Raises `ValueError` when the query has a parameter that is no placeholder.
        """
        compiler = query.query.get_compiler(using=query.db)
        sql, parameters = compiler.as_sql()
        slots = tuple(list(placeholders).index(parameter) for parameter in parameters)
        return cls(query.db, sql, slots, tuple(column for column, _, _ in compiler.select))

    def rows(self, *arguments: Any) -> list[list[Any]]:
        """Return the rows for `arguments`, one for each placeholder, as the ORM would."""
        connection = connections[self.alias]
        with connection.cursor() as cursor:
            cursor.execute(self.sql, [arguments[slot] for slot in self.slots])
            rows = [list(row) for row in cursor.fetchall()]
        for place, column in enumerate(self.columns):
            for convert in (*connection.ops.get_db_converters(column), *column.get_db_converters(connection)):
                for row in rows:
                    row[place] = convert(row[place], column, connection)
        return rows
