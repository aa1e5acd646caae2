"""`pubsub_reparse` resumes where it was interrupted, and undoes nothing that others write meanwhile."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from pubsubcache.analysers import Analyser, registry
from pubsubcache.models import PubsubItem, PubsubNode, ReparseRun
from pubsubcache.store import reparsing
from tests.integration.test_commands import call, call_json, exit_code, item_xml, make_account, make_node
from tests.servers.manage import MANAGE, environment, manage

pytestmark = [pytest.mark.usefixtures("live_database"), pytest.mark.both_databases]

# Runs a command with a parser that sends a signal to its own process when it comes to an item.
DYING = """
import os, signal, sys
from xml.etree.ElementTree import tostring
import django
from django.core.management import execute_from_command_line

last, number, *arguments = sys.argv[1:]
django.setup()
from pubsubcache.analysers import register_analyser
from pubsubcache.store import reparsing

reparsing.BATCH = 4

@register_analyser(name="counted", type="test", node="counted")
def parse(item, context):
    if item.get("id") == last:
        os.kill(os.getpid(), int(number))
    return {"new": item.get("id")}

execute_from_command_line(["manage.py", *arguments])
"""


def parse(item: Any, context: Any) -> dict[str, Any]:
    return {"new": item.get("id")}


@pytest.fixture(autouse=True)
def _counted() -> Iterator[None]:
    with registry.temporarily(Analyser(name="counted", type="test", node="counted", parser=parse)):
        yield


def counted(number: int = 10, **fields: Any) -> PubsubNode:
    titles = tuple(f"title {place}" for place in range(number))
    return make_node(make_account(), "counted", titles=titles, analyser="counted", **fields)


def parsed_again() -> list[str]:
    return [name for name, parsed in PubsubItem.objects.order_by("pk").values_list("name", "parsed") if "new" in parsed]


def dying(last: str, number: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose parser sends its process a signal at the item `last`."""
    command = [sys.executable, "-c", DYING, last, str(int(number)), *arguments]
    env = environment({"PYTHONPATH": str(MANAGE.parent)})
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def test_a_killed_run_is_resumed_where_it_stopped() -> None:
    counted()
    assert dying("item-6", signal.SIGKILL, "pubsub_reparse").returncode == -signal.SIGKILL
    assert parsed_again() == [f"item-{number}" for number in range(4)]
    PubsubItem.objects.filter(name="item-0").update(parsed={"untouched": True})
    assert call_json("pubsub_reparse", "--resume") == {"items": 6, "changed": 6, "errors": 0}
    assert parsed_again() == [f"item-{number}" for number in range(1, 10)]
    assert not ReparseRun.objects.exists()


def test_a_run_without_resume_starts_from_the_beginning() -> None:
    counted()
    assert dying("item-6", signal.SIGKILL, "pubsub_reparse").returncode == -signal.SIGKILL
    out, err = call("pubsub_reparse", "-O", "json")
    assert json.loads(out) == {"items": 10, "changed": 6, "errors": 0}
    assert "has not ended" in err
    assert not ReparseRun.objects.exists()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_that_is_stopped_says_how_to_resume_it(number: int, code: int) -> None:
    counted()
    ended = dying("item-6", number, "pubsub_reparse")
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr == "Interrupted: pubsub_reparse --resume continues.\n"
    assert call_json("pubsub_reparse", "--resume")["errors"] == 0
    assert len(parsed_again()) == 10


def test_a_run_is_resumed_with_its_own_filters() -> None:
    node = counted()
    other = make_node(node.account, "counted/other", titles=("title",), analyser="counted")
    assert dying("item-6", signal.SIGKILL, "pubsub_reparse", "-n", "counted").returncode == -signal.SIGKILL
    assert exit_code("pubsub_reparse", "--resume", "-n", "counted")[0] == 1
    assert call_json("pubsub_reparse", "--resume")["items"] == 6
    assert other.items.get().parsed == {"title": "title"}


def test_there_may_be_nothing_to_resume() -> None:
    assert exit_code("pubsub_reparse", "--resume") == (1, "No run was interrupted.")
    counted()
    call("pubsub_reparse")
    assert exit_code("pubsub_reparse", "--resume") == (1, "No run was interrupted.")
    assert exit_code("pubsub_reparse", "-a", "nobody@example.org")[0] == 1
    assert not ReparseRun.objects.exists()


