"""Test that migrations work forwards and backwards with data, and match the models."""

import ast
import io
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import connections
from django.db.migrations import AlterModelOptions, RunPython
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from pubsubcache.lookups import hotkeys
from pubsubcache.lookups.fulltext import schema, sqlite
from pubsubcache.models import (
    Account,
    AnalyserChoice,
    PendingUnsubscription,
    PubsubEvicted,
    PubsubItem,
    PubsubNode,
    PubsubTombstone,
    ReparseRun,
)
from pubsubcache.models.traits import TRAITS
from tests.integration.databases import fresh_database

pytestmark = pytest.mark.both_databases

APP = "pubsubcache"
MIGRATIONS = Path(__file__).resolve().parents[2] / "pubsubcache" / "migrations"


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
    """Add a row to every table."""
    account = Account.objects.using(alias).create(jid="alice@example.org", password="secret")
    node = PubsubNode.objects.using(alias).create(
        account=account, service="s", name="n", extra={"a": ["b"]}, sync_state="COMPLETED", checked_at=timezone.now()
    )
    of_node: dict[str, Any] = {"node": node, "name": "i", "position": 1}
    PubsubItem.objects.using(alias).create(**of_node, data="<item/>", parsed={"title": "x", "tags": [1]}, text="x y")
    PubsubEvicted.objects.using(alias).create(**of_node, created=timezone.now(), updated=timezone.now())
    PubsubTombstone.objects.using(alias).create(node=node, name="i", revision=1)
    AnalyserChoice.objects.using(alias).create(analyser="microblog", to_sync=False)
    PendingUnsubscription.objects.using(alias).create(account=account, service="s", name="n")
    ReparseRun.objects.using(alias).create(token="x", filters={"node": ["n"]})


@pytest.mark.django_db
def test_models_have_no_changes_without_migration() -> None:
    out = io.StringIO()
    call_command("makemigrations", "--check", "--dry-run", stdout=out)
    assert "No changes" in out.getvalue()


def test_all_migrations_can_be_applied_and_reverted(fresh: str) -> None:
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


def test_each_step_backwards_and_forwards_keeps_the_data(fresh: str) -> None:
    """Reverting a migration may remove only what it added."""
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


def test_old_rows_are_found_after_migrations(fresh: str) -> None:
    """Rows from before a migration have the keys that it adds, which disappear when it is reverted."""
    migrate(fresh, "0001_initial")
    old = MigrationExecutor(connections[fresh]).loader.project_state((APP, "0001_initial")).apps
    account = old.get_model(APP, "Account").objects.using(fresh).create(jid="alice@example.org")
    node = old.get_model(APP, "PubsubNode").objects.using(fresh).create(account=account, service="s", name="n")
    for name, parsed, text in [
        ("text", {"title": "Winter", "tags": ["a", "a", "b"], "published": "2026-01-31T12:00:00Z"}, "Winter lights"),
        ("odd", {"title": ["x"], "tags": "a", "author": 1, "start": None}, "an élan"),
        ("large", {"title": "x" * 10_000, "tags": ["x" * 10_000]}, "x" * 10_000),
        ("none", None, ""),
    ]:
        items = old.get_model(APP, "PubsubItem").objects.using(fresh)
        items.create(node=node, name=name, data="<item/>", parsed=parsed, text=text)
    for _ in range(2):
        migrate(fresh)
        found = PubsubItem.objects.using(fresh)
        assert found.get(parsed_title="Winter").name == "text"
        assert found.get(parsed_published__startswith="2026").name == "text"
        assert found.tagged("a", "b").get().name == "text"
        assert found.containing({"tags": "a"}).get().name == "odd"
        assert found.full_text("winter").get().name == "text"
        assert found.full_text("elan").get().name == "odd"
        assert found.get(parsed_title="x" * 500).name == "large"
        migrate(fresh, "0001_initial")
        assert {"pubsubcache_words", "pubsubcache_tag"}.isdisjoint(tables(fresh))
        assert old.get_model(APP, "PubsubItem").objects.using(fresh).count() == 4


def test_nodes_chosen_by_hand_and_own_nodes_are_pinned(fresh: str) -> None:
    migrate(fresh, "0001_initial")
    old = MigrationExecutor(connections[fresh]).loader.project_state((APP, "0001_initial")).apps
    account = old.get_model(APP, "Account").objects.using(fresh).create(jid="alice@example.org")
    nodes = old.get_model(APP, "PubsubNode").objects.using(fresh)
    nodes.create(account=account, service="s", name="by chance", extra={"to_sync": True})
    nodes.create(account=account, service="s", name="by hand", extra={"by_hand": True})
    nodes.create(account=account, service="alice@example.org", name="own")
    migrate(fresh)
    pinned = PubsubNode.objects.using(fresh).filter(pinned=True)
    assert set(pinned.values_list("name", flat=True)) == {"by hand", "own"}


