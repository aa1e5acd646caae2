"""Test jobs: small transactions, correct reads after each of them, resumption, cancellation, and their pages."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.utils import timezone

from pubsubcache import admin, store
from pubsubcache.analysers import registry
from pubsubcache.cache import get_items
from pubsubcache.exceptions import InvalidRequest, JobLost
from pubsubcache.models import Account, Job, PendingUnsubscription, PubsubEvicted, PubsubItem, PubsubNode
from pubsubcache.services.sessions import sessions
from pubsubcache.store import accounts, in_thread, jobs, syncing
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.worker.jobs import JobRunner
from tests.admin_data import account, act, item, logged_in, node, online, person, staff, superuser, url
from tests.fakes import ADDRESS, FakeService, in_loop, note_analyser

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

ALICE = "alice@example.org"
ROWS, CHUNK = 6, 4


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make batches so small that few rows need several."""
    monkeypatch.setattr("pubsubcache.store.batches.MAX_ROWS", ROWS)
    monkeypatch.setattr("pubsubcache.store.batches.MAX_SECONDS", 60)
    monkeypatch.setattr("pubsubcache.store.evicting.CHUNK", CHUNK)
    monkeypatch.setattr("pubsubcache.store.jobs.pause_after", lambda seconds: 0)
    for module in ("evicting", "nodes"):
        monkeypatch.setattr(f"pubsubcache.store.{module}.EVICTED_AT_ONCE", 5)
    with registry.temporarily(note_analyser(), replace=True):
        yield


def begin(kind: str, parameters: dict[str, Any]) -> Job:
    """Add a job and claim it."""
    job = jobs.claim("me", jobs.request(kind, parameters).pk)
    assert job is not None
    return job


def step(job: Job) -> Job:
    """Do a batch of a job."""
    return jobs._step(job, jobs._work_of(job))


def done(kind: str, parameters: dict[str, Any]) -> Job:
    """Do a job to its end."""
    job = jobs.do_at_once(begin(kind, parameters))
    assert (job.state, job.error) == ("done", "")
    return job


def everything() -> dict[str, Any]:
    """Return a job of each kind that empties all nodes."""
    pks = list(PubsubNode.objects.values_list("pk", flat=True))
    owners = list(Account.objects.values_list("pk", flat=True))
    return {
        "purge": {"nodes": pks},
        "policy": {"nodes": {"accounts": [ALICE]}, "policy": "never"},
        "forget": {"nodes": pks, "unsubscribe": True},
        "analyser": {"analyser": "note"},
        "accounts": {"accounts": owners},
    }


KINDS = ("purge", "policy", "forget", "analyser", "accounts")


@in_thread
def size() -> int:
    return PubsubItem.objects.count()


@pytest.mark.parametrize("kind", KINDS)
@in_loop
async def test_reads_are_correct_after_each_batch(kind: str) -> None:
    service = FakeService()
    service.fill(20)

    async def read() -> list[str]:
        with sessions.offered(ALICE, service):
            page = await get_items(ALICE, ADDRESS.service, ADDRESS.name)
        return [item.id for item in page.items]

    await in_thread(Account.objects.create)(jid=ALICE, status="online")
    assert await read() == service.ids()
    await sync_node(service, (await PubsubNode.objects.aget()).pk)
    if kind == "analyser":
        await in_thread(store.save_choice)("note", False)
    job = await in_thread(begin)(kind, (await in_thread(everything)())[kind])
    before = await size()
    batches = 0
    while not job.is_finished:
        job = await in_thread(step)(job)
        batches += 1
        left = await size()
        assert before - left <= ROWS + CHUNK
        before = left
        if kind != "accounts":
            assert await read() == service.ids()
    assert (job.state, before) == ("done", 0)
    assert batches > 2


def in_sync(name: str = "n", items: int = 3, **fields: Any) -> PubsubNode:
    """Create a synchronised node of alice's."""
    owner, _ = Account.objects.get_or_create(jid=ALICE)
    state = {"sync_state": "COMPLETED", "to_sync": True, "by_analyser": True, "analyser": "note"}
    return node(owner, name, items=items, **{**state, **fields})


@pytest.mark.parametrize("kind", ["policy", "forget", "accounts"])
def test_nodes_with_many_evicted_items_are_emptied_in_batches(kind: str) -> None:
    made = in_sync(items=3, evicted_count=17, subscribed=True)
    now = timezone.now()
    for number in range(17):
        PubsubEvicted.objects.create(node=made, name=f"e{number}", position=-number, created=now, updated=now)
    job = begin(kind, everything()[kind])
    left = 17
    while not job.is_finished:
        job = step(job)
        assert left - (left := PubsubEvicted.objects.count()) <= ROWS + 5
    assert (job.state, left, PubsubItem.objects.count()) == ("done", 0, 0)
    if kind == "policy":
        made.refresh_from_db()
        assert (made.sync_state, made.evicted_count, made.policy) == ("NO_SYNC", 0, "never")
        assert PendingUnsubscription.objects.count() == 1
    else:
        assert not PubsubNode.objects.exists()


