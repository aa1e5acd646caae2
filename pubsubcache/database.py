"""Checks or migrates the database when a command starts.

Commands that only read call `require`, which changes nothing. Others call `prepare`, which migrates if the site opted
in. If two processes start at once, one migrates under a lock, and the other waits and then finds nothing to do. A
SQLite database is backed up before it is migrated.
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
BACKUPS = 3  # backups of a SQLite database to keep
LOCK_NUMBER = 0x70756273  # of the advisory lock; arbitrary


def unapplied(alias: str = DEFAULT_DB_ALIAS, *, whole_site: bool = False) -> list[str]:
    """Return the unapplied migrations as "app.name", in the order in which they would run.

    Args:
        alias: The database.
        whole_site: Include the migrations of all installed apps, not only those of pubsubcache and those that these
            depend on.
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
    """Return the applied migrations of pubsubcache that this version of the application does not have."""
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
        MigrationsPending: There are unapplied migrations, or the database belongs to a newer version of the
            application.
    """
    _refuse_newer(alias)
    if pending := unapplied(alias):
        raise MigrationsPending(f"There are unapplied migrations ({', '.join(pending)}): run manage.py migrate.")


def prepare(alias: str = DEFAULT_DB_ALIAS, *, whole_site: bool = False) -> list[str]:
    """Migrate the tables of pubsubcache if needed and if the site has opted in with `AUTO_MIGRATE`.

    Creates a missing SQLite database.

    Args:
        alias: The database.
        whole_site: Migrate all installed apps. Only the project that owns the database should do that.

    Returns:
        The migrations that were applied.

    Raises:
        MigrationsPending: There are unapplied migrations and the site did not opt in, or they belong to other apps and
            `whole_site` is false, or the database belongs to a newer version of the application.
    """
    _refuse_newer(alias)
    if not (pending := unapplied(alias, whole_site=whole_site)):
        return []
    if not settings.AUTO_MIGRATE:
        raise MigrationsPending(
            "Run manage.py migrate, or set PUBSUBCACHE_AUTO_MIGRATE to true. "
            f"There are unapplied migrations: {', '.join(pending)}."
        )
    others = [name for name in pending if not name.startswith(f"{APP}.")]
    if others and not whole_site:
        raise MigrationsPending(
            f"There are unapplied migrations of other apps ({', '.join(others)}): run manage.py migrate."
        )
    _make_private(alias)
    with _lock(alias):
        if not (pending := unapplied(alias, whole_site=whole_site)):
            return []
        _back_up(alias)
        logger.info("Migrating the database: %s.", ", ".join(pending))
        call_command("migrate", *([] if whole_site else [APP]), database=alias, interactive=False, verbosity=0)
    return pending


def _refuse_newer(alias: str) -> None:
    if newer := unknown(alias):
        raise MigrationsPending(f"The database belongs to a newer version, which applied {', '.join(newer)}.")


def _sqlite_path(alias: str) -> Path | None:
    connection = connections[alias]
    name = str(connection.settings_dict["NAME"])
    if connection.vendor != "sqlite" or name == ":memory:" or name.startswith("file:"):
        return None
    return Path(name)


def _is_missing(alias: str) -> bool:
    """Whether the SQLite database does not exist. Connecting to it would create it."""
    path = _sqlite_path(alias)
    return path is not None and not path.exists()


def _make_private(alias: str) -> None:
    """Create a missing SQLite database that only its owner can read. SQLite uses the same mode for its other files."""
    if (path := _sqlite_path(alias)) is not None and not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)


@contextmanager
def _lock(alias: str) -> Iterator[None]:
    """Hold the migration lock of the database during the block. Waits for other processes."""
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


def _back_up(alias: str) -> None:
    """Copy a SQLite database that has tables, and delete all but the newest `BACKUPS` copies."""
    path = _sqlite_path(alias)
    if path is None or not path.exists() or not connections[alias].introspection.table_names():
        return
    copy = path.with_name(f"{path.name}.before-{timezone.now():%Y%m%dT%H%M%S%f}")
    copy.touch(mode=0o600)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    logger.info("The database was copied to %s.", copy)
    copies = sorted(path.parent.glob(f"{path.name}.before-*"))
    for old in copies[:-BACKUPS]:
        old.unlink()
