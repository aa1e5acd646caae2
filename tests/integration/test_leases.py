"""Test that a worker writes only under its lease, and that nothing it acquired outlives it."""

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from pubsubcache.analysers import registry
from pubsubcache.exceptions import LeaseLost, SyncInProgress
from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.store import accounts, id_checks, in_thread, nodes, scheduling, syncing, uninterrupted, written
from pubsubcache.store.changes import PurgeAll, apply_changes
from pubsubcache.store.leases import Lease, acting_under, fenced
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.utils import clock
from tests.fakes import ADDRESS, FakeService, in_loop, note_analyser

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]
JID = "alice@example.org"


@pytest.fixture(autouse=True)
def notes() -> Any:
    with registry.temporarily(note_analyser(), replace=True):
        yield


def make_node(**fields: Any) -> PubsubNode:
    Account.objects.get_or_create(jid=JID)
    node = nodes.get_or_create_node(JID, ADDRESS, by_hand=True)
    values = {"sync_state": "COMPLETED", "checked_at": timezone.now(), "item_count": 1, **fields}
    PubsubNode.objects.filter(pk=node.pk).update(**values)
    PubsubItem.objects.create(node=node, name="kept", data="<item/>")
    return PubsubNode.objects.get(pk=node.pk)


def take(worker: str) -> Lease:
    (account,) = accounts.claim_accounts(worker)
    return Lease(account.pk, worker, account.fencing_token)


def silence(worker: str) -> None:
    Account.objects.filter(worker=worker).update(heartbeat=timezone.now() - timedelta(hours=1))


def a_claim(node: PubsubNode) -> syncing.Claim:
    found = syncing.claim(node.pk, "owner")
    assert found is not None
    return found


# The writes of a worker; each takes the node and the data prepared for it.
WRITES: dict[str, tuple[Callable[[PubsubNode], Any], Callable[[PubsubNode, Any], Any]]] = {
    "a notification": (lambda node: None, lambda node, _: apply_changes(node.pk, [PurgeAll()])),
    "what it read back": (lambda node: node, lambda node, row: written.apply_answer(row, [PurgeAll()])),
    "a claim": (lambda node: None, lambda node, _: syncing.claim(node.pk, "owner")),
    "a page": (a_claim, lambda node, claim: syncing.store_page(claim, [], {}, 0, None)),
    "the end of a sync": (
        a_claim,
        lambda node, claim: syncing.finish(claim, subscribed=True, reverse=False),
    ),
    "a failed sync": (a_claim, lambda node, claim: syncing.fail(claim, "reason")),
    "a comparison": (lambda node: None, lambda node, _: id_checks.check(node.pk, node.revision, 1)),
    "a confirmation": (lambda node: None, lambda node, _: id_checks.mark_checked(node.pk, timezone.now())),
    "an analysis": (lambda node: None, lambda node, _: nodes.update_analysis(node.pk, None, "error")),
    "a removal": (lambda node: None, lambda node, _: nodes.remove_node(node.pk)),
    "a refusal": (lambda node: None, lambda node, _: nodes.hide_node(node.pk, "forbidden")),
    "a doubt": (lambda node: None, lambda node, _: nodes.invalidate_node(node.pk)),
    "doubt of all": (lambda node: None, lambda node, _: nodes.invalidate_all(JID)),
    "a subscription": (lambda node: None, lambda node, _: nodes.set_subscribed(node.pk, True)),
    "a service's ways": (lambda node: None, lambda node, _: nodes.record_publishers(node.pk, True)),
}


@pytest.mark.parametrize("what", WRITES)
def test_worker_that_lost_its_lease_changes_nothing(what: str) -> None:
    prepare, write = WRITES[what]
    node = make_node()
    old = take("first")
    prepared = prepare(node)
    silence("first")
    new = take("second")
    before = list(PubsubNode.objects.values()), list(PubsubItem.objects.values())
    with acting_under(old), pytest.raises(LeaseLost):
        write(node, prepared)
    assert before == (list(PubsubNode.objects.values()), list(PubsubItem.objects.values()))
    with acting_under(new):
        write(node, prepared)


