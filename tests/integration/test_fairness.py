"""Test that a worker serves all services in turn, and that a slow or silent one does not delay others."""

import asyncio
import time
from collections import Counter
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.utils import timezone

from pubsubcache.models import Account, PendingUnsubscription, PubsubNode
from pubsubcache.store import in_thread, nodes, scheduling
from pubsubcache.worker import keeper as keepers
from pubsubcache.worker.keeper import Keeper
from tests.fakes import in_loop

pytestmark = pytest.mark.django_db

GOOD, SILENT = "good.example.org", "silent.example.org"


def make_account() -> Account:
    return Account.objects.create(jid="alice@example.org", password="x", host="127.0.0.1", port=1)


def add_nodes(account: Account, service: str, number: int = 1, **fields: Any) -> list[int]:
    rows = [PubsubNode(account=account, service=service, name=f"n{n}", **fields) for n in range(number)]
    return [node.pk for node in PubsubNode.objects.bulk_create(rows)]


def next_due(account: Account, **options: Any) -> tuple[int, str] | None:
    return scheduling.next_due(account.pk, token=0, **options)


def test_excluded_services_do_not_hide_others() -> None:
    account = make_account()
    silent = add_nodes(account, SILENT, 60, sync_requested=timezone.now())
    (good,) = add_nodes(account, GOOD)
    assert next_due(account) == (silent[0], SILENT)
    assert next_due(account, excluded={SILENT}) == (good, GOOD)
    assert next_due(account, excluded={SILENT, GOOD}) is None


def test_services_served_before_come_last() -> None:
    account = make_account()
    slow = add_nodes(account, SILENT, 60, sync_requested=timezone.now())
    (good,) = add_nodes(account, GOOD)
    assert next_due(account, served={SILENT}) == (good, GOOD)
    assert next_due(account, served={SILENT}, busy=[good]) == (slow[0], SILENT)
    assert next_due(account, served={SILENT, GOOD}) == (slow[0], SILENT)


def test_users_of_one_server_are_one_service() -> None:
    account = make_account()
    for number in range(5):
        add_nodes(account, f"user{number}@{SILENT}")
    assert next_due(account, excluded={SILENT}) is None
    (own,) = add_nodes(account, account.jid)
    assert next_due(account, excluded={SILENT}) == (own, "example.org")
    pks = set(PubsubNode.objects.values_list("pk", flat=True))
    assert Counter(nodes.domains_of(pks).values()) == {SILENT: 5, "example.org": 1}


def test_unsubscriptions_of_excluded_services_do_not_hide_others() -> None:
    account = make_account()
    for number in range(150):
        PendingUnsubscription.objects.create(account=account, service=f"u{number}@{SILENT}", name="n")
    PendingUnsubscription.objects.create(account=account, service=GOOD, name="n")
    found = nodes.pending_unsubscriptions(account.pk, {SILENT})
    assert [address.service for _, address in found] == [GOOD]


class FakeSession:
    """A session that is online; the services in `silent` are known not to answer."""

    def __init__(self) -> None:
        self.silent: frozenset[str] = frozenset()
        self.online = True
        self.started_at = timezone.now() - timedelta(hours=1)


class Work:
    """Replaces the keeper's work on nodes by tasks that last until `finish`."""

    def __init__(self, keeper: Any) -> None:
        self.keeper = keeper
        self.syncing: list[int] = []
        self.verifying: list[int] = []
        self._ends: dict[int, asyncio.Event] = {}
        keeper._synchronise = lambda pk: self._run(pk, self.syncing)
        keeper._check_ids = lambda pk: self._run(pk, self.verifying)

    async def _run(self, pk: int, running: list[int]) -> None:
        running.append(pk)
        self._ends[pk] = asyncio.Event()
        try:
            await self._ends[pk].wait()
        finally:
            running.remove(pk)

    async def attend(self) -> None:
        await self.keeper._attend()
        await asyncio.sleep(0)

    async def finish(self, pk: int) -> None:
        self._ends[pk].set()
        task = self.keeper._busy[pk]
        await asyncio.wait({task})
        await asyncio.sleep(0)
        await in_thread(PubsubNode.objects.filter(pk=pk).update)(sync_state="NO_SYNC", sync_requested=None)

    async def stop(self) -> None:
        for task in list(self.keeper._busy.values()):
            task.cancel()
            await asyncio.wait({task})
        if self.keeper._unsubscribing:
            await asyncio.wait({self.keeper._unsubscribing})


async def make_keeper() -> tuple[Account, Any, Work]:
    account = await in_thread(make_account)()
    keeper: Any = Keeper(account)
    keeper._session = FakeSession()
    return account, keeper, Work(keeper)


