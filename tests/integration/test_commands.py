"""Test commands that need no service: output, changes and exit codes."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.utils import timezone, translation

from pubsubcache.analysers import Analyser, registry
from pubsubcache.exceptions import InvalidRequest
from pubsubcache.lookups.conditions.timepatterns import point_in_time
from pubsubcache.models import Account, PubsubItem, PubsubNode
from tests.servers.manage import MANAGE, environment

ATOM = "http://www.w3.org/2005/Atom"
NODE = "urn:xmpp:microblog:0"
ALICE = "alice@capulet.example"
BOB = "bob@montague.example"


def item_xml(name: str, title: str) -> str:
    return (
        f'<item xmlns="http://jabber.org/protocol/pubsub" id="{name}">'
        f'<entry xmlns="{ATOM}"><title>{title}</title><id>{name}</id></entry></item>'
    )


def make_account(jid: str = ALICE, **fields: Any) -> Account:
    return Account.objects.create(jid=jid, **{"password": "secret of the house", **fields})


def make_node(account: Account, name: str = NODE, *, titles: tuple[str, ...] = (), **fields: Any) -> PubsubNode:
    defaults: dict[str, Any] = {
        "service": account.jid,
        "sync_state": "COMPLETED",
        "analyser": "microblog",
        "type": "blog",
        "checked_at": timezone.now(),
        "item_count": len(titles),
        "to_sync": True,
        "registry_fingerprint": registry.fingerprint(),
        "extra": {"cursors": "ids"},
    }
    node = PubsubNode.objects.create(account=account, name=name, **{**defaults, **fields})
    for place, title in enumerate(titles):
        PubsubItem.objects.create(
            node=node,
            name=f"item-{place}",
            data=item_xml(f"item-{place}", title),
            parsed={"title": title},
            position=place,
        )
    return node


def call(*arguments: str, **options: Any) -> tuple[str, str]:
    """Run a command in this process; return what it wrote to stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    call_command(*arguments, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def call_json(*arguments: str, **options: Any) -> Any:
    return json.loads(call(*arguments, "-O", "json", **options)[0])


def exit_code(*arguments: str, **options: Any) -> tuple[int, str]:
    """Run a command that fails; return its exit code and error message."""
    with pytest.raises(CommandError) as failed:
        call(*arguments, **options)
    return failed.value.returncode, str(failed.value)


pytestmark = pytest.mark.usefixtures("live_database")


# pubsub_get, from the cache


def test_cached_page_has_exactly_the_documented_keys() -> None:
    make_node(make_account(), titles=("Éléphant 🐘", "Two", "Three"))
    page = call_json("pubsub_get", "-n", NODE, "-m", "2")
    assert list(page) == ["service", "node", "uri", "origin", "stale", "state", "complete", "rsm", "items", "left_out"]
    assert page["uri"] == f"xmpp:{ALICE}?;node=urn%3Axmpp%3Amicroblog%3A0"
    assert (page["service"], page["node"], page["origin"], page["stale"]) == (ALICE, NODE, "cache", False)
    assert (page["state"], page["complete"]) == ("COMPLETED", False)
    assert page["rsm"] == {"first": "item-0", "last": "item-1", "index": 0, "count": 3}
    first = page["items"][0]
    assert list(first) == ["id", "xml", "parsed", "publisher", "created", "updated"]
    assert (first["id"], first["parsed"], first["publisher"]) == ("item-0", {"title": "Éléphant 🐘"}, None)
    assert first["xml"] == item_xml("item-0", "Éléphant 🐘")
    assert first["created"].endswith("Z")
    assert datetime.fromisoformat(first["created"]) == PubsubItem.objects.get(name="item-0").created


@pytest.mark.parametrize(
    ("options", "ids"),
    [
        ((), [0, 1, 2, 3]),
        (("-i", "item-2"), [2]),
        (("-i", "item-2", "-i", "nothing", "-i", "item-0"), [2, 0]),
        (("-M", "2"), [2, 3]),
        (("-m", "3", "--before", ""), [1, 2, 3]),
        (("-m", "1", "--before", "item-2"), [1]),
        (("-m", "2", "--after", "item-0"), [1, 2]),
        (("--index", "0", "-m", "1"), [0]),
        (("--index", "2"), [2, 3]),
        (("-m", "0"), []),
        (("-o", "modification"), [0, 1, 2, 3]),
    ],
)
def test_options_select_items(options: tuple[str, ...], ids: list[int]) -> None:
    make_node(make_account(), titles=("a", "b", "c", "d"))
    page = call_json("pubsub_get", "-n", NODE, *options)
    assert [item["id"] for item in page["items"]] == [f"item-{number}" for number in ids]
    assert page["origin"] == "cache"


def test_xml_is_one_document() -> None:
    make_node(make_account(), name='blog/"a"&<b>', titles=("One &amp; only", "Two"))
    root = fromstring(call("pubsub_get", "-n", 'blog/"a"&<b>', "-O", "xml")[0])
    assert root.tag == "{http://jabber.org/protocol/pubsub}items"
    assert root.get("node") == 'blog/"a"&<b>'
    assert [item.get("id") for item in root] == ["item-0", "item-1"]
    assert [title.text for title in root.iter(f"{{{ATOM}}}title")] == ["One & only", "Two"]


def test_a_table_has_titles_a_footer_and_no_terminal_commands() -> None:
    make_node(make_account(), titles=("One [bold]red[/bold]", "Two\x9b31m"))
    out, _ = call("pubsub_get", "-n", NODE)
    assert "One [bold]red[/bold]" in out
    assert "\x9b" not in out
    assert "\x1b" not in out
    assert out.splitlines()[-1].startswith("2 items; from the cache; state COMPLETED; checked 20")


def test_uncached_node_with_cache_only_exits_with_3() -> None:
    make_account()
    code, sentence = exit_code("pubsub_get", "-n", "elsewhere", "--cache-only")
    assert code == 3
    assert sentence == f"The cache cannot answer this for {ALICE} elsewhere."
    assert not PubsubNode.objects.exists()


@pytest.mark.parametrize(
    "options",
    [
        ("-M", "-1"),
        ("-M", "0"),
        ("-m", "-1"),
        ("--index", "-1"),
        ("-i", "a", "-M", "1"),
        ("-i", "a", "-m", "1"),
        ("--after", "a", "--before", "b"),
        ("--before", "", "--index", "0"),
        ("-s", "not a jid"),
        ("-s", "@nobody"),
        ("-a", "no account"),
        ("-a", BOB),
        ("-M", "many"),
        ("-o", "alphabet"),
        ("--no-cache", "--cache-only"),
        ("--cache-o",),
        ("-O", "yaml"),
        ("-n", "x" * 3000),
        ("-n", ""),
    ],
)
def test_contradictory_options_are_a_usage_error(options: tuple[str, ...]) -> None:
    make_account()
    code, sentence = exit_code("pubsub_get", "-n", NODE, *options)
    assert code == 1
    assert sentence
    assert "\n" not in sentence


def test_account_may_be_omitted_if_there_is_only_one() -> None:
    assert "pubsub_account add" in exit_code("pubsub_get", "-n", NODE)[1]
    make_node(make_account(), titles=("of alice",))
    assert call_json("pubsub_get", "-n", NODE)["items"][0]["parsed"] == {"title": "of alice"}
    make_node(make_account(BOB), titles=("of bob",))
    code, sentence = exit_code("pubsub_get", "-n", NODE)
    assert code == 1
    assert ALICE in sentence
    assert BOB in sentence
    assert call_json("pubsub_get", "-n", NODE, "-a", BOB.upper())["items"][0]["parsed"] == {"title": "of bob"}


def test_a_worker_that_lost_its_session_makes_the_answer_stale() -> None:
    account = make_account(worker="w", heartbeat=timezone.now(), status="offline")
    make_node(account, titles=("One",), subscribed=True, checked_at=timezone.now() - timedelta(hours=1))
    page = call_json("pubsub_get", "-n", NODE)
    assert (page["stale"], page["origin"], len(page["items"])) == (True, "cache", 1)


def test_options_from_python() -> None:
    make_node(make_account(), titles=("a", "b", "c"))
    assert "item-2" in call("pubsub_get", node=NODE, max_items=1)[0]
    assert exit_code("pubsub_get", node=NODE, max_items=-1)[0] == 1
    assert exit_code("pubsub_get", node=NODE, service="not a jid")[0] == 1


# pubsub_nodes


def test_nodes_in_json_have_exactly_the_documented_keys() -> None:
    account = make_account()
    make_node(account, titles=("One",), subscribed=True)
    make_node(account, "z", sync_state="ERROR", sync_error="The service refused: forbidden.", type="", analyser="")
    first, second = call_json("pubsub_nodes")
    assert first == {
        "account": ALICE,
        "service": ALICE,
        "node": NODE,
        "state": "COMPLETED",
        "items": 1,
        "left_out": 0,
        "type": "blog",
        "subtype": "",
        "analyser": "microblog",
        "policy": "auto",
        "subscribed": True,
        "checked_at": PubsubNode.objects.get(name=NODE).checked_at.isoformat().replace("+00:00", "Z"),
        "error": None,
    }
    assert (second["state"], second["error"]) == ("ERROR", "The service refused: forbidden.")


@pytest.mark.both_databases
def test_nodes_can_be_filtered() -> None:
    account = make_account()
    make_node(account, "a")
    make_node(account, "b", sync_state=None, type="event")
    make_node(account, "c", sync_state="ERROR", type="")
    make_node(make_account(BOB), "d", service="pubsub.montague.example")

    def names(*options: str) -> list[str]:
        return [row["node"] for row in call_json("pubsub_nodes", *options)]

    assert names() == ["a", "b", "c", "d"]
    assert names("--state", "none") == ["b"]
    assert names("--state", "none", "--state", "error") == ["b", "c"]
    assert names("-t", "") == ["c"]
    assert names("-t", "event", "-t", "") == ["b", "c"]
    assert names("-a", BOB) == ["d"]
    assert names("-s", "PubSub.montague.example") == ["d"]
    assert names("-n", "a", "-n", "d") == ["a", "d"]
    assert names("-n", "a", "-s", "pubsub.montague.example") == []
    assert exit_code("pubsub_nodes", "--state", "broken")[0] == 1
    assert "COMPLETED" in call("pubsub_nodes")[0]


def test_commands_speak_english() -> None:
    make_node(make_account(), checked_at=None)
    with translation.override("fr"):
        assert "stale" in call("pubsub_nodes")[0]
        assert translation.get_language() == "fr"


# pubsub_purge


def days_ago(number: int) -> datetime:
    return timezone.now() - timedelta(days=number)


@pytest.mark.both_databases
def test_purge_counts_and_removes_what_all_filters_choose() -> None:
    account = make_account()
    old = make_node(account, "old", titles=("a", "b", "c"))
    make_node(account, "events", titles=("d",), type="event")
    make_node(account, "untyped", titles=("e", "f"), type="", subtype="comment")
    old.items.filter(name="item-0").update(created=days_ago(400), updated=days_ago(10))
    old.items.filter(name="item-1").update(created=days_ago(400), updated=days_ago(300))

    def would_remove(*options: str) -> int:
        answer = call_json("pubsub_purge", "--dry-run", *options)
        assert list(answer) == ["would_remove"]
        return int(answer["would_remove"])

    assert would_remove() == 6
    assert would_remove("-t", "event", "-t", "") == 3
    assert would_remove("-t", "", "-S", "comment") == 2
    assert would_remove("-t", "event", "-S", "comment") == 0
    assert would_remove("-a", ALICE, "-s", ALICE, "-n", "old") == 3
    assert would_remove("--created-before", "1 year ago") == 2
    assert would_remove("--created-before", "1 year ago", "--updated-before", "6 months ago") == 1
    assert would_remove("--updated-before", days_ago(100).isoformat()) == 1
    assert PubsubItem.objects.count() == 6
    assert call_json("pubsub_purge", "--noinput", "--updated-before", "6 months ago") == {"removed": 1}
    old.refresh_from_db()
    assert (old.item_count, old.evicted_count, old.sync_state) == (2, 1, "COMPLETED")
    assert set(old.items.values_list("name", flat=True)) == {"item-0", "item-2"}


@pytest.mark.both_databases
def test_purge_is_strictly_before() -> None:
    node = make_node(make_account(), titles=("a",))
    at = datetime(2024, 5, 31, 12, 0, 0, 123456, tzinfo=UTC)
    node.items.update(created=at)
    assert call_json("pubsub_purge", "--dry-run", "--created-before", at.isoformat()) == {"would_remove": 0}
    later = (at + timedelta(microseconds=1)).isoformat()
    assert call_json("pubsub_purge", "--dry-run", "--created-before", later) == {"would_remove": 1}


@pytest.mark.parametrize(("answer", "left"), [("yes\n", 0), ("Y\n", 0), ("no\n", 2), ("\n", 2), ("", 2)])
def test_purge_asks_first(answer: str, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    make_node(make_account(), titles=("a", "b"))
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
    if left:
        assert exit_code("pubsub_purge") == (1, "Nothing was done.")
    else:
        out, err = call("pubsub_purge")
        assert err == "Remove 2 items from the cache? [yes/no] "
        assert out == "2 items removed from the cache.\n"
    assert PubsubItem.objects.count() == left


@pytest.mark.parametrize(
    "written", ["yesterday-ish", "6 months", "3 fortnights ago", "", "999999999 years ago", "2024-13-01"]
)
def test_invalid_time_is_a_usage_error(written: str) -> None:
    code, sentence = exit_code("pubsub_purge", "--noinput", "--created-before", written)
    assert code == 1
    assert "is not a time" in sentence


@pytest.mark.both_databases
def test_times_are_in_the_sites_time_zone(settings: Any) -> None:
    settings.TIME_ZONE = "America/New_York"
    timezone.get_default_timezone.cache_clear()
    try:
        assert point_in_time("2024-01-01") == datetime(2024, 1, 1, 5, tzinfo=UTC)
        assert point_in_time("2024-06-01 12:30") == datetime(2024, 6, 1, 16, 30, tzinfo=UTC)
        assert point_in_time("2024-06-01T12:30:00Z") == datetime(2024, 6, 1, 12, 30, tzinfo=UTC)
    finally:
        timezone.get_default_timezone.cache_clear()
    now = timezone.now()
    assert now - point_in_time("2 Weeks AGO") - timedelta(days=14) < timedelta(minutes=1)
    assert timedelta(days=180) < now - point_in_time("6 months ago") < timedelta(days=186)
    with pytest.raises(InvalidRequest):
        point_in_time("0001-01-01T00:00:00+12:00")


# pubsub_reset


@pytest.mark.both_databases
def test_reset_forgets_nodes_and_keeps_pending_unsubscriptions() -> None:
    alice = make_account(host="127.0.0.1", port=1)
    make_node(alice, "a", titles=("x",), subscribed=True)
    make_node(alice, "b")
    make_node(make_account(BOB), "c", subscribed=True)
    out, err = call("pubsub_reset", "--noinput", "-a", ALICE, "-O", "json")
    assert json.loads(out) == {"forgotten": 2, "unsubscribed": 0, "pending": 1}
    assert "A worker will end 1 subscription of alice@capulet.example. 127.0.0.1:1 cannot be reached" in err
    assert list(PubsubNode.objects.values_list("name", flat=True)) == ["c"]
    assert list(alice.pending_unsubscriptions.values_list("service", "name")) == [(ALICE, "a")]
    assert not PubsubItem.objects.exists()
    assert call_json("pubsub_reset", "--noinput", "--keep-subscriptions") == {
        "forgotten": 1,
        "unsubscribed": 0,
        "pending": 0,
    }
    assert not Account.objects.get(jid=BOB).pending_unsubscriptions.exists()


def test_reset_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    make_node(make_account())
    monkeypatch.setattr(sys, "stdin", io.StringIO("no\n"))
    assert exit_code("pubsub_reset") == (1, "Nothing was done.")
    assert PubsubNode.objects.count() == 1


# pubsub_analysers, pubsub_reparse


def test_analysers_are_listed_in_order() -> None:
    account = make_account()
    make_node(account, titles=())
    make_node(account, "unknown", analyser="long-gone")
    second = Analyser(name="Second", type="test", namespace="urn:second", parser=lambda item, context: {})
    with registry.temporarily(second):
        out, err = call("pubsub_analysers", "-O", "json")
        rows = json.loads(out)
    assert [row["name"] for row in rows] == [analyser.name for analyser in [*registry.all(), second]]
    assert next(row for row in rows if row["name"] == "microblog") == {
        "name": "microblog",
        "type": "blog",
        "node": NODE,
        "namespace": ATOM,
        "to_sync": True,
        "choice": None,
        "parser": "pubsubcache.parsers.microblog.parse",
        "match_cb": "pubsubcache.analysers.builtin.mark_comments",
        "nodes": 1,
    }
    assert (rows[-1]["name"], rows[-1]["nodes"], rows[-1]["to_sync"], rows[-1]["match_cb"]) == (
        "second",
        0,
        False,
        None,
    )
    assert "long-gone" in err
    assert "microblog" in call("pubsub_analysers")[0]


def _shouting(item: Any, context: Any) -> dict[str, Any]:
    title = item.findtext(f".//{{{ATOM}}}title")
    if title == "bad":
        raise ValueError("a bad title")
    return {"title": title.upper(), "by": context.publisher, "where": [context.service, context.node]}


@pytest.mark.both_databases
def test_reparse_changes_only_what_a_parser_changed() -> None:
    account = make_account()
    node = make_node(account, "shouting", titles=("one", "bad", "TWO"), analyser="shouting")
    PubsubItem.objects.filter(name="item-0").update(publisher=BOB)
    PubsubItem.objects.filter(name="item-2").update(
        parsed={"where": [ALICE, "shouting"], "by": None, "title": "TWO"}, publisher="", text="TWO item-2"
    )
    left = make_node(account, "left", titles=("kept",), analyser="long-gone")
    before = list(PubsubItem.objects.order_by("pk").values_list("pk", "created", "updated", "data", "position"))
    with registry.temporarily(Analyser(name="shouting", type="test", node="shouting", parser=_shouting)):
        out, err = call("pubsub_reparse", "-O", "json")
        assert json.loads(out) == {"items": 3, "changed": 2, "errors": 1}
        assert "long-gone" in err
        assert call_json("pubsub_reparse") == {"items": 3, "changed": 0, "errors": 1}
        assert call_json("pubsub_reparse", "-n", "left") == {"items": 0, "changed": 0, "errors": 0}
        assert call_json("pubsub_reparse", "-t", "event") == {"items": 0, "changed": 0, "errors": 0}
    rows = {row.name: row for row in node.items.all()}
    assert rows["item-0"].parsed == {"title": "ONE", "by": BOB, "where": [ALICE, "shouting"]}
    assert (rows["item-1"].parsed, rows["item-1"].parse_error) == (None, "ValueError: a bad title")
    assert left.items.get().parsed == {"title": "kept"}
    after = list(PubsubItem.objects.order_by("pk").values_list("pk", "created", "updated", "data", "position"))
    assert after == before


@pytest.mark.both_databases
def test_reparse_goes_through_every_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsubcache.store.reparsing.BATCH", 3)
    make_node(make_account(), "shouting", titles=tuple("abcdefgh"), analyser="shouting")
    with registry.temporarily(Analyser(name="shouting", type="test", node="shouting", parser=_shouting)):
        assert call_json("pubsub_reparse") == {"items": 8, "changed": 8, "errors": 0}
    assert sorted(item.parsed["title"] for item in PubsubItem.objects.all()) == list("ABCDEFGH")
    words = PubsubItem.objects.order_by("pk").values_list("text", flat=True)
    assert list(words) == [f"{title} item-{number}" for number, title in enumerate("abcdefgh")]


@pytest.mark.both_databases
def test_reparse_skips_an_item_that_changed_during_it() -> None:
    node = make_node(make_account(), "shouting", titles=("old",), analyser="shouting")

    async def overtaken(item: Any, context: Any) -> dict[str, Any]:
        await node.items.aupdate(data=item_xml("item-0", "new"), parsed={"title": "NEW"})
        return {"title": "OLD"}

    with registry.temporarily(Analyser(name="shouting", type="test", node="shouting", parser=overtaken)):
        assert call_json("pubsub_reparse")["changed"] == 0
    assert node.items.get().parsed == {"title": "NEW"}


# pubsub_account


def test_an_account_is_added_listed_and_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("THE_PASSWORD", "s3cret-s3cret")
    out, err = call(
        "pubsub_account", "add", "Alice@Capulet.example", "--password-env", "THE_PASSWORD", "--insecure-tls"
    )
    assert (out, err) == (f"{ALICE} was added.\n", "")
    account = Account.objects.get()
    assert (account.jid, account.password, account.tls_verify, account.enabled) == (ALICE, "s3cret-s3cret", False, True)
    make_node(account)
    listed = call("pubsub_account", "list", "-O", "json")[0]
    assert json.loads(listed) == [
        {
            "jid": ALICE,
            "host": "",
            "port": None,
            "enabled": True,
            "status": "offline",
            "detail": "",
            "session_started": None,
            "nodes": 1,
            "waiting": 0,
        }
    ]
    assert "s3cret" not in listed + call("pubsub_account", "list")[0]
    assert json.loads(call("pubsub_account", "-O", "json", "list")[0])
    code, sentence = exit_code("pubsub_account", "add", ALICE, "--password-env", "THE_PASSWORD")
    assert (code, sentence) == (1, f"There is an account {ALICE} already.")
    monkeypatch.setenv("THE_PASSWORD", "another")
    call("pubsub_account", "password", ALICE, "--password-env", "THE_PASSWORD")
    assert Account.objects.get().password == "another"
    removed = call_json("pubsub_account", "remove", ALICE, "--noinput")
    assert removed == {"removed": ALICE, "nodes": 1, "unsubscribed": 0}
    assert not Account.objects.exists()
    assert exit_code("pubsub_account", "remove", ALICE, "--noinput")[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("not a jid",),
        ("capulet.example",),
        (f"{ALICE}/balcony",),
        (ALICE, "--port", "5222"),
        (ALICE, "--host", "h", "--port", "0"),
        (ALICE, "--host", "h", "--port", "65536"),
        (ALICE, "--host", "h" * 300),
        (ALICE, "--host", "not a host"),
        (ALICE, "--host", "example.org:5222"),
        (ALICE, "--ca-file", "/nowhere/ca.pem"),
        (ALICE, "--ca-file", "/"),
        (ALICE, "--ca-file", __file__),
        (ALICE, "--password-env", "NO_SUCH_VARIABLE"),
        (ALICE, "--password-env", "EMPTY_VARIABLE"),
        (ALICE, "--password", "on the command line"),
        (),
    ],
)
def test_an_account_that_cannot_be_added(arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY_VARIABLE", "")
    monkeypatch.setenv("THE_PASSWORD", "x")
    given = arguments if "--password-env" in arguments else (*arguments, "--password-env", "THE_PASSWORD")
    code, sentence = exit_code("pubsub_account", "add", *given)
    assert code == 1
    assert sentence
    assert not Account.objects.exists()


@pytest.mark.parametrize(("piped", "stored"), [("from a pipe\nand more", "from a pipe"), ("", None), ("\n", None)])
def test_a_password_from_a_pipe(piped: str, stored: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(piped))
    if stored is None:
        assert exit_code("pubsub_account", "add", ALICE) == (1, "The password is empty.")
    else:
        call("pubsub_account", "add", ALICE)
        assert Account.objects.get().password == stored


def test_a_ca_file_is_kept_by_its_full_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from project.sample.certificates import Certificates

    ca_file = Certificates.in_folder(tmp_path, ["capulet.example"]).ca_file
    monkeypatch.setenv("THE_PASSWORD", "x")
    monkeypatch.chdir(ca_file.parent)
    call("pubsub_account", "add", ALICE, "--password-env", "THE_PASSWORD", "--ca-file", ca_file.name)
    assert Account.objects.get().ca_file == str(ca_file)


# pubsub_sync, without a service


@pytest.mark.parametrize("options", [(), ("--all", "-n", "x"), ("--all", "--stale"), ("-n", "x", "-s", "not a jid")])
def test_invalid_sync_options_are_a_usage_error(options: tuple[str, ...]) -> None:
    make_account()
    assert exit_code("pubsub_sync", *options)[0] == 1


def test_unreachable_service_is_reported_for_each_node() -> None:
    account = make_account(host="127.0.0.1", port=1)
    make_node(account, "a", titles=("One",))
    make_node(account, "b", checked_at=None)
    make_node(account, "unwanted", to_sync=False)
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError) as failed:
        call_command("pubsub_sync", "--all", "-O", "json", stdout=out, stderr=err)
    assert (failed.value.returncode, str(failed.value)) == (5, "2 of 2 nodes could not be synchronised.")
    rows = json.loads(out.getvalue())
    assert [(row["node"], row["items"]) for row in rows] == [("a", None), ("b", None)]
    assert all("cannot be reached" in row["error"] for row in rows)
    assert "[2/2] alice@capulet.example b: " in err.getvalue()
    assert PubsubItem.objects.count() == 1
    out = io.StringIO()
    PubsubNode.objects.filter(name="a").update(sync_state="COMPLETED", checked_at=timezone.now(), sync_owner="")
    with pytest.raises(CommandError):
        call_command("pubsub_sync", "--stale", "-O", "json", stdout=out)
    assert [row["node"] for row in json.loads(out.getvalue())] == ["b"]


def test_new_node_that_could_not_be_read_is_not_kept() -> None:
    make_account(host="127.0.0.1", port=1)
    assert exit_code("pubsub_sync", "-n", "new")[0] == 5
    assert not PubsubNode.objects.exists()


def test_password_of_another_key_is_reported(settings: Any) -> None:
    make_account(host="127.0.0.1", port=1)
    settings.SECRET_KEY = "another key"
    code, sentence = exit_code("pubsub_account", "test", ALICE)
    assert code == 5
    assert "another key" in sentence


# As a process


def test_usage_errors_exit_with_1(manage: Any) -> None:
    for arguments in [
        ("pubsub_get",),
        ("pubsub_get", "-n", "x", "-M", "many"),
        ("pubsub_get", "-n", "x", "-M", "-1"),
        ("pubsub_get", "-n", os.fsdecode(b"\xff")),
        ("pubsub_get", "-n", "x", "-a", "a@b@c/"),
        ("pubsub_account",),
        ("pubsub_account", "ad"),
        ("pubsub_nodes", "--state", "x"),
        ("pubsub_worker", "--no-such-option"),
        ("pubsub_serve", "--bind", "nowhere"),
    ]:
        ended = manage(*arguments)
        assert ended.returncode == 1, arguments
        assert ended.stdout == "", arguments
        assert ended.stderr, arguments
        assert "Traceback" not in ended.stderr, arguments


def test_command_ends_quietly_when_its_output_is_closed(live_database: None) -> None:
    make_node(make_account(), titles=tuple(f"{number} {'long ' * 100}" for number in range(300)))
    process = subprocess.Popen(
        [sys.executable, str(MANAGE), "pubsub_get", "-n", NODE, "-O", "json"],
        env=environment({"PYTHONUNBUFFERED": ""}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == b"{\n"
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 128 + signal.SIGPIPE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_waiting_command(number: signal.Signals, live_database: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        account = make_account(host="127.0.0.1", port=silent.getsockname()[1])
        node = make_node(account, titles=("One",))
        process = subprocess.Popen(
            [sys.executable, str(MANAGE), "pubsub_sync", "-n", NODE],
            env=environment({"PUBSUBCACHE_CONNECT_TIMEOUT": "100"}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        silent.settimeout(60)
        connection, _ = silent.accept()
        with connection:
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == (b"", b"", 128 + number)
    node.refresh_from_db()
    assert node.sync_owner == ""
    assert node.items.count() == 1


def test_json_in_any_encoding(manage: Any) -> None:
    make_node(make_account(), titles=("Éléphant 🐘",))
    for encoding in ("utf-8", "ascii", "latin-1"):
        ended = manage("pubsub_get", "-n", NODE, "-O", "json", env={"PYTHONIOENCODING": encoding})
        assert ended.returncode == 0, ended.stderr
        assert json.loads(ended.stdout)["items"][0]["parsed"] == {"title": "Éléphant 🐘"}
    assert manage("pubsub_get", "-n", NODE, env={"PYTHONIOENCODING": "ascii"}).returncode == 0


READING = [
    ("pubsub_nodes",),
    ("pubsub_get", "-n", NODE),
    ("pubsub_search",),
    ("pubsub_export",),
    ("pubsub_account", "list"),
    ("pubsub_account", "test", "alice@example.org"),
    ("pubsub_analysers",),
    ("pubsub_analysers", "explain", "-"),
    ("pubsub_purge", "--dry-run"),
]


def run_on(database: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(MANAGE), *arguments],
        env={**os.environ, "DATABASE_URL": f"sqlite:///{database}", **environment},
        input="",
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("arguments", READING, ids=lambda arguments: " ".join(arguments[:2]))
def test_reading_commands_never_migrate(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    database = tmp_path / "new" / "db.sqlite3"
    ended = run_on(database, *arguments)
    assert ended.returncode == 1
    assert ended.stdout == ""
    (sentence,) = ended.stderr.splitlines()
    assert "pubsubcache.0001_initial" in sentence
    assert sentence.endswith(": run manage.py migrate.")
    assert not database.parent.exists()


def test_writing_commands_create_the_database_of_the_project(tmp_path: Path) -> None:
    database = tmp_path / "new" / "db.sqlite3"
    add = ("pubsub_account", "add", "alice@example.org", "--password-env", "P", "-O", "json")
    refused = run_on(database, *add, P="secret", PUBSUBCACHE_AUTO_MIGRATE="false")
    assert refused.returncode == 1
    assert "pubsubcache.0001_initial" in refused.stderr
    assert "PUBSUBCACHE_AUTO_MIGRATE" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not database.parent.exists()
    added = run_on(database, *add, P="secret")
    assert added.returncode == 0, added.stderr
    assert json.loads(added.stdout)["jid"] == "alice@example.org"
    listed = run_on(database, "pubsub_account", "list", "-O", "json")
    assert [row["jid"] for row in json.loads(listed.stdout)] == ["alice@example.org"], listed.stderr
    assert run_on(database, "migrate", "--check").returncode == 0  # the whole site


@pytest.mark.both_databases
def test_commands_use_the_test_database(manage: Any, db: None) -> None:
    get_user_model().objects.create_superuser("writer", password="from the test")
    script = "from django.contrib.auth import get_user_model as m; print('found', m().objects.get().username)"
    result = manage("shell", "-c", script)
    assert result.returncode == 0, result.stderr
    assert "found writer" in result.stdout