@pytest.mark.postgresql_only
def test_postgresql_ends_the_transaction_of_a_suspended_worker(settings: Any) -> None:
    settings.PUBSUBCACHE_LEASE_TIMEOUT = 1.5
    make_node()

    @fenced
    def patience() -> str:
        with connection.cursor() as cursor:
            cursor.execute("SHOW idle_in_transaction_session_timeout")
            return str(cursor.fetchone()[0])

    with acting_under(take("w")):
        assert patience() == "1500ms"


def test_new_session_voids_pending_writes_of_the_old_one() -> None:
    node = make_node()
    old = take("w")
    new = accounts.begin_session(old, timezone.now())
    with acting_under(old), pytest.raises(LeaseLost):
        apply_changes(node.pk, [PurgeAll()])
    with acting_under(new):
        assert apply_changes(node.pk, [PurgeAll()]) is not None


def test_status_is_recorded_only_by_the_holder() -> None:
    make_node()
    old = take("first")
    silence("first")
    new = take("second")
    for record in (lambda: accounts.save_status(old, "online"), lambda: accounts.begin_session(old, None)):
        with pytest.raises(LeaseLost):
            record()
    assert Account.objects.get().status == "connecting"
    accounts.save_status(new, "offline", "reason")
    assert Account.objects.get().status == "offline"


def test_takeover_ends_the_claims_of_the_previous_worker() -> None:
    node = make_node()
    with acting_under(take("first")):
        assert syncing.claim(node.pk, syncing.new_owner()) is not None
    silence("first")
    assert syncing.claim(node.pk, syncing.new_owner()) is None
    with acting_under(take("second")):
        assert syncing.claim(node.pk, syncing.new_owner()) is not None


def test_takeover_leaves_the_claim_of_a_command() -> None:
    node = make_node()
    take("first")
    assert syncing.claim(node.pk, syncing.new_owner()) is not None
    silence("first")
    with acting_under(take("second")):
        assert syncing.claim(node.pk, syncing.new_owner()) is None


@pytest.mark.parametrize("ago", [timedelta(hours=1), -timedelta(hours=2)])
def test_only_a_recent_heartbeat_keeps_an_account(ago: timedelta) -> None:
    make_node()
    take("first")
    assert accounts.claim_accounts("second") == []
    Account.objects.update(heartbeat=timezone.now() - ago)
    assert [account.worker for account in accounts.claim_accounts("second")] == ["second"]


@pytest.mark.parametrize("ago", [timedelta(hours=1), -timedelta(hours=2)])
def test_only_a_recent_heartbeat_keeps_a_claim(ago: timedelta) -> None:
    node = make_node()
    assert syncing.claim(node.pk, "first") is not None
    assert syncing.claim(node.pk, "second") is None
    PubsubNode.objects.update(sync_heartbeat=timezone.now() - ago)
    assert syncing.claim(node.pk, "second") is not None


def test_renewal_keeps_leases_and_takes_no_new_ones() -> None:
    make_node()
    accounts.renew_leases("w")
    assert Account.objects.get().worker == ""
    take("w")
    silence("w")
    accounts.renew_leases("w")
    assert Account.objects.get().is_held()


@in_loop
async def test_sync_under_a_lost_lease_writes_nothing() -> None:
    service = FakeService()
    service.fill(5)
    node = await in_thread(make_node)()
    old = await in_thread(take)("first")

    async def take_over(service: FakeService, method: str, argument: Any) -> None:
        if method == "get_node_metadata":
            await in_thread(silence)("first")
            await in_thread(take)("second")

    service.hook = take_over
    with acting_under(old), pytest.raises(LeaseLost):
        await sync_node(service, node.pk)
    row = await in_thread(PubsubNode.objects.get)(pk=node.pk)
    assert (row.sync_owner, row.failures, row.sync_error) == ("", 0, "")


