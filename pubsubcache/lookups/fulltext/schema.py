"""Full text on whichever database it is: its schema, made by a migration and again by `pubsub_reindex`."""

from typing import Any

from django.db import connections, router, transaction
from django.db.migrations.operations.base import Operation

from pubsubcache.conf import settings
from pubsubcache.lookups import hotkeys
from pubsubcache.lookups.fulltext import postgresql, sqlite


def statements(connection: Any) -> list[str]:
    """Return what makes the full text index anew in a transaction, in the language of the settings.

    Raises `InvalidRequest` when PostgreSQL doesn't know that language.
    """
    if connection.vendor == "postgresql":
        return postgresql.statements(connection, settings.SEARCH_LANGUAGE)
    return [*sqlite.DROP, *sqlite.create()] if connection.vendor == "sqlite" else []


def rebuild(alias: str) -> None:
    """Make the full text index of a database anew, in one transaction. Raises `InvalidRequest` as `statements`."""
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        for sql in statements(connections[alias]):
            cursor.execute(sql)


class CreateFullText(Operation):
    """Makes the index in its present form: it is derived of the items, and can be made again at any time."""

    reversible = True

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Django's models know nothing of it."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Make and fill the index."""
        if router.allow_migrate(schema_editor.connection.alias, app_label):
            for sql in statements(schema_editor.connection):
                schema_editor.execute(sql, params=None)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Remove the index."""
        vendors = {"sqlite": sqlite.DROP, "postgresql": postgresql.DROP}
        if router.allow_migrate(schema_editor.connection.alias, app_label):
            for sql in vendors.get(schema_editor.connection.vendor, ()):
                schema_editor.execute(sql, params=None)

    def describe(self) -> str:
        """Say what it is."""
        return "Create the full text index of the items"


def repair(alias: str) -> None:
    """Put right what a migration of the items' table on SQLite ended: triggers go with the table that is replaced."""
    connection = connections[alias]
    if connection.vendor != "sqlite":
        return
    with transaction.atomic(using=alias), connection.cursor() as cursor:
        for sql in hotkeys.repairing(connection):
            cursor.execute(sql)
    if not sqlite.is_complete(connection):
        rebuild(alias)
