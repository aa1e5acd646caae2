"""Full text on whichever database it is: makes the index that a migration created again, for `pubsub_reindex`."""

from typing import Any

from django.db import connections, transaction

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