@in_loop
async def test_good_node_is_synchronised_beside_many_of_a_slow_service() -> None:
    account, keeper, work = await make_keeper()
    slow = await in_thread(add_nodes)(account, SILENT, 60, sync_requested=timezone.now())
    (good,) = await in_thread(add_nodes)(account, GOOD)
    await work.attend()
    assert sorted(work.syncing) == [*slow[:2], good]
    await work.finish(good)
    (another,) = await in_thread(add_nodes)(account, f"bob@{GOOD}")
    await work.attend()
    assert sorted(work.syncing) == [*slow[:2], another]
    await work.stop()
    assert keeper._syncs.free == 4


@in_loop
async def test_services_take_turns_in_one_slot() -> None:
    account, keeper, work = await make_keeper()
    keeper._syncs = keepers.Slots(lambda: 1)
    for service in ("a.org", "b.org", "c.org"):
        await in_thread(add_nodes)(account, service, 3)
    order = []
    for _ in range(9):
        await work.attend()
        (pk,) = work.syncing
        order.append((await in_thread(nodes.domains_of)([pk]))[pk])
        await work.finish(pk)
    assert order == ["a.org", "b.org", "c.org"] * 3
    await work.stop()


@in_loop
async def test_silent_services_are_not_synchronised() -> None:
    account, keeper, work = await make_keeper()
    keeper._session.silent = frozenset({SILENT})
    await in_thread(add_nodes)(account, SILENT, 60)
    (good,) = await in_thread(add_nodes)(account, GOOD)
    await work.attend()
    assert work.syncing == [good]
    await work.stop()


@in_loop
async def test_nodes_that_flood_are_not_synchronised() -> None:
    account, keeper, work = await make_keeper()
    flooding, another = await in_thread(add_nodes)(account, SILENT, 2)
    keeper._applier._floods.pks[SILENT] = [flooding]
    await work.attend()
    assert work.syncing == [another]
    keeper._applier._floods.pks.clear()
    await work.attend()
    assert sorted(work.syncing) == sorted([flooding, another])
    await work.stop()


@in_loop
async def test_id_checks_use_no_slots_of_synchronisations() -> None:
    account, keeper, work = await make_keeper()
    growing = await in_thread(add_nodes)(account, SILENT, 64, sync_state="NO_SYNC")
    (grown,) = await in_thread(add_nodes)(account, GOOD, sync_state="NO_SYNC", policy="never")
    (new,) = await in_thread(add_nodes)(account, f"bob@{GOOD}")
    now = time.monotonic()
    keeper._id_checks = dict.fromkeys([*growing, grown], now - 1)
    await work.attend()
    assert work.syncing == [new]
    assert sorted(work.verifying) == [*growing[:2], grown]
    assert len(keeper._id_checks) == 62
    assert keeper._patience() > 0.5  # it waits for a slot without polling
    await work.stop()
    assert keeper._checks.free == 4


@in_loop
async def test_nodes_that_cannot_be_checked_in_time_are_invalidated() -> None:
    account, keeper, work = await make_keeper()
    keeper._session.silent = frozenset({SILENT})
    now = timezone.now()
    old, new = await in_thread(add_nodes)(account, SILENT, 2, sync_state="COMPLETED", checked_at=now)
    keeper._id_checks = {old: time.monotonic() - keepers.CHECK_PATIENCE - 1, new: time.monotonic() - 1}
    await work.attend()
    assert list(keeper._id_checks) == [new]
    checked = dict(await in_thread(list)(PubsubNode.objects.values_list("pk", "checked_at")))
    assert (checked[old], checked[new]) == (None, now)
    await work.stop()


@in_loop
async def test_number_of_waiting_id_checks_is_bounded() -> None:
    account, keeper, work = await make_keeper()
    keeper._session.silent = frozenset({SILENT})
    pks = await in_thread(add_nodes)(account, SILENT, 25, sync_state="COMPLETED", checked_at=timezone.now())
    keeper._id_checks = dict.fromkeys(pks, time.monotonic() - 1)
    with patch.object(keepers, "MAX_ID_CHECKS", 10):
        for _ in range(3):
            await work.attend()
    assert len(keeper._id_checks) == 10
    assert await in_thread(PubsubNode.objects.filter(checked_at=None).count)() == 15
    await work.stop()


@in_loop
async def test_silent_service_does_not_block_other_unsubscriptions() -> None:
    account, keeper, work = await make_keeper()
    await in_thread(PendingUnsubscription.objects.create)(account=account, service=SILENT, name="n")
    await in_thread(PendingUnsubscription.objects.create)(account=account, service=GOOD, name="n")
    (node,) = await in_thread(add_nodes)(account, "other.example.org")
    asked = []
    answered = asyncio.Event()

    async def unsubscribe(address: Any) -> None:
        asked.append(address.service)
        if address.service == SILENT:
            await answered.wait()
            raise keepers.PubsubCacheError("late")

    keeper._session.unsubscribe = unsubscribe
    await asyncio.wait_for(work.attend(), 60)
    assert work.syncing == [node]
    answered.set()
    await keeper._unsubscribing
    assert asked == [SILENT, GOOD]
    rows = PendingUnsubscription.objects.values_list("service", flat=True)
    assert await in_thread(list)(rows) == [SILENT]
    await work.stop()