@pytest.mark.parametrize("follower", ["start", "resume"])
def test_a_run_ends_when_another_replaces_it(monkeypatch: pytest.MonkeyPatch, follower: str) -> None:
    monkeypatch.setattr(reparsing, "BATCH", 4)
    counted()

    def replaced(done: int, total: int | None) -> None:
        run = reparsing.unfinished()
        assert run is not None
        (reparsing.start({}) if follower == "start" else reparsing.resume(run))

    async def late(item: Any, context: Any) -> dict[str, Any]:
        if item.get("id") == "item-5":
            await reparsing.in_thread(replaced)(0, 0)
        return {"new": item.get("id")}

    with registry.temporarily(Analyser(name="counted", type="test", node="counted", parser=late), replace=True):
        code, message = exit_code("pubsub_reparse")
    assert (code, message) == (1, "Another pubsub_reparse has started, and replaces this one.")
    assert len(parsed_again()) == 4
    assert call_json("pubsub_reparse", "--resume")["items"] == (10 if follower == "start" else 6)


def test_batches_are_bounded_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    node = counted(6)
    node.items.filter(name="item-3").update(data=item_xml("item-3", "x" * 5000))
    monkeypatch.setattr(reparsing, "BATCH_SIZE", 1000)
    sizes: list[int] = []
    save = reparsing._save

    def noted(run: ReparseRun, rows: list[PubsubItem]) -> int:
        sizes.append(sum(len(row.data) for row in rows))
        return save(run, rows)

    monkeypatch.setattr(reparsing, "_save", noted)
    assert call_json("pubsub_reparse") == {"items": 6, "changed": 6, "errors": 0}
    assert len([size for size in sizes if size > 1000]) == 1
    assert len(sizes) < 6


def test_items_that_come_in_meanwhile_do_not_make_the_run_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reparsing, "BATCH", 2)
    node = counted(4)

    async def growing(item: Any, context: Any) -> dict[str, Any]:
        name = f"more-{item.get('id')}"
        await node.items.acreate(name=name, data=item_xml(name, "new"), parsed={"new": "by the worker"})
        return {"new": item.get("id")}

    with registry.temporarily(Analyser(name="counted", type="test", node="counted", parser=growing), replace=True):
        assert call_json("pubsub_reparse")["items"] == 4


@pytest.mark.parametrize("change", ["data", "publisher", "analyser", "retracted"])
def test_what_changed_since_an_item_was_read_is_kept(change: str) -> None:
    node = counted(1)

    async def overtaken(item: Any, context: Any) -> dict[str, Any]:
        if change == "retracted":
            await node.items.all().adelete()
        elif change == "analyser":
            await PubsubNode.objects.filter(pk=node.pk).aupdate(analyser="other")
            await node.items.aupdate(parsed={"by": "other"})
        else:
            changed = {"data": {"data": item_xml("item-0", "new")}, "publisher": {"publisher": "b@example.org"}}
            await node.items.aupdate(**changed[change], parsed={"by": "other"})
        return {"new": "too late"}

    with registry.temporarily(Analyser(name="counted", type="test", node="counted", parser=overtaken), replace=True):
        assert call_json("pubsub_reparse") == {"items": 1, "changed": 0, "errors": 0}
    assert [item.parsed for item in node.items.all()] == ([] if change == "retracted" else [{"by": "other"}])


def test_a_writer_that_has_read_an_item_does_not_undo_its_change() -> None:
    """A writer locks the node, reads its items, and writes some back, perhaps only to move them."""
    node = counted(1)
    [row] = PubsubItem.objects.select_related("node")
    row.parsed = {"new": "item-0"}
    run = reparsing.start({})
    saved = threading.Event()

    def save() -> None:
        try:
            reparsing._save(run, [row])
        finally:
            saved.set()
            connection.close()

    thread = threading.Thread(target=save)
    with transaction.atomic():
        PubsubNode.objects.select_for_update().get(pk=node.pk)
        moved = node.items.get()
        thread.start()
        if connection.vendor == "postgresql":
            wait_for_a_waiting_lock(saved)
        moved.position = 7
        moved.save()
    thread.join(60)
    assert saved.is_set()
    [after] = node.items.all()
    assert (after.position, after.parsed) == (7, {"new": "item-0"})


def wait_for_a_waiting_lock(ended: threading.Event) -> None:
    """Return when another session waits for a lock, or when the event is set."""
    while not ended.is_set():
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return


def test_a_command_of_its_own_process_reparses() -> None:
    counted(2)
    PubsubNode.objects.update(analyser="microblog")
    ended = manage("pubsub_reparse", "-O", "json")
    assert json.loads(ended.stdout) == {"items": 2, "changed": 2, "errors": 0}
