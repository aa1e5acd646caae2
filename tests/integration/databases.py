"""Separate databases for tests that create and migrate them."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.db import connection, connections

ALIAS = "fresh"


def url(alias: str = ALIAS) -> str:
    """Return the DATABASE_URL of a database."""
    parts = connections[alias].settings_dict
    if connections[alias].vendor == "sqlite":
        return f"sqlite:///{parts['NAME']}"
    return f"postgres://{parts['USER']}@{parts['HOST']}:{parts['PORT']}/{parts['NAME']}"


@contextmanager
def fresh_database(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """Yield the alias of an empty database of the run's vendor; on SQLite its file does not exist yet."""
    settings: dict[str, Any] = copy.deepcopy(connection.settings_dict)
    if connection.vendor == "sqlite":
        settings["NAME"] = str(folder / "new" / "db.sqlite3")
    else:
        settings["NAME"] = "fresh"
        request.getfixturevalue("postgresql").create_database("fresh")
    connections.databases[ALIAS] = settings
    try:
        with request.getfixturevalue("django_db_blocker").unblock():
            yield ALIAS
    finally:
        connections[ALIAS].close()
        if hasattr(connections[ALIAS], "close_pool"):
            connections[ALIAS].close_pool()
        del connections[ALIAS]
        del connections.databases[ALIAS]
