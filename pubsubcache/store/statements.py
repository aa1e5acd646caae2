"""Precompiled queries, in which only the parameters change.

Compiling a query takes the ORM far longer than the database takes to answer. Only the queries of every read are
precompiled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connections
from django.db.models import QuerySet


@dataclass(frozen=True, slots=True)
class Statement:
    """A compiled query for columns. It is not bound to a connection, so any thread may run it."""

    alias: str
    sql: str
    slots: tuple[int, ...]  # the index of the argument for each parameter of the SQL
    columns: tuple[Any, ...]

    @classmethod
    def of(cls, query: QuerySet[Any, tuple[Any, ...]], placeholders: Sequence[object]) -> "Statement":
        """Compile a query.

        Args:
            query: A query made with `values_list`, whose parameters are placeholders.
            placeholders: The placeholders, all different.

        Raises:
            ValueError: The query has a parameter that is not a placeholder.
        """
        compiler = query.query.get_compiler(using=query.db)
        sql, parameters = compiler.as_sql()
        slots = tuple(list(placeholders).index(parameter) for parameter in parameters)
        return cls(query.db, sql, slots, tuple(column for column, _, _ in compiler.select))

    def rows(self, *arguments: Any) -> list[list[Any]]:
        """Run the query with one argument for each placeholder; return the rows with values converted as by the ORM."""
        connection = connections[self.alias]
        with connection.cursor() as cursor:
            cursor.execute(self.sql, [arguments[slot] for slot in self.slots])
            rows = [list(row) for row in cursor.fetchall()]
        for index, column in enumerate(self.columns):
            for convert in (*connection.ops.get_db_converters(column), *column.get_db_converters(connection)):
                for row in rows:
                    row[index] = convert(row[index], column, connection)
        return rows
