"""Test that a starting command creates, migrates or refuses the database."""

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import override_settings

from pubsubcache import database
from pubsubcache.exceptions import MigrationsPending
from pubsubcache.models import Account
from tests.integration.databases import fresh_database, url
from tests.servers.manage import MANAGE, TIMEOUT

pytestmark = pytest.mark.both_databases


@pytest.fixture
def fresh(request: pytest.FixtureRequest, tmp_path: Path, django_db_setup: None) -> Iterator[str]:
    with fresh_database(request, tmp_path) as alias:
        yield alias


def is_sqlite(alias: str) -> bool:
    return connections[alias].vendor == "sqlite"


def path(alias: str) -> Path:
    return Path(str(connections[alias].settings_dict["NAME"]))


def mode(of: Path) -> int:
    return stat.S_IMODE(of.stat().st_mode)


def copies(alias: str) -> list[Path]:
    return sorted(path(alias).parent.glob("*.before-*")) if is_sqlite(alias) else []


def make_older(alias: str) -> None:
    """Create a database without our tables but with data of other apps."""
    path(alias).parent.mkdir(parents=True, exist_ok=True)
    call_command("migrate", "auth", database=alias, verbosity=0, interactive=False)
    User.objects.using(alias).create(username="old timer")


def test_missing_database_is_created(fresh: str) -> None:
    assert not is_sqlite(fresh) or not path(fresh).parent.exists()
    applied = database.prepare(fresh, whole_site=True)
    assert "pubsubcache.0001_initial" in applied
    assert "auth.0001_initial" in applied
    assert database.unapplied(fresh, whole_site=True) == []
    Account.objects.using(fresh).create(jid="alice@example.org")
    if is_sqlite(fresh):
        assert mode(path(fresh).parent) == 0o700
    assert copies(fresh) == []


def test_database_files_are_private_whatever_the_umask(fresh: str) -> None:
    if not is_sqlite(fresh):
        return
    path(fresh).parent.mkdir(mode=0o755)
    before = os.umask(0)
    try:
        database.prepare(fresh, whole_site=True)
        call_command("migrate", "pubsubcache", "zero", database=fresh, verbosity=0, interactive=False)
        database.prepare(fresh, whole_site=True)
        Account.objects.using(fresh).create(jid="alice@example.org")
        made = {file.name.partition(".before-")[0]: mode(file) for file in path(fresh).parent.iterdir()}
    finally:
        os.umask(before)
    name = path(fresh).name
    assert made == dict.fromkeys((name, f"{name}-wal", f"{name}-shm", f"{name}.lock"), 0o600)
    assert [mode(copy) for copy in copies(fresh)] == [0o600]


def test_empty_database_is_migrated(fresh: str) -> None:
    if is_sqlite(fresh):
        path(fresh).parent.mkdir()
        path(fresh).touch()
    assert database.prepare(fresh, whole_site=True)
    assert copies(fresh) == []


def test_current_database_is_not_changed(fresh: str) -> None:
    database.prepare(fresh, whole_site=True)
    assert database.prepare(fresh, whole_site=True) == []
    with override_settings(PUBSUBCACHE_AUTO_MIGRATE=False):
        assert database.prepare(fresh, whole_site=True) == []
    assert copies(fresh) == []


def test_older_database_is_backed_up_and_migrated(fresh: str) -> None:
    make_older(fresh)
    applied = database.prepare(fresh, whole_site=True)
    assert "pubsubcache.0001_initial" in applied
    assert "auth.0001_initial" not in applied
    assert User.objects.using(fresh).get().username == "old timer"
    if is_sqlite(fresh):
        (copy,) = copies(fresh)
        assert mode(copy) == 0o600
        kept = sqlite3.connect(copy)
        assert kept.execute("SELECT username FROM auth_user").fetchall() == [("old timer",)]
        assert kept.execute("SELECT name FROM sqlite_master WHERE name = 'pubsubcache_account'").fetchall() == []
        kept.close()


@pytest.mark.parametrize("number", [1, 3])
def test_only_the_newest_copies_are_kept(fresh: str, number: int) -> None:
    if not is_sqlite(fresh):
        return  # nothing is copied
    make_older(fresh)
    ours = [name for name in database.unapplied(fresh, whole_site=True) if name.startswith("pubsubcache.")]
    last_but_one = ours[-2].removeprefix("pubsubcache.")
    made: list[Path] = []
    with patch.object(database, "BACKUPS", number):
        for _ in range(4):
            database.prepare(fresh, whole_site=True)
            made += [copy for copy in copies(fresh) if copy not in made]
            call_command("migrate", "pubsubcache", last_but_one, database=fresh, verbosity=0, interactive=False)
    assert copies(fresh) == made[len(made) - number :]
    assert len(copies(fresh)) == number


