"""The database at start: found out about, and created or migrated if it is not up to date.

Two processes that start at once don't collide: one migrates under a lock, the other waits and finds nothing to do.
A SQLite database is copied aside before it is changed.
"""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone

from pubsubcache.conf import settings
from pubsubcache.exceptions import MigrationsPending
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

BACKUPS = 3  # copies of a SQLite database, made before migrations, that are kept
LOCK_NUMBER = 0x70756273  # of the advisory lock, known to nothing else


def unapplied(alias: str = DEFAULT_DB_ALIAS) -> list[str]:
    """Return the migrations that the database lacks, as "app.name", in the order in which they would run."""
    executor = MigrationExecutor(connections[alias])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]


def unknown(alias: str = DEFAULT_DB_ALIAS) -> list[str]:
    """Return migrations of ours that the database has and this version of the application doesn't."""
    loader = MigrationExecutor(connections[alias]).loader
    return [
        f"{app}.{name}"
        for app, name in loader.applied_migrations
        if app == "pubsubcache" and (app, name) not in loader.disk_migrations
    ]


def prepare(alias: str = DEFAULT_DB_ALIAS) -> list[str]:
    """Create or migrate the database if needed; return the migrations that were applied.

    Raises `MigrationsPending` when that is needed and `AUTO_MIGRATE` forbids it, or when the database
    belongs to a newer version of the application.
    """
    _make_private(alias)
    if newer := unknown(alias):
        raise MigrationsPending(f"The database is of a newer version, which applied {', '.join(newer)}.")
    if not unapplied(alias):
        return []
    if not settings.AUTO_MIGRATE:
        raise MigrationsPending(
            f"The database lacks {', '.join(unapplied(alias))}: run manage.py migrate, "
            "or set PUBSUBCACHE_AUTO_MIGRATE to true."
        )
    with _lock(alias):
        if not (lacking := unapplied(alias)):
            return []
        _copy_aside(alias)
        logger.info("Migrating the database: %s.", ", ".join(lacking))
        call_command("migrate", database=alias, interactive=False, verbosity=0)
    return lacking


def _sqlite_path(alias: str) -> Path | None:
    connection = connections[alias]
    name = str(connection.settings_dict["NAME"])
    if connection.vendor != "sqlite" or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name)


def _make_private(alias: str) -> None:
    """Make a SQLite database that is not there, for its owner alone; SQLite gives the files beside it the same mode."""
    if (path := _sqlite_path(alias)) is not None and not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)


@contextmanager
def _lock(alias: str) -> Iterator[None]:
    """Have the database's migration to ourselves, waiting for another process that has it."""
    connection = connections[alias]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK_NUMBER])
            try:
                yield
            finally:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK_NUMBER])
    elif (path := _sqlite_path(alias)) is not None:
        lock = path.with_name(path.name + ".lock")
        lock.touch(mode=0o600)
        with lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    else:
        yield


def _copy_aside(alias: str) -> None:
    """Copy a SQLite database that holds anything, and keep the newest `BACKUPS` copies."""
    path = _sqlite_path(alias)
    if path is None or not path.exists() or not connections[alias].introspection.table_names():
        return
    copy = path.with_name(f"{path.name}.before-{timezone.now():%Y%m%dT%H%M%S%f}")
    copy.touch(mode=0o600)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    logger.info("The database was copied to %s.", copy)
    old = sorted(path.parent.glob(f"{path.name}.before-*"))
    for surplus in old[:-BACKUPS]:
        surplus.unlink()
