"""The database when a command starts: required to be up to date, or migrated.

Commands that only read call `require`, which changes nothing. Others call `prepare`, which migrates if the site opted
in. Two processes that start at once don't collide: one migrates under a lock, the other waits and finds nothing to do.
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
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from pubsubcache.conf import settings
from pubsubcache.exceptions import MigrationsPending
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

APP = "pubsubcache"
BACKUPS = 3  # copies of a SQLite database, made before migrations, that are kept
LOCK_NUMBER = 0x70756273  # of the advisory lock, known to nothing else


def unapplied(alias: str = DEFAULT_DB_ALIAS, *, whole_site: bool = False) -> list[str]:
    """Return the migrations that the database lacks, as "app.name", in the order in which they would run.

    Args:
        alias: The database.
        whole_site: Whether to count the migrations of all installed apps, not only those that the tables of
            pubsubcache need: its own, and those of other apps that they depend on.
    """
    if _is_missing(alias):
        loader, applied = MigrationLoader(None), set()
    else:
        loader = MigrationExecutor(connections[alias]).loader
        applied = set(loader.applied_migrations)
    leaves = loader.graph.leaf_nodes(None if whole_site else APP)
    plan = dict.fromkeys(key for leaf in leaves for key in loader.graph.forwards_plan(leaf))
    return [f"{app}.{name}" for app, name in plan if (app, name) not in applied]


def unknown(alias: str = DEFAULT_DB_ALIAS) -> list[str]:
    """Return migrations of pubsubcache that the database has and this version of the application doesn't."""
    if _is_missing(alias):
        return []
    loader = MigrationExecutor(connections[alias]).loader
    return [
        f"{app}.{name}"
        for app, name in loader.applied_migrations
        if app == APP and (app, name) not in loader.disk_migrations
    ]


def require(alias: str = DEFAULT_DB_ALIAS) -> None:
    """Check that the tables of pubsubcache are up to date. Changes nothing.

    Raises:
        MigrationsPending: Migrations are lacking, or the database belongs to a newer version of the application.
    """
    _refuse_newer(alias)
    if lacking := unapplied(alias):
        raise MigrationsPending(f"The database lacks {', '.join(lacking)}: run manage.py migrate.")


def prepare(alias: str = DEFAULT_DB_ALIAS, *, whole_site: bool = False) -> list[str]:
    """Migrate the tables of pubsubcache if needed, when the site has opted in by `AUTO_MIGRATE`.

    Args:
        alias: The database.
        whole_site: Migrate all installed apps: only for the project that the database belongs to. Creates a SQLite
            database that is not there.

    Returns:
        The migrations that were applied.

    Raises:
        MigrationsPending: Migrations are lacking and the site did not opt in, or migrations of other apps are lacking,
            or the database belongs to a newer version of the application.
    """
    _refuse_newer(alias)
    if not (lacking := unapplied(alias, whole_site=whole_site)):
        return []
    if not settings.AUTO_MIGRATE:
        raise MigrationsPending(
            f"The database lacks {', '.join(lacking)}: run manage.py migrate, or set PUBSUBCACHE_AUTO_MIGRATE to true."
        )
    others = [name for name in lacking if not name.startswith(f"{APP}.")]
    if others and not whole_site:
        raise MigrationsPending(f"The database lacks {', '.join(others)} of other apps: run manage.py migrate.")
    _make_private(alias)
    with _lock(alias):
        if not (lacking := unapplied(alias, whole_site=whole_site)):
            return []
        _copy_aside(alias)
        logger.info("Migrating the database: %s.", ", ".join(lacking))
        call_command("migrate", *([] if whole_site else [APP]), database=alias, interactive=False, verbosity=0)
    return lacking


def _refuse_newer(alias: str) -> None:
    if newer := unknown(alias):
        raise MigrationsPending(f"The database is of a newer version, which applied {', '.join(newer)}.")


def _sqlite_path(alias: str) -> Path | None:
    connection = connections[alias]
    name = str(connection.settings_dict["NAME"])
    if connection.vendor != "sqlite" or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name)


def _is_missing(alias: str) -> bool:
    """Whether there is no such SQLite database, which opening it would create."""
    path = _sqlite_path(alias)
    return path is not None and not path.exists()


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