def test_newer_database_is_refused(fresh: str) -> None:
    database.prepare(fresh, whole_site=True)
    MigrationRecorder(connections[fresh]).record_applied("pubsubcache", "9999_from_the_future")
    with pytest.raises(MigrationsPending, match=r"newer.*pubsubcache\.9999_from_the_future"):
        database.prepare(fresh, whole_site=True)


def test_migrations_of_removed_apps_are_ignored(fresh: str) -> None:
    database.prepare(fresh, whole_site=True)
    MigrationRecorder(connections[fresh]).record_applied("an_app_removed_since", "0001_initial")
    assert database.prepare(fresh, whole_site=True) == []


def test_missing_migrations_are_named_when_migrating_is_off(fresh: str) -> None:
    make_older(fresh)
    tables = connections[fresh].introspection.table_names()
    with (
        override_settings(PUBSUBCACHE_AUTO_MIGRATE=False),
        pytest.raises(MigrationsPending, match=r"manage\.py migrate.*pubsubcache\.0001_initial"),
    ):
        database.prepare(fresh, whole_site=True)
    assert connections[fresh].introspection.table_names() == tables
    assert copies(fresh) == []


def tables(alias: str) -> list[str]:
    return sorted(connections[alias].introspection.table_names())


def test_only_tables_of_the_app_are_migrated(fresh: str) -> None:
    make_older(fresh)
    before = set(tables(fresh))
    applied = database.prepare(fresh)
    assert applied
    assert all(name.startswith("pubsubcache.") for name in applied)
    made = set(tables(fresh)) - before
    assert all(name.startswith("pubsubcache_") for name in made)
    assert Account._meta.db_table in made
    assert any(name.startswith(("admin.", "sessions.")) for name in database.unapplied(fresh, whole_site=True))
    assert database.prepare(fresh) == []
    assert len(copies(fresh)) == int(is_sqlite(fresh))


def test_missing_tables_of_other_apps_are_reported(fresh: str) -> None:
    path(fresh).parent.mkdir(parents=True, exist_ok=True)
    with pytest.raises(MigrationsPending, match=r"of other apps \(.*auth\.0001_initial.*\): run manage\.py migrate"):
        database.prepare(fresh)
    assert tables(fresh) == []


def test_check_changes_nothing(fresh: str) -> None:
    with pytest.raises(MigrationsPending, match=r"pubsubcache\.0001_initial.*: run manage\.py migrate\.$"):
        database.require(fresh)
    if is_sqlite(fresh):
        assert not path(fresh).parent.exists()
    make_older(fresh)
    before = tables(fresh)
    with pytest.raises(MigrationsPending, match=r"pubsubcache\.0001_initial"):
        database.require(fresh)
    assert tables(fresh) == before
    database.prepare(fresh)
    database.require(fresh)


def test_check_refuses_a_newer_database(fresh: str) -> None:
    database.prepare(fresh, whole_site=True)
    MigrationRecorder(connections[fresh]).record_applied("pubsubcache", "9999_from_the_future")
    with pytest.raises(MigrationsPending, match=r"newer.*pubsubcache\.9999_from_the_future"):
        database.require(fresh)


PREPARE = """
import django
django.setup()
from pubsubcache import database
print(len(database.prepare(whole_site=True)))
"""


@pytest.mark.parametrize("older", [False, True])
def test_concurrent_starts_do_not_collide(fresh: str, older: bool) -> None:
    if older:
        make_older(fresh)
        connections[fresh].close()
    environment = {**os.environ, "DATABASE_URL": url(fresh), "DJANGO_SETTINGS_MODULE": "project.settings"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PREPARE],
            cwd=MANAGE.parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    outcomes = [process.communicate(timeout=TIMEOUT) for process in processes]
    for process, (_, complaints) in zip(processes, outcomes, strict=True):
        assert process.returncode == 0, complaints
    applied = sorted(int(printed) for printed, _ in outcomes)
    assert applied[:3] == [0, 0, 0]
    assert applied[3] > 0
    assert database.unapplied(fresh, whole_site=True) == []
    if is_sqlite(fresh):
        assert len(copies(fresh)) == int(older)
