"""Test rebuilding the full text index: by command, in another language, after a migration that replaced the table."""

import io
import json
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.core.management.base import SystemCheckError
from django.db import connection
from django.db.models.signals import post_migrate

from pubsubcache import checks
from pubsubcache.lookups import snippets
from pubsubcache.models import Account, PubsubItem, PubsubNode
from tests.integration.test_full_text import check_index

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture(autouse=True)
def _items(db: None) -> None:
    account = Account.objects.create(jid="alice@example.org")
    node = PubsubNode.objects.create(account=account, service="s", name="n")
    for name, text in {"run": "The runners were running in the snow", "quiet": "Rien ne bouge", "empty": ""}.items():
        parsed = {"title": name, "tags": [name]}
        PubsubItem.objects.create(node=node, name=name, data="<item/>", text=text, parsed=parsed)
    connection.check_constraints()  # now, as PostgreSQL alters no table with pending constraint checks


def find(query: str) -> list[str]:
    return sorted(PubsubItem.objects.full_text(query).values_list("name", flat=True))


def reindex() -> Any:
    out = io.StringIO()
    call_command("pubsub_reindex", "-O", "json", stdout=out)
    return json.loads(out.getvalue())


def test_reindex_restores_a_lost_index() -> None:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("INSERT INTO pubsubcache_words (pubsubcache_words) VALUES ('delete-all')")
        else:
            cursor.execute("ALTER TABLE pubsubcache_pubsubitem DROP COLUMN search")
            cursor.execute("ALTER TABLE pubsubcache_pubsubitem ADD COLUMN search tsvector")
    assert find("snow") == []
    assert reindex() == {"items": 3}
    assert find("snow") == ["run"]
    PubsubItem.objects.filter(name="quiet").update(text="snow")
    assert find("snow") == ["quiet", "run"]
    check_index()


def test_number_of_items_is_printed() -> None:
    out = io.StringIO()
    call_command("pubsub_reindex", stdout=out)
    assert out.getvalue() == "3 items indexed.\n"


def test_index_in_another_language(settings: Any) -> None:
    """Searches use the language of the index until it is rebuilt in that of the settings."""
    settings.PUBSUBCACHE_SEARCH_LANGUAGE = "english"
    assert (find("run"), find("runner"), find("snowing")) == (["run"], [], [])
    reindex()
    stems = connection.vendor == "postgresql"
    assert find("ran OR snowing") == (["run"] if stems else [])
    assert find("runner") == (["run"] if stems else [])
    assert find("the") == ([] if stems else ["run"])
    assert find('"runners in the snow"') == []
    assert find('"running in the snow"') == ["run"]
    if stems:
        found = PubsubItem.objects.full_text("runner snows").with_snippets().get()
        snippet = snippets.marked(found.snippet, "[", "]")  # type: ignore[attr-defined]
        assert snippet.startswith("The [runners] were")
        assert snippet.endswith("in the [snow]")


def test_an_unknown_language_is_refused(settings: Any) -> None:
    settings.PUBSUBCACHE_SEARCH_LANGUAGE = "klingon'; DROP TABLE x"
    if connection.vendor == "postgresql":
        with pytest.raises(CommandError, match=r"no text search configuration .*; it has .*english"):
            reindex()
    assert find("snow") == ["run"]


def test_check_of_the_language(settings: Any) -> None:
    assert checks.check_language(None, ["default"]) == []
    settings.PUBSUBCACHE_SEARCH_LANGUAGE = "english"
    found = [message.id for message in checks.check_language(None, ["default"])]
    assert found == (["pubsubcache.W003"] if connection.vendor == "postgresql" else [])


def test_check_of_fts5(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.check_fts5(None) == []
    monkeypatch.setattr("pubsubcache.lookups.fulltext.sqlite.is_available", lambda: False)
    if connection.vendor == "sqlite":
        with pytest.raises(SystemCheckError, match=r"pubsubcache\.E002.*FTS5"):
            call_command("check")
    else:
        assert checks.check_fts5(None) == []


def test_triggers_are_restored_after_a_migration_that_replaced_the_table() -> None:
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'pubsubcache%'")
            names = [name for (name,) in cursor.fetchall()]
            assert len(names) == 6
            for name in names:
                cursor.execute(f"DROP TRIGGER {name}")
    PubsubItem.objects.filter(name="quiet").update(text="snow", parsed={"tags": ["white"]})
    app = apps.get_app_config("pubsubcache")
    post_migrate.send(app, app_config=app, using="default")
    assert find("snow") == ["quiet", "run"]
    assert PubsubItem.objects.tagged("white").get().name == "quiet"
    PubsubItem.objects.filter(name="quiet").update(text="", parsed={"tags": ["black"]})
    assert find("snow") == ["run"]
    assert PubsubItem.objects.tagged("black").get().name == "quiet"
    check_index()
