"""Test that synchronisations are recorded: why they ran, what they changed and how they ended."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import override_settings
from django.utils import timezone

from pubsubcache.analysers import registry
from pubsubcache.exceptions import Forbidden, ServiceError, SyncInProgress
from pubsubcache.models import Account, PubsubNode, SyncRun
from pubsubcache.store import accounts, in_thread, nodes, runs, set_policy, syncing
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.syncing.revalidation import check_ids, revalidate
from tests.fakes import FakeService, in_loop, note_analyser
from tests.integration.rows import ALICE, make_node

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

LONG_AGO = timezone.now() - timedelta(days=100)


@pytest.fixture(autouse=True)
def _notes() -> Iterator[None]:
    with registry.temporarily(note_analyser(), replace=True):
        yield


@in_thread
def recorded(pk: int) -> list[SyncRun]:
    """Return the runs of a node, oldest first."""
    return list(SyncRun.objects.filter(node_id=pk).order_by("pk"))


@in_thread
def change(pk: int, **fields: Any) -> None:
    PubsubNode.objects.filter(pk=pk).update(**fields)


async def reasons(pk: int) -> list[str]:
    return [run.reason for run in await recorded(pk)]


async def synced(size: int = 3) -> tuple[FakeService, int]:
    service = FakeService()
    service.fill(size)
    pk = await make_node()
    await sync_node(service, pk)
    return service, pk


@in_loop
async def test_a_run_has_counts_requests_and_times() -> None:
    service, pk = await synced(3)
    service.publish("new")
    service.retract("item-000")
    await change(pk, bring_back=True)
    await sync_node(service, pk)
    first, second = await recorded(pk)
    assert (first.kind, first.reason, first.outcome) == ("full", "first", "done")
    assert (first.added, first.updated, first.removed, first.error) == (3, 0, 0, "")
    assert (second.reason, second.added, second.removed) == ("staff", 1, 1)
    assert first.requests == second.requests > 1
    assert first.finished is not None
    assert first.duration is not None
    assert timedelta(0) <= first.duration < timedelta(minutes=1)


REASONS: dict[str, dict[str, Any]] = {
    "staff": {"bring_back": True},
    "retry": {"failures": 1},
    "first": {"sync_state": None},
    "analyser": {"parse_anew": True},
    "invalidated": {"checked_at": None},
    "read": {"sync_requested": LONG_AGO},
    "reconnect": {"checked_token": -1},
    "contents": {"compared_at": LONG_AGO},
    "schedule": {},
}


@in_loop
async def test_the_row_of_the_node_says_why_it_is_synchronised() -> None:
    service, pk = await synced()
    for reason, fields in REASONS.items():
        await change(pk, **fields)
        await revalidate(service, pk)
        assert (await reasons(pk))[-1] == reason
    await sync_node(service, pk, fetch_evicted=True)  # as pubsub_sync does
    assert (await reasons(pk))[-1] == "staff"


@in_loop
async def test_of_routine_runs_without_changes_only_the_newest_in_a_row_stays() -> None:
    service, pk = await synced()
    for _ in range(3):
        await change(pk, checked_token=-1)
        await revalidate(service, pk)
    assert await reasons(pk) == ["first", "reconnect"]
    service.publish("new")
    for _ in range(3):
        await revalidate(service, pk)
    assert [(run.reason, run.added) for run in await recorded(pk)] == [
        ("first", 3), ("reconnect", 0), ("schedule", 1), ("schedule", 0),
    ]  # fmt: skip


@in_loop
async def test_a_failed_run_has_its_error_on_one_line_and_what_it_stored() -> None:
    service, pk = await synced(0)
    service.fill(30)
    service.paging = "ids"
    service.breaks_on = dict.fromkeys(range(6, 50), ServiceError("internal-server-error", "out\nof \u202eorder"))
    with override_settings(PUBSUBCACHE_PAGE_SIZE=10), pytest.raises(ServiceError):
        await sync_node(service, pk)
    run = (await recorded(pk))[-1]
    assert run.outcome == "failed"
    assert run.added >= 10
    assert run.requests > 0
    assert "\n" not in run.error
    assert "out of \\u202eorder" in run.error
    assert run.finished is not None


@in_loop
async def test_a_refused_run_says_so() -> None:
    service, pk = await synced()
    service.errors = {"get_items": Forbidden("forbidden", "members only")}
    with pytest.raises(Forbidden):
        await sync_node(service, pk)
    run = (await recorded(pk))[-1]
    assert run.outcome == "refused"
    assert "members only" in run.error
    assert run.requests > 0


@in_loop
async def test_a_run_that_is_cancelled_or_whose_node_is_dropped_is_abandoned() -> None:
    service, pk = await synced()
    stopped = asyncio.Event()

    async def stop(*args: Any) -> None:
        stopped.set()
        await asyncio.Event().wait()

    service.hook = stop
    task = asyncio.create_task(sync_node(service, pk))
    await stopped.wait()
    assert (await recorded(pk))[-1].outcome == "running"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (await recorded(pk))[-1].outcome == "abandoned"

    await in_thread(syncing.claim)(pk, "owner")
    await in_thread(set_policy)(PubsubNode.objects.filter(pk=pk), "never")
    assert [run.outcome for run in await recorded(pk)] == ["done", "abandoned", "abandoned"]


@in_loop
async def test_the_run_of_a_dead_process_is_abandoned_when_its_claim_ends() -> None:
    service, pk = await synced()
    for end_claim in (expire_and_claim, expire_and_prune, take_over):
        await in_thread(syncing.claim)(pk, "dead/1")
        assert (await recorded(pk))[-1].outcome == "running"
        await in_thread(end_claim)(pk)
        assert [run.outcome for run in await recorded(pk)][-1] == "abandoned"
        await change(pk, sync_owner="")
    await sync_node(service, pk)
    assert [run.outcome for run in await recorded(pk)] == ["done", *["abandoned"] * 4, "done"]


def expire_and_claim(pk: int) -> None:
    PubsubNode.objects.filter(pk=pk).update(sync_heartbeat=LONG_AGO)
    running = SyncRun.objects.with_time().get(outcome="running")
    assert running.current_outcome == "abandoned"
    claim = syncing.claim(pk, "other")
    assert claim is not None
    syncing.release(pk, "other")


def expire_and_prune(pk: int) -> None:
    PubsubNode.objects.filter(pk=pk).update(sync_heartbeat=LONG_AGO)
    assert runs.prune(PubsubNode.objects.get(pk=pk).account_id) == 0


def take_over(pk: int) -> None:
    Account.objects.update(worker="dead", heartbeat=LONG_AGO)
    accounts.claim_accounts("next")


@in_loop
async def test_a_live_run_is_neither_abandoned_nor_started_twice() -> None:
    service, pk = await synced()
    assert await in_thread(syncing.claim)(pk, "owner") is not None
    with pytest.raises(SyncInProgress):
        await sync_node(service, pk)
    await in_thread(lambda: runs.prune(Account.objects.get().pk))()
    live = (await recorded(pk))[-1]
    assert live.outcome == "running"
    assert await in_thread(lambda: SyncRun.objects.get(pk=live.pk).current_outcome)() == "running"


@in_loop
async def test_an_id_check_is_recorded_only_if_it_removes_items() -> None:
    service, pk = await synced(5)
    await in_thread(Account.objects.update)(status="online", worker="w", heartbeat=timezone.now())
    await revalidate(service, pk)
    assert await reasons(pk) == ["first"]
    service.retract("item-000")
    await revalidate(service, pk)
    run = (await recorded(pk))[-1]
    assert (run.kind, run.reason, run.outcome, run.removed) == ("ids", "schedule", "done", 1)
    assert run.requests > 1


@in_loop
async def test_a_difference_that_an_id_check_finds_is_the_reason_of_the_full_sync() -> None:
    service, pk = await synced()
    service.publish("new")
    assert await check_ids(service, pk)
    run = (await recorded(pk))[-1]
    assert (run.kind, run.reason, run.added) == ("full", "ids", 1)


def make_runs(pk: int, *days: int) -> None:
    node = PubsubNode.objects.get(pk=pk)
    SyncRun.objects.bulk_create(
        SyncRun(
            account=node.account, node=node, kind="full", reason="staff", outcome="failed",
            started=timezone.now() - timedelta(days=ago),
        )
        for ago in days
    )  # fmt: skip


@in_loop
async def test_old_and_surplus_runs_are_pruned_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    pk = await make_node()
    await in_thread(make_runs)(pk, 50, 40, 31, 5, 4, 3, 2, 1)
    account_pk = await in_thread(lambda: Account.objects.get().pk)()
    monkeypatch.setattr(runs, "BATCH", 2)
    assert [await in_thread(runs.prune)(account_pk) for _ in range(3)] == [2, 1, 0]
    with override_settings(PUBSUBCACHE_MAX_SYNC_RUNS=2):
        assert [await in_thread(runs.prune)(account_pk) for _ in range(3)] == [2, 1, 0]
    ages = [(timezone.now() - run.started).days for run in await recorded(pk)]
    assert ages == [2, 1]


@in_loop
async def test_runs_of_a_node_go_with_it() -> None:
    _, pk = await synced()
    await in_thread(nodes.remove_node)(pk)
    assert await recorded(pk) == []


def test_owners_see_the_runs_of_their_accounts_only() -> None:
    owner, other = User.objects.create_user("owner"), User.objects.create_superuser("other")
    pks = []
    for jid, user in ((ALICE, owner), ("bob@example.org", other)):
        account = Account.objects.create(jid=jid, owner=user)
        pks.append(PubsubNode.objects.create(account=account, service=jid, name="n").pk)
        make_runs(pks[-1], 1)
    assert list(SyncRun.objects.visible_to(owner).values_list("node", flat=True)) == pks[:1]
    assert SyncRun.objects.visible_to(other).failed(LONG_AGO).count() == 2