def test_rows_left_by_an_interrupted_job_are_stored_again() -> None:
    made = in_sync(items=0, evicted_count=17)
    now = timezone.now()
    for number in range(17):
        PubsubEvicted.objects.create(node=made, name=f"e{number}", position=number, created=now, updated=now)
    job = begin("policy", {"nodes": [made.pk], "policy": "never"})
    while PubsubNode.objects.get().sync_state != "NO_SYNC":
        job = step(job)
    assert PubsubEvicted.objects.exists()
    store.set_policy(PubsubNode.objects.all(), "always")
    claim = syncing.claim(made.pk, "owner")
    assert claim is not None
    assert claim.fetch_evicted
    made.refresh_from_db()
    assert made.evicted_count == PubsubEvicted.objects.count()
    job = jobs.do_at_once(job)  # leaves the node alone now
    assert made.evicted_count == PubsubEvicted.objects.count()


def test_another_worker_continues_after_a_crash_and_the_first_changes_nothing() -> None:
    made = in_sync(items=20)
    first = step(begin("purge", {"nodes": [made.pk]}))
    assert jobs.claim("another") is None
    Job.objects.update(heartbeat=timezone.now() - timedelta(hours=1))
    second = jobs.claim("another")
    assert second is not None
    assert (second.cursor, second.owner) == (first.cursor, "another")
    left = PubsubItem.objects.count()
    assert 0 < left < 20
    with pytest.raises(JobLost):
        step(first)
    jobs.release(first)
    with pytest.raises(JobLost):
        jobs._fail(first, ValueError("too late"))
    assert PubsubItem.objects.count() == left
    ended = jobs.do_at_once(second)
    assert (ended.state, ended.counts, ended.done, ended.total) == ("done", {"items": 20}, 21, 21)


def test_a_job_that_kills_its_workers_fails() -> None:
    jobs.request("purge", {"nodes": [in_sync().pk]})
    for _ in range(jobs.MAX_ATTEMPTS):
        assert jobs.claim("me") is not None
        Job.objects.update(heartbeat=timezone.now() - timedelta(hours=1))
    assert jobs.claim("me") is None
    job = Job.objects.get()
    assert job.state == "failed"
    assert "died" in job.error


def test_an_error_ends_a_job_and_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    job = begin("purge", {"nodes": [in_sync().pk]})
    monkeypatch.setattr(jobs, "evict_batch", lambda *args, **named: [][0])
    job = jobs.do_at_once(job)
    assert (job.state, job.error) == ("failed", "IndexError: list index out of range")
    assert PubsubItem.objects.count() == 3


def test_a_cancelled_job_stops_and_keeps_what_is_done() -> None:
    made = in_sync(items=20)
    job = step(begin("purge", {"nodes": [made.pk]}))
    left = PubsubItem.objects.count()
    jobs.cancel(job)
    job = step(job)
    assert (job.state, PubsubItem.objects.count()) == ("cancelled", left)
    made.refresh_from_db()
    assert (made.item_count, made.evicted_count, made.sync_state) == (left, 20 - left, "COMPLETED")
    waiting = jobs.request("purge", {"nodes": [made.pk]})
    jobs.cancel(waiting)
    assert jobs.claim("me") is None
    waiting.refresh_from_db()
    assert waiting.state == "cancelled"


def test_an_account_whose_removal_is_cancelled_stays() -> None:
    in_sync("a", items=20, subscribed=True)
    job = step(begin("accounts", everything()["accounts"]))
    assert Account.objects.get().leaving
    jobs.cancel(job)
    assert step(job).state == "cancelled"
    assert not Account.objects.get().leaving
    assert PubsubNode.objects.exists()


def test_an_account_is_deleted_only_when_it_has_no_nodes() -> None:
    in_sync(items=20)
    Account.objects.update(**online(), leaving=True)
    accounts.claim_accounts("host:1")
    assert Account.objects.exists()
    PubsubNode.objects.all().delete()
    accounts.claim_accounts("host:1")
    assert not Account.objects.exists()


