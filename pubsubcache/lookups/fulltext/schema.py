"""Creates the full text index on either database, in a migration and in `pubsub_reindex`."""

from typing import Any

from django.db import connections, router, transaction
from django.db.migrations.operations.base import Operation

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


class CreateFullText(Operation):
    """Creates the index in its current form. It is derived from the items and can be rebuilt at any time."""

    reversible = True

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Do nothing: the index is not part of the models."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if router.allow_migrate(schema_editor.connection.alias, app_label):
            for sql in statements(schema_editor.connection):
                schema_editor.execute(sql, params=None)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        vendors = {"sqlite": sqlite.DROP, "postgresql": postgresql.DROP}
        if router.allow_migrate(schema_editor.connection.alias, app_label):
            for sql in vendors.get(schema_editor.connection.vendor, ()):
                schema_editor.execute(sql, params=None)

    def describe(self) -> str:
        return "Create the full text index of the items"


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
