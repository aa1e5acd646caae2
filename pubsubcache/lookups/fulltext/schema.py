"""The full text index of either database. `pubsub_reindex` and migrations of the items rebuild it."""

from typing import Any

from django.db import connections, transaction

from pubsubcache.conf import settings
from pubsubcache.lookups import hotkeys
from pubsubcache.lookups.fulltext import postgresql, sqlite


def statements(connection: Any) -> list[str]:
    """Return the SQL that recreates the full text index in a transaction, in the language of the settings.

    Raises:
        InvalidRequest: PostgreSQL does not know this language.
    """
    if connection.vendor == "postgresql":
        return postgresql.statements(connection, settings.SEARCH_LANGUAGE)
    return [*sqlite.DROP, *sqlite.create()] if connection.vendor == "sqlite" else []


def rebuild(alias: str) -> None:
    """Recreate the full text index of a database in one transaction. Raises `InvalidRequest` like `statements`."""
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        for sql in statements(connections[alias]):
            cursor.execute(sql)


def repair(alias: str) -> None:
    """Restore the triggers on SQLite after a migration of the table of items.

    Such a migration replaces the table and drops its triggers. The tables that they maintain are refilled.
    """
    connection = connections[alias]
    if connection.vendor != "sqlite":
        return
    with transaction.atomic(using=alias), connection.cursor() as cursor:
        for sql in hotkeys.repair_statements(connection):
            cursor.execute(sql)
    if not sqlite.is_complete(connection):
        rebuild(alias)