def test_learned_traits_move_to_columns_and_back(fresh: str) -> None:
    learned = {
        "to_sync": True, "by_analyser": False, "by_hand": True, "registry": "f", "reason": "", "rsm": True,
        "cursors": "ids", "publishers": False, "payload_type": "", "moves": False, "listed": 5, "limit": 5,
        "confirmed": 2**33, "probe": ["a", "b"], "unknown": [1],
    }  # fmt: skip
    odd = {"to_sync": "yes", "by_analyser": 1, "registry": None, "probe": ["a"], "moves": "", "confirmed": -1}
    before = {"new": {}, "learned": learned, "odd": odd} | {
        f"n{n}": {"to_sync": False, "probe": []} for n in range(600)
    }
    migrate(fresh, "0009_pinned")
    old = MigrationExecutor(connections[fresh]).loader.project_state((APP, "0009_pinned")).apps
    account = old.get_model(APP, "Account").objects.using(fresh).create(jid="alice@example.org")
    model = old.get_model(APP, "PubsubNode")
    rows = [model(account=account, service="s", name=name, extra=extra) for name, extra in before.items()]
    model.objects.using(fresh).bulk_create(rows)
    migrate(fresh)
    nodes = {node.name: node for node in PubsubNode.objects.using(fresh)}
    node = nodes["learned"]
    assert (node.to_sync, node.by_analyser, node.by_hand, node.registry_fingerprint) == (True, False, True, "f")
    assert (node.analysis_reason, node.moves, node.probe, node.confirmed_position) == ("", False, ["a", "b"], 2**33)
    assert node.extra == {name: learned[name] for name in (*TRAITS, "unknown")}
    for node in (nodes["new"], nodes["odd"]):
        assert (node.to_sync, node.by_analyser, node.by_hand, node.registry_fingerprint) == (None, None, False, None)
        assert (node.analysis_reason, node.moves, node.probe, node.confirmed_position) == (None, None, None, 0)
        assert node.extra == before[node.name]
    moved = PubsubNode.objects.using(fresh).filter(name__startswith="n", to_sync=False, probe__isnull=False, extra={})
    assert moved.count() == 600
    migrate(fresh, "0009_pinned")
    assert dict(model.objects.using(fresh).values_list("name", "extra")) == before


def test_nodes_analysed_before_are_analysed_again(fresh: str) -> None:
    """What they looked at is unknown, and the analysis survives the way back."""
    migrate(fresh, "0011_learned_data")
    old = MigrationExecutor(connections[fresh]).loader.project_state((APP, "0011_learned_data")).apps
    account = old.get_model(APP, "Account").objects.using(fresh).create(jid="alice@example.org")
    model = old.get_model(APP, "PubsubNode")
    found = {"analyser": "", "registry_fingerprint": "f", "analysis_reason": "No analyser matches."}
    model.objects.using(fresh).create(account=account, service="s", name="n", **found)
    migrate(fresh)
    nodes = PubsubNode.objects.using(fresh)
    assert nodes.values_list("sample_namespace", "parse_anew", *found).get() == (None, False, *found.values())
    nodes.update(sample_namespace="urn:example:note", parse_anew=True)
    migrate(fresh, "0011_learned_data")
    assert model.objects.using(fresh).values(*found).get() == found
    migrate(fresh)
    assert nodes.values_list("sample_namespace", "parse_anew").get() == (None, False)


def test_staff_of_before_see_the_accounts_of_all_owners(fresh: str) -> None:
    """Whoever had a permission of the app keeps what it allowed; nobody else gets the new one."""
    call_command("migrate", database=fresh, verbosity=0, interactive=False)
    migrate(fresh, "0013_reparse_run")
    permissions = Permission.objects.using(fresh)
    assert not permissions.filter(codename="all_accounts").exists()
    view, other = permissions.get(codename="view_pubsubitem"), permissions.get(codename="view_user")
    group = Group.objects.using(fresh).create(name="editors")
    group.permissions.set([permissions.get(codename="purge_pubsubnode"), permissions.get(codename="change_account")])
    members = {name: User.objects.using(fresh).create(username=name) for name in ("by herself", "by group", "nobody")}
    members["by herself"].user_permissions.set([view, other])
    members["by group"].groups.set([group])
    members["nobody"].user_permissions.set([other])
    for _ in range(2):
        migrate(fresh)
        granted = permissions.get(codename="all_accounts")
        assert granted.name == "Can see and steer the accounts of all owners"
        assert [user.username for user in granted.user_set.all()] == ["by herself"]
        assert [one.name for one in granted.group_set.all()] == ["editors"]
        migrate(fresh, "0013_reparse_run")
        assert not permissions.filter(codename="all_accounts").exists()
    assert group.permissions.count() == 2
    assert members["by herself"].user_permissions.count() == 2


