"""Test live pages: what changes a version, who may watch, and what streams cost and leave behind."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.db import connection
from django.test import AsyncClient, Client
from django.urls import reverse
from django.utils import timezone

from pubsubcache import live
from pubsubcache.exceptions import InvalidRequest
from pubsubcache.live import Topic, Viewer, Watched
from pubsubcache.models import Account, PubsubItem, PubsubNode, SyncRun
from pubsubcache.store import in_thread, own_thread
from tests.admin_data import account, item, logged_in, node, online, person, staff, superuser, url

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

HEADER = "HTTP_X_PUBSUBCACHE_SINCE"


def version(*topics: str, viewer: Viewer | None = None) -> str:
    watched = [Watched(topic, viewer or Viewer()) for topic in live.parse(topics)]
    return live.combined(live.read_versions(watched), watched)


def ask(client: Client, *topics: str) -> Any:
    return client.get(reverse("admin:pubsubcache_live"), {"topic": topics, "poll": ""})


@pytest.mark.parametrize(
    "texts", [[], ["tables"], ["node:"], ["node:x"], ["node:1,"], ["node:²"], ["node:-1"], ["nodes"] * 21]
)
def test_unknown_topics_are_refused(texts: list[str]) -> None:
    with pytest.raises(InvalidRequest):
        live.parse(texts)
    assert superuser().get(reverse("admin:pubsubcache_live"), {"topic": texts}).status_code == 400


def test_topics_are_written_as_they_are_read() -> None:
    assert [str(topic) for topic in live.parse(["node:3,12", "nodes"])] == ["node:3,12", "nodes"]
    assert live.parse([f"node:{'9' * 18}"]) == [Topic("node", (999_999_999_999_999_999,))]


@pytest.mark.parametrize(
    ("changes", "topics"),
    [
        ({"sync_done": 5}, ("node",)),
        ({"item_count": 5}, ("node", "items", "all items")),
        ({"revision": 1}, ("node", "items", "all items")),
        ({"sync_state": "ERROR", "sync_error": "why"}, ("node", "nodes", "account")),
        ({"policy": "never"}, ("node",)),
    ],
)
def test_version_changes_with_the_shown_data(changes: dict[str, Any], topics: tuple[str, ...]) -> None:
    made, other = node(account(), items=1), node(account("bob@example.org"))
    watched = {
        "node": f"node:{made.pk}",
        "nodes": "nodes",
        "items": f"items:{made.pk}",
        "all items": "items",
        "account": f"account:{made.account_id}",
        "accounts": "accounts",
        "other node": f"node:{other.pk}",
        "other account": f"account:{other.account_id}",
        "other items": f"items:{other.pk}",
    }
    before = {name: version(topic) for name, topic in watched.items()}
    assert {name: version(topic) for name, topic in watched.items()} == before
    PubsubNode.objects.filter(pk=made.pk).update(**changes)
    assert tuple(name for name, topic in watched.items() if version(topic) != before[name]) == topics


def test_edited_item_changes_the_version_of_the_items_of_its_node() -> None:
    made = node(account(), items=1)
    before = version(f"items:{made.pk}")
    PubsubItem.objects.update(updated=timezone.now() + timedelta(seconds=1))
    assert version(f"items:{made.pk}") != before


def test_sync_run_changes_the_versions_of_its_node_and_account() -> None:
    made = node(account())
    topics = ("runs", f"runs:{made.pk}", f"account_runs:{made.account_id}")
    before = [version(topic) for topic in topics]
    run = SyncRun.objects.create(account=made.account, node=made, kind="full", reason="staff")
    running = [version(topic) for topic in topics]
    SyncRun.objects.filter(pk=run.pk).update(outcome="done")
    for versions in zip(before, running, [version(topic) for topic in topics], strict=True):
        assert len(set(versions)) == 3


def test_lost_worker_changes_versions_though_nothing_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    made = node(account(**online()), sync_state="COMPLETED", subscribed=True, checked_at=timezone.now())
    topics = (f"node:{made.pk}", "nodes", "accounts")
    before = [version(topic) for topic in topics]
    Account.objects.update(heartbeat=timezone.now())
    assert [version(topic) for topic in topics] == before
    Account.objects.update(heartbeat=timezone.now() - timedelta(hours=1))
    assert all(version(topic) != was for topic, was in zip(topics, before, strict=True))


def test_versions_do_not_tell_owners_about_other_accounts() -> None:
    bob = User.objects.create_user("bob")
    own, other = node(account("bob@example.org", owner=bob)), node(account())
    viewer = Viewer.of(bob)
    topics = ("nodes", "items", "accounts", "runs", f"node:{other.pk}", f"items:{other.pk}", f"runs:{other.pk}")
    topics += (f"account:{other.account_id}",)
    before = version(*topics, viewer=viewer)
    PubsubNode.objects.filter(pk=other.pk).update(sync_state="ERROR", item_count=7)
    Account.objects.filter(pk=other.account_id).update(status="error")
    SyncRun.objects.create(account=other.account, node=node(other.account, "new"), kind="full", reason="staff")
    assert version(*topics, viewer=viewer) == before
    PubsubNode.objects.filter(pk=own.pk).update(sync_state="ERROR")
    assert version(*topics, viewer=viewer) != before


def test_only_staff_who_may_see_the_objects_are_answered() -> None:
    made = node(account())
    topic = f"node:{made.pk}"
    assert ask(superuser(), topic).json().keys() == {"version"}
    assert ask(Client(), topic).status_code == 403
    assert ask(logged_in(User.objects.create_user("visitor")), topic).status_code == 403
    assert ask(person("view_account"), topic).status_code == 403
    assert ask(logged_in(staff("view_pubsubnode")), topic).status_code == 403
    allowed = person("view_pubsubnode")
    assert ask(allowed, topic).status_code == 200
    assert ask(allowed, topic, "accounts").status_code == 403
    assert ask(allowed, f"node:{made.pk},{made.pk + 1}").status_code == 200
    made.delete()
    assert ask(allowed, topic).status_code == 403


def test_owners_watch_their_own_nodes() -> None:
    owner = staff("view_pubsubnode")
    made = node(account(owner=owner))
    assert ask(logged_in(owner), f"node:{made.pk}").status_code == 200


def test_process_without_an_event_loop_does_not_stream() -> None:
    assert superuser().get(reverse("admin:pubsubcache_live"), {"topic": "nodes"}).status_code == 204


# Pages


def test_pages_name_the_topics_that_they_show() -> None:
    made = node(account(), items=1)
    client = superuser()
    pages = {
        url("pubsubnode", "change", made.pk): [f"node:{made.pk}", f"runs:{made.pk}"],
        url("pubsubnode", "changelist"): ["nodes", f"node:{made.pk}"],
        url("pubsubitem", "changelist"): ["items"],
        url("pubsubitem", "changelist", node__id__exact=made.pk): [f"items:{made.pk}"],
        url("syncrun", "changelist"): ["runs"],
        url("syncrun", "changelist", node__id__exact=made.pk): [f"runs:{made.pk}"],
        url("account", "changelist"): ["accounts", "nodes"],
        url("account", "change", made.account_id): [f"account:{made.account_id}", f"account_runs:{made.account_id}"],
        reverse("admin:app_list", args=["pubsubcache"]): ["accounts nodes items runs jobs"],
    }
    for page, topics in pages.items():
        shown = client.get(page).content.decode()
        assert [part.split('"')[0] for part in shown.split('data-psc-topics="')[1:]] == topics
        assert "data-psc-live" in shown


def test_pages_watch_only_what_the_user_may_view() -> None:
    client = person("view_pubsubnode")
    page = client.get(reverse("admin:app_list", args=["pubsubcache"])).content.decode()
    assert 'data-psc-topics="nodes runs jobs"' in page


def test_answers_to_forms_are_not_live() -> None:
    made = node(account())
    answer = superuser().post(url("pubsubnode", "change", made.pk), {"policy": "unknown"})
    assert answer.status_code == 200
    assert "data-psc-topics" not in answer.content.decode()


def since(page: Any) -> str:
    return str(page.content.decode().split('data-psc-since="')[1].split('"')[0])


@pytest.mark.parametrize("of_node", [True, False])
def test_list_of_items_counts_those_that_are_new(of_node: bool) -> None:
    client = superuser()
    made = node(account(), items=2)
    page = url("pubsubitem", "changelist", **({"node__id__exact": made.pk} if of_node else {}))
    opened = client.get(page)
    assert "new item" not in opened.content.decode()
    for number in range(3):
        item(made, f"new-{number}")
    item(node(made.account, "other"), "elsewhere")
    again = client.get(page, **{HEADER: since(opened)})
    assert f"{3 if of_node else 4} new items. Show them" in again.content.decode()
    assert "new item" not in client.get(page, **{HEADER: since(again)}).content.decode()
    for nonsense in ("x", "-1", "9" * 40, "2026-13-01"):
        assert client.get(page, **{HEADER: nonsense}).status_code == 200


def test_first_items_of_a_node_are_new() -> None:
    client = superuser()
    made = node(account())
    page = url("pubsubitem", "changelist", node__id__exact=made.pk)
    opened = client.get(page)
    item(made)
    assert "1 new item. Show it" in client.get(page, **{HEADER: since(opened)}).content.decode()


# Streams


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "INTERVAL", 0.05)


@pytest.fixture
async def hub(live_database: None, quick: None) -> AsyncIterator[live.Hub]:
    yield live.of_loop()
    await until(lambda: not live.of_loop().is_reading)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def next_version(stream: Any) -> str:
    async with asyncio.timeout(30):
        async for event in stream:
            if event.startswith(b"event: version\ndata: "):
                return str(event.decode().split()[-1])
    raise AssertionError("The stream has ended.")


async def rest_of(stream: Any) -> list[bytes]:
    return [event async for event in stream]


def watch(*topics: str) -> Any:
    return aclosing(live.stream([Watched(topic, Viewer()) for topic in live.parse(topics)]))


async def test_stream_reports_the_version_and_then_each_change(hub: live.Hub) -> None:
    made = await in_thread(lambda: node(account()))()
    topic = f"node:{made.pk}"
    async with watch(topic) as stream:
        assert await next_version(stream) == await in_thread(version)(topic)
        await in_thread(PubsubNode.objects.update)(sync_done=7)
        assert await next_version(stream) == await in_thread(version)(topic)


async def test_many_pages_cost_one_reader(hub: live.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    made = await in_thread(lambda: node(account()))()
    reads: list[int] = []
    read_versions = live.read_versions

    def counted(watched: Any) -> Any:
        reads.append(len(watched))
        return read_versions(watched)

    monkeypatch.setattr(live, "read_versions", counted)
    streams = [live.stream([Watched(Topic("node", (made.pk,)), Viewer())]) for _ in range(50)]
    try:
        (before,) = {await next_version(stream) for stream in streams}
        await in_thread(PubsubNode.objects.update)(sync_done=7)
        (after,) = set(await asyncio.gather(*map(next_version, streams)))
        assert after != before
    finally:
        await asyncio.gather(*(stream.aclose() for stream in streams))
    assert set(reads) == {1}


async def test_stream_ends_and_the_browser_must_ask_again(hub: live.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "DURATION", 0.3)
    monkeypatch.setattr(live, "HEARTBEAT", 0.1)
    async with watch("nodes") as stream:
        events = [event async for event in stream]
    assert events[0].startswith(b"retry: ")
    assert b":\n\n" in events


async def test_server_ends_all_streams_when_it_stops(hub: live.Hub) -> None:
    async with watch("nodes") as stream, watch("accounts") as other:
        await next_version(stream)
        await next_version(other)
        ending = [asyncio.create_task(rest_of(one)) for one in (stream, other)]
        await asyncio.sleep(0)
        hub.stop()
        async with asyncio.timeout(5):
            assert await asyncio.gather(*ending) == [[], []]
        async with watch("nodes") as late:
            assert len([event async for event in late]) == 1


async def test_streams_survive_a_failing_database(hub: live.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = True
    read_versions = live.read_versions

    def flaky(watched: Any) -> Any:
        nonlocal broken
        if broken:
            broken = False
            raise OSError("no database")
        return read_versions(watched)

    monkeypatch.setattr(live, "read_versions", flaky)
    async with watch("nodes") as stream:
        assert await next_version(stream)


async def test_stream_keeps_no_connection_to_the_database(hub: live.Hub) -> None:
    async with own_thread(), watch("nodes") as stream:  # a request of an ASGI server has a thread too
        await sync_to_async(User.objects.exists)()
        assert not await sync_to_async(is_disconnected)()
        await next_version(stream)
        assert await sync_to_async(is_disconnected)()


def is_disconnected() -> bool:
    return connection.connection is None


async def test_page_that_is_closed_leaves_no_task(hub: live.Hub) -> None:
    user = await in_thread(User.objects.create_superuser)("root", password="x")
    client = AsyncClient()
    await client.aforce_login(user)
    answer = await client.get(reverse("admin:pubsubcache_live"), {"topic": "nodes"})
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/event-stream")
    assert "no-store" in answer["Cache-Control"]
    stream = aiter(answer.streaming_content)  # type: ignore[attr-defined]
    await next_version(stream)
    assert hub.is_reading
    waiting = asyncio.create_task(next_version(stream))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: not hub.is_reading)
