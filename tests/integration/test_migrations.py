"""The schema: forwards, backwards, with data in it, and never behind the models."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connections
from django.db.migrations import RunPython
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from pubsubcache.models import Account, PendingUnsubscription, PubsubEvicted, PubsubItem, PubsubNode, PubsubTombstone
from tests.integration.databases import fresh_database

APP = "pubsubcache"


@pytest.fixture
def fresh(request: pytest.FixtureRequest, tmp_path: Path, django_db_setup: None) -> Iterator[str]:
    with fresh_database(request, tmp_path) as alias:
        Path(str(connections[alias].settings_dict["NAME"])).parent.mkdir(parents=True, exist_ok=True)
        yield alias


def migrate(alias: str, *target: str) -> None:
    call_command("migrate", APP, *target, database=alias, verbosity=0, interactive=False)


def tables(alias: str) -> set[str]:
    return {name for name in connections[alias].introspection.table_names() if name.startswith(f"{APP}_")}


def indexes(alias: str) -> set[tuple[str, str]]:
    with connections[alias].cursor() as cursor:
        return {
            (table, name)
            for table in tables(alias)
            for name in connections[alias].introspection.get_constraints(cursor, table)
        }


def fill(alias: str) -> None:
    """Put something into every table."""
    account = Account.objects.using(alias).create(jid="alice@example.org", password="secret")
    node = PubsubNode.objects.using(alias).create(
        account=account, service="s", name="n", extra={"a": ["b"]}, sync_state="COMPLETED", checked_at=timezone.now()
    )
    of_node: dict[str, Any] = {"node": node, "name": "i", "position": 1}
    PubsubItem.objects.using(alias).create(**of_node, data="<item/>", parsed={"title": "x", "tags": [1]}, text="x y")
    PubsubEvicted.objects.using(alias).create(**of_node, created=timezone.now(), updated=timezone.now())
    PubsubTombstone.objects.using(alias).create(node=node, name="i", revision=1)
    PendingUnsubscription.objects.using(alias).create(account=account, service="s", name="n")


@pytest.mark.django_db
def test_the_models_have_no_changes_that_no_migration_has() -> None:
    out = io.StringIO()
    call_command("makemigrations", "--check", "--dry-run", stdout=out)
    assert "No changes" in out.getvalue()


def test_from_nothing_and_back_with_data(fresh: str) -> None:
    call_command("migrate", database=fresh, verbosity=0, interactive=False)
    made, with_indexes = tables(fresh), indexes(fresh)
    assert {model._meta.db_table for model in apps.get_app_config(APP).get_models()} <= made
    fill(fresh)
    migrate(fresh, "zero")
    assert tables(fresh) == set()
    migrate(fresh)
    assert tables(fresh) == made
    assert {table for table, _ in indexes(fresh)} == {table for table, _ in with_indexes}
    assert not PubsubItem.objects.using(fresh).exists()
    fill(fresh)


def test_every_step_back_and_forth_keeps_the_data(fresh: str) -> None:
    """From the first migration on: what a step adds may go with it, the rest stays."""
    executor = MigrationExecutor(connections[fresh])
    names = [name for app, name in executor.loader.graph.forwards_plan((APP, last(executor))) if app == APP]
    call_command("migrate", database=fresh, verbosity=0, interactive=False)
    fill(fresh)
    before = list(PubsubItem.objects.using(fresh).values())
    for name in reversed(names):
        migrate(fresh, name)
    for name in names:
        migrate(fresh, name)
    assert list(PubsubItem.objects.using(fresh).values()) == before
    assert Account.objects.using(fresh).get().password == "secret"


def last(executor: MigrationExecutor) -> str:
    return next(name for app, name in executor.loader.graph.leaf_nodes(APP))


def test_schema_and_data_are_apart() -> None:
    """A migration that changes both can't be run in one transaction everywhere."""
    for (app, name), migration in MigrationLoader(None).disk_migrations.items():
        if app == APP:
            assert all(operation.reversible for operation in migration.operations), name
            assert len({isinstance(operation, RunPython) for operation in migration.operations}) == 1, name