def test_permissions_are_granted_with_any_user_model() -> None:
    """Users of a site's own model may have no permissions, only the groups of Django have them then."""
    granting = import_module("pubsubcache.migrations.0014_all_accounts")

    class Apps:
        def get_model(self, label: str, name: str = "") -> Any:
            return Group if name == "Group" else Account  # a model without `user_permissions`

    assert list(granting.holders(Apps())) == [(Group, "permissions")]


def test_sql_of_migrations_can_be_shown(fresh: str) -> None:
    """Showing the SQL must change nothing."""
    for name in ("0001_initial", "0002_hot_keys", "0003_full_text"):
        migrate(fresh, "zero" if name == "0001_initial" else "0001_initial")
        before = tables(fresh)
        assert call_command("sqlmigrate", APP, name, database=fresh, stdout=io.StringIO())
        assert tables(fresh) == before
        migrate(fresh, "0001_initial")


def last(executor: MigrationExecutor) -> str:
    return next(name for app, name in executor.loader.graph.leaf_nodes(APP))


def test_migrations_change_either_schema_or_data() -> None:
    """Not every database can run a migration that changes both in one transaction."""
    for (app, name), migration in MigrationLoader(None).disk_migrations.items():
        if app == APP:
            assert all(operation.reversible for operation in migration.operations), name
            changes = [one for one in migration.operations if not isinstance(one, AlterModelOptions)]
            assert len({isinstance(operation, RunPython) for operation in changes}) == 1, name


def modules_imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, path
            found.add(node.module or "")
    return found


@pytest.mark.parametrize("path", sorted(MIGRATIONS.rglob("*.py")), ids=lambda path: path.stem)
def test_migrations_import_only_frozen_code(path: Path) -> None:
    frozen = "pubsubcache.migrations._frozen"
    for module in modules_imported(path):
        root = module.partition(".")[0]
        allowed = root in ("django", "django_jsonfield_backport") or root in sys.stdlib_module_names
        assert allowed or f"{module}.".startswith(f"{frozen}."), f"{path.name} imports {module}"


def definitions(alias: str) -> set[tuple[str, ...]]:
    """Return the SQL of the full text index and of the tags."""
    queries = {
        "sqlite": ["SELECT name, sql FROM sqlite_master WHERE name LIKE 'pubsubcache_words%' OR type = 'trigger'"],
        "postgresql": [
            "SELECT proname, pg_get_functiondef(oid) FROM pg_proc WHERE proname LIKE 'pubsubcache%'",
            "SELECT indexname, indexdef FROM pg_indexes WHERE indexname = 'pubsubcache_item_search'",
            """SELECT column_name, data_type, generation_expression FROM information_schema.columns
            WHERE table_name = 'pubsubcache_pubsubitem' AND column_name = 'search'""",
        ],
    }
    with connections[alias].cursor() as cursor:
        found: set[tuple[str, ...]] = set()
        for query in queries[connections[alias].vendor]:
            cursor.execute(query)
            found |= set(cursor.fetchall())
    return found


def test_app_creates_the_same_indexes_as_migrations(fresh: str) -> None:
    """If this fails, add new copies of the SQL and a migration that uses them; never change existing copies."""
    migrate(fresh)
    migrated = definitions(fresh)
    assert len(migrated) >= 5
    schema.rebuild(fresh)
    if connections[fresh].vendor == "sqlite":
        with connections[fresh].cursor() as cursor:
            for name in (*sqlite.TRIGGERS, *hotkeys.TRIGGERS_OF_SQLITE):
                cursor.execute(f"DROP TRIGGER {name}")
        schema.repair(fresh)
    assert definitions(fresh) == migrated


def test_app_has_the_same_generated_columns_as_migrations(fresh: str) -> None:
    executor = MigrationExecutor(connections[fresh])
    migrated = executor.loader.project_state((APP, last(executor))).apps.get_model(APP, "PubsubItem")
    with connections[fresh].schema_editor(collect_sql=True) as editor:
        for name in hotkeys.COLUMNS:
            expected = editor.column_sql(migrated, migrated._meta.get_field(name))
            assert editor.column_sql(PubsubItem, PubsubItem._meta.get_field(name)) == expected
