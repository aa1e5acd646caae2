"""Full text on whichever database it is: its schema, made by a migration and again by `pubsub_reindex`."""

from typing import Any

from django.db import connections, router
from django.db.migrations.operations.base import Operation

from pubsubcache.conf import settings
from pubsubcache.lookups import fulltext_postgresql, fulltext_sqlite


def rebuild(alias: str) -> None:
    """Make the full text index of a database anew, in the language of the settings; in the caller's transaction.

    Raises `InvalidRequest` when PostgreSQL doesn't know that language.
    """
    connection = connections[alias]
    if connection.vendor == "sqlite":
        fulltext_sqlite.rebuild(connection)
    elif connection.vendor == "postgresql":
        fulltext_postgresql.rebuild(connection, settings.SEARCH_LANGUAGE)


class CreateFullText(Operation):
    """Makes the index in its present form: it is derived of the items, and can be made again at any time."""

    reversible = True

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Django's models know nothing of it."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Make and fill the index."""
        if router.allow_migrate(schema_editor.connection.alias, app_label):
            rebuild(schema_editor.connection.alias)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Remove the index."""
        vendors = {"sqlite": fulltext_sqlite.DROP, "postgresql": fulltext_postgresql.DROP}
        if router.allow_migrate(schema_editor.connection.alias, app_label):
            for sql in vendors.get(schema_editor.connection.vendor, ()):
                schema_editor.execute(sql, params=None)

    def describe(self) -> str:
        """Say what it is."""
        return "Create the full text index of the items"