def test_items_that_come_in_during_a_purge_stay() -> None:
    made = in_sync(items=20)
    job = step(begin("purge", {"nodes": [made.pk]}))
    item(made, "new", position=99)
    PubsubNode.objects.update(item_count=PubsubItem.objects.count())
    assert jobs.do_at_once(job).state == "done"
    assert [row.name for row in PubsubItem.objects.all()] == ["new"]
    made.refresh_from_db()
    assert (made.item_count, made.evicted_count) == (1, 20)


@pytest.mark.parametrize("event", ["created", "updated"])
def test_only_old_items_are_purged(event: str) -> None:
    made = in_sync(items=9)
    long_ago = timezone.now() - timedelta(days=9)
    PubsubItem.objects.filter(position__gte=4).update(**{event: long_ago})
    limit = (timezone.now() - timedelta(days=1)).isoformat()
    assert done("purge", {"nodes": [made.pk], f"{event}_before": limit}).counts == {"items": 5}
    assert PubsubItem.objects.count() == 4


def test_items_are_parsed_again() -> None:
    good, gone = in_sync("urn:example:notes", items=9), in_sync("gone", items=2, analyser="unknown")
    PubsubItem.objects.filter(node=good, name="item-3").update(data="<broken")
    job = done("reparse", {"nodes": {"accounts": [ALICE]}})
    assert job.counts["items"] == 9
    assert job.counts["changed"] == PubsubItem.objects.filter(node=good).exclude(text="").count() + 1
    assert not PubsubItem.objects.filter(node=gone).exclude(text="").exists()


def test_items_of_a_removed_node_are_not_parsed() -> None:
    made = in_sync(items=9)
    job = begin("reparse", {"nodes": [made.pk]})
    cursor, rows = jobs._items_to_parse(job)
    made.delete()
    job = jobs._step(job, partial(jobs._save_parsed, rows=rows, changed=set(), cursor=cursor))
    assert jobs.do_at_once(job).state == "done"


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("dance", {}),
        ("purge", {"nodes": [1], "policy": "never"}),
        ("purge", {"nodes": {"password": "x"}}),
        ("purge", {"nodes": [1], "created_before": "yesterday"}),
        ("policy", {"nodes": [1], "policy": "sometimes"}),
    ],
)
def test_unknown_jobs_are_refused(kind: str, parameters: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        jobs.request(kind, parameters)
    assert not Job.objects.exists()


def test_old_jobs_are_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "KEEP_NUMBER", 2)
    now = timezone.now()
    ended = {"kind": "purge", "state": "done"}
    kept = [Job.objects.create(**ended, finished=now) for _ in range(3)][1:]
    Job.objects.create(**ended, finished=now - timedelta(days=99))
    kept.append(Job.objects.create(kind="purge"))
    assert jobs.prune() == 2
    assert set(Job.objects.all()) == set(kept)


# The worker


@pytest.fixture
def _rows(live_database: None) -> None:
    """Nodes that processes share."""


@pytest.mark.usefixtures("_rows")
async def test_a_worker_does_waiting_jobs_and_hands_over_the_present_one(monkeypatch: pytest.MonkeyPatch) -> None:
    made = await in_thread(in_sync)(items=20)
    first, second = [
        await in_thread(jobs.request)("purge", {"nodes": [made.pk]}),
        await in_thread(jobs.request)("forget", {"nodes": [made.pk]}),
    ]
    paused = asyncio.Event()

    def pause(seconds: float) -> float:
        paused.set()
        return 3600

    async def run_until(condition: Callable[[], Any]) -> None:
        task = asyncio.create_task(JobRunner("me").run())
        async with asyncio.timeout(60):
            await condition()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "pause_after", pause)
        await run_until(paused.wait)
    await first.arefresh_from_db()
    assert (first.state, first.owner, first.heartbeat) == ("running", "", None)

    async def all_done() -> None:
        while await in_thread(Job.objects.unfinished().exists)():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    await run_until(all_done)
    for job in (first, second):
        await job.arefresh_from_db()
        assert job.state == "done"
    assert not await in_thread(PubsubNode.objects.exists)()


# The admin


def text_of(response: Any) -> str:
    return " ".join(response.content.decode().split())