@pytest.mark.django_db(transaction=True)
async def test_claim_ends_when_its_task_is_cancelled_while_it_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    node = await in_thread(make_node)()
    entered, go_on = threading.Event(), threading.Event()
    claim = syncing.claim

    def slow_claim(*args: Any, **kwargs: Any) -> Any:
        claimed = claim(*args, **kwargs)
        entered.set()
        assert go_on.wait(30)
        return claimed

    monkeypatch.setattr(syncing, "claim", slow_claim)
    task = asyncio.create_task(sync_node(FakeService(), node.pk))
    await asyncio.to_thread(entered.wait, 30)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await in_thread(PubsubNode.objects.get)(pk=node.pk)).sync_owner == ""


@pytest.mark.django_db(transaction=True)
async def test_sync_cancelled_anywhere_leaves_no_claim() -> None:
    """Cancel twice in a row, at each request to the service in turn."""
    node = await in_thread(make_node)()
    for number in range(8):
        service = FakeService()
        service.fill(3)
        reached = asyncio.Event()

        async def stop(service: FakeService, method: str, argument: Any) -> None:
            if len(service.requests) > number:  # noqa: B023
                reached.set()  # noqa: B023
                await asyncio.Event().wait()

        service.hook = stop
        task = asyncio.create_task(sync_node(service, node.pk))
        done, _ = await asyncio.wait(
            {task, waiting := asyncio.create_task(reached.wait())}, return_when="FIRST_COMPLETED"
        )
        waiting.cancel()
        if task in done:
            break
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await in_thread(PubsubNode.objects.get)(pk=node.pk)).sync_owner == ""
    else:
        pytest.fail("The synchronisation makes more requests than were cancelled.")


@in_loop
async def test_claim_of_another_process_is_kept() -> None:
    node = await in_thread(make_node)()
    assert await in_thread(syncing.claim)(node.pk, "another") is not None
    with pytest.raises(SyncInProgress):
        await sync_node(FakeService(), node.pk)
    assert (await in_thread(PubsubNode.objects.get)(pk=node.pk)).sync_owner == "another"


async def test_uninterrupted_work_completes_before_the_cancellation() -> None:
    ended = False

    async def work() -> None:
        nonlocal ended
        await asyncio.sleep(0.01)
        ended = True

    task = asyncio.create_task(uninterrupted(work()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended


# Clocks


def test_clock_that_stepped_back_does_not_make_nodes_due_repeatedly(monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node()
    lease = accounts.begin_session(take("w"), timezone.now())
    earlier = timezone.now() - timedelta(hours=1)
    monkeypatch.setattr(clock, "now", lambda: earlier)
    with acting_under(lease):
        assert scheduling.due(node.account_id, 9, token=lease.token) == [node.pk]
        syncing.finish(a_claim(node), subscribed=True, reverse=False)
        assert scheduling.due(node.account_id, 9, token=lease.token) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"checked_at": timedelta(hours=1)},
        {"sync_state": "ERROR", "next_attempt": timedelta(days=9)},
        {"checked_at": timedelta(hours=1), "reconcile_interval": timedelta(minutes=1)},
    ],
)
def test_times_in_the_future_are_ignored(fields: dict[str, Any]) -> None:
    now = timezone.now()
    values = {
        name: now + value if isinstance(value, timedelta) and name != "reconcile_interval" else value
        for name, value in fields.items()
    }
    node = make_node(**values)
    assert scheduling.due(node.account_id, 9, token=0) == [node.pk]


def test_processes_share_the_clock_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    make_node()
    take("w")
    if Account.objects.with_time().get().as_of is None:
        pytest.fail("The row does not say when it was read.")
    ahead = timezone.now() + timedelta(hours=1)
    monkeypatch.setattr(timezone, "now", lambda: ahead)
    assert Account.objects.with_time().get().is_held()
    found = nodes.find_node(JID, ADDRESS)
    assert found is not None
    assert found.account.is_held(found.as_of)