@pytest.fixture
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the admin do only very little work at once."""
    monkeypatch.setattr(admin.jobs, "AT_ONCE", 2)


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize(
    ("action", "confirmed", "kind"),
    [
        ("purge", "confirmed", "purge"),
        ("policy_never", "confirmed", "policy"),
        ("delete_selected", "post", "forget"),
    ],
)
def test_an_action_on_many_rows_asks_and_becomes_a_job(action: str, confirmed: str, kind: str) -> None:
    made = [in_sync("a", items=2), in_sync("b", items=3)]
    client = superuser()
    asked = text_of(act(client, action, *made))
    assert "5 items" in asked or "Items: 5" in asked
    assert not Job.objects.exists()
    page = act(client, action, *made, **{confirmed: "yes"})
    job = Job.objects.get()
    assert page.redirect_chain[0][0] == url("job", "change", job.pk)
    assert "No worker is running." in text_of(page)
    assert (job.kind, job.state, job.requested_by, job.total) == (kind, "waiting", User.objects.get(), 7)
    assert PubsubItem.objects.count() == 5
    claimed = jobs.claim("me")
    assert claimed is not None
    jobs.do_at_once(claimed)
    page = text_of(client.get(url("job", "change", job.pk)))
    assert "100 %" in page
    assert "5 items were removed" in page
    assert "5 items were removed" in text_of(client.get(url("job", "history", job.pk)))
    entries = LogEntry.objects.filter(content_type__model="pubsubnode", object_id=made[0].pk)
    assert kind == "forget" or "2 items were removed" in entries.get().change_message


@pytest.mark.usefixtures("_few")
@pytest.mark.parametrize("way", ["node", "account", "accounts"])
def test_deleting_many_rows_becomes_a_job(way: str) -> None:
    made = in_sync(items=5)
    client = superuser()
    if way == "accounts":
        page = act(client, "delete_selected", made.account, model="account", post="yes")  # type: ignore[arg-type]
    else:
        model, pk = ("pubsubnode", made.pk) if way == "node" else ("account", made.account_id)
        page = client.post(url(model, "delete", pk), {"post": "yes"}, follow=True)
    assert page.redirect_chain[0][0] == url("job", "change", Job.objects.get().pk)
    assert PubsubNode.objects.exists()


def test_a_few_rows_are_changed_at_once() -> None:
    made = in_sync(items=3)
    page = act(superuser(), "purge", made, confirmed="yes")
    assert "3 items were removed from the cache." in text_of(page)
    assert Job.objects.get().state == "done"
    assert not PubsubItem.objects.exists()


def test_synchronisation_of_a_disabled_account_is_not_promised() -> None:
    made = node(account(enabled=False))
    page = text_of(act(superuser(), "sync", made))
    assert "1 node will be synchronised when its account is enabled." in page
    assert "as soon as" not in page
    Account.objects.update(**online())
    other = node(account("bob@example.org"), "other")
    page = text_of(act(logged_in(User.objects.get()), "sync", made, other))
    assert "1 node will be synchronised now." in page


def test_staff_see_and_cancel_only_their_own_jobs() -> None:
    owner = staff("view_pubsubnode")
    mine, all_of_them = logged_in(owner), person("view_job", "cancel_job")
    watching = person("view_job")
    job = jobs.request("purge", {"nodes": [in_sync().pk]}, User.objects.get(username="staff1"))
    own = jobs.request("purge", {"nodes": [1]}, owner)
    assert mine.get(url("job", "change", job.pk)).status_code == 302
    mine.post(url("job", "cancel", job.pk))
    listed = mine.get(url("job", "changelist"))
    assert list(listed.context["cl"].result_list) == [own]
    assert "Cancel the job" in text_of(mine.get(url("job", "change", own.pk)))
    assert "Cancel the job" not in text_of(watching.get(url("job", "change", own.pk)))
    assert watching.post(url("job", "cancel", own.pk)).status_code == 403
    assert mine.get(url("job", "cancel", own.pk)).status_code == 302
    assert set(Job.objects.values_list("state", flat=True)) == {"waiting"}
    mine.post(url("job", "cancel", own.pk))
    all_of_them.post(url("job", "cancel", job.pk))
    assert set(Job.objects.values_list("state", flat=True)) == {"cancelled"}


def test_the_summary_needs_one_query(django_assert_num_queries: Callable[..., Any]) -> None:
    user = User.objects.create_superuser("boss")
    running = begin("purge", {"nodes": [in_sync().pk]})
    ended = [Job.objects.create(kind="purge", state="done", requested_by=user) for _ in range(20)]
    with django_assert_num_queries(1):
        found = admin.jobs.summary(user)
    assert [row["job"] for row in found["running"]] == [running]
    assert [row["job"] for row in found["ended"]] == ended[:-6:-1]


def test_staff_purge_only_nodes_that_they_own() -> None:
    made, other = in_sync("a", items=2), node(account("bob@example.org"), "b", items=2)
    owner = staff("view_pubsubnode", "purge_pubsubnode")
    Account.objects.filter(jid=ALICE).update(owner=owner)
    client = logged_in(owner)
    act(client, "purge", made, other, confirmed="yes")
    client.post(url("pubsubnode", "purge", other.pk), {"confirmed": "yes"})
    assert set(PubsubItem.objects.values_list("node", flat=True)) == {other.pk}
