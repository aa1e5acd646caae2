"""Test that nodes that are no longer read are forgotten unless they are pinned."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test import override_settings
from django.utils import timezone

from pubsubcache import cache
from pubsubcache.analysers import registry
from pubsubcache.cache import get_items, get_items_sync
from pubsubcache.models import Account, PendingUnsubscription, PubsubItem, PubsubNode
from pubsubcache.services.sessions import sessions
from pubsubcache.store import ageing, in_thread, nodes
from pubsubcache.store.ageing import forget_unread, record_read
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.types import NodeAddress
from pubsubcache.worker import ageing as worker_ageing
from tests.fakes import ADDRESS, FakeService, in_loop, note_analyser

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

ALICE = "alice@example.org"
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def account() -> Iterator[Account]:
    with registry.temporarily(note_analyser(), replace=True):
        yield Account.objects.create(jid=ALICE)


def make_nodes(account: Account, *days: float, **fields: Any) -> list[PubsubNode]:
    """Create nodes that were last read this many days ago."""
    now = timezone.now()
    start = PubsubNode.objects.count()
    return PubsubNode.objects.bulk_create(
        PubsubNode(
            account=account, service="s.example", name=f"node-{start + number}", last_read=now - DAY * ago, **fields
        )
        for number, ago in enumerate(days)
    )


def forget_all(account: Account) -> int:
    total = 0
    while forgotten := forget_unread(account.pk):
        total += forgotten
    return total


def names() -> set[str]:
    return set(PubsubNode.objects.values_list("name", flat=True))


def test_unread_nodes_are_forgotten_with_their_subscriptions(account: Account) -> None:
    make_nodes(account, 31, 40, subscribed=True)
    make_nodes(account, 29, 0, subscribed=True)
    assert forget_all(account) == 2
    assert names() == {"node-2", "node-3"}
    assert set(PendingUnsubscription.objects.values_list("name", flat=True)) == {"node-0", "node-1"}


@pytest.mark.parametrize("fields", [{"policy": "always"}, {"policy": "never"}, {"pinned": True}], ids=str)
def test_pinned_nodes_are_kept(account: Account, fields: dict[str, Any]) -> None:
    make_nodes(account, 400, **fields)
    make_nodes(account, 1)
    with override_settings(PUBSUBCACHE_MAX_UNPINNED_NODES=1):
        assert forget_all(account) == 0


def test_node_that_is_being_synchronised_is_kept(account: Account) -> None:
    make_nodes(account, 400, sync_owner="another", sync_heartbeat=timezone.now())
    assert forget_all(account) == 0


def test_least_recently_read_nodes_over_the_bound_are_forgotten(account: Account) -> None:
    make_nodes(account, 1, 5, 3, 2, 4)
    make_nodes(account, 9, 8, pinned=True)
    with override_settings(PUBSUBCACHE_MAX_UNPINNED_NODES=2):
        assert forget_all(account) == 3
    assert names() == {"node-0", "node-3", "node-5", "node-6"}


def test_other_accounts_are_left_alone(account: Account) -> None:
    make_nodes(Account.objects.create(jid="bob@example.org"), 400)
    assert forget_all(account) == 0


def test_batches_are_bounded(account: Account) -> None:
    make_nodes(account, *[40] * 250)
    assert [forget_unread(account.pk) for _ in range(4)] == [100, 100, 50, 0]
    make_nodes(account, *[40] * 4, item_count=600)
    assert [forget_unread(account.pk) for _ in range(5)] == [1, 1, 1, 1, 0]


def test_own_imported_and_chosen_nodes_are_pinned(account: Account) -> None:
    own = nodes.get_or_create_node(ALICE, NodeAddress(ALICE, "mine"))
    by_chance = nodes.get_or_create_node(ALICE, NodeAddress("s.example", "theirs"))
    assert (own.pinned, by_chance.pinned) == (True, False)
    assert nodes.get_or_create_node(ALICE, by_chance.address, by_hand=True).pinned
    by_chance.refresh_from_db()
    assert by_chance.pinned


def test_read_is_recorded_once_an_hour(account: Account, django_assert_num_queries: Any) -> None:
    (node,) = make_nodes(account, 2)
    record_read(node)
    read = nodes.load_node(node.pk)
    assert read is not None
    assert timezone.now() - read.last_read < timedelta(minutes=1)
    with django_assert_num_queries(0):
        record_read(read)


def test_read_in_the_future_is_corrected(account: Account) -> None:
    (node,) = make_nodes(account, -50)
    record_read(node)
    node.refresh_from_db()
    assert node.last_read <= timezone.now()


def test_only_the_first_of_two_readers_writes(account: Account) -> None:
    (node,) = make_nodes(account, 2)
    other = PubsubNode.objects.get(pk=node.pk)
    record_read(node)
    noted = PubsubNode.objects.get(pk=node.pk).last_read
    record_read(other)
    assert PubsubNode.objects.get(pk=node.pk).last_read == noted


def test_failure_to_record_a_read_is_not_an_error(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    (node,) = make_nodes(account, 2)

    def locked(*_: Any, **__: Any) -> None:
        raise OperationalError("database is locked")

    monkeypatch.setattr(ageing.transaction, "atomic", locked)
    record_read(node)


@in_loop
async def prepare() -> None:
    service = FakeService()
    service.fill(3)
    with sessions.offered(ALICE, service):
        await get_items(ALICE, *address())
        node = await in_thread(PubsubNode.objects.get)(name=ADDRESS.name)
        await sync_node(service, node.pk)


def address() -> tuple[str, str]:
    return ADDRESS.service, ADDRESS.name


@pytest.mark.parametrize("is_async", [True, False])
def test_hits_record_the_read_with_two_queries(is_async: bool, django_assert_max_num_queries: Any) -> None:
    prepare()
    PubsubNode.objects.update(last_read=timezone.now() - 2 * DAY)

    @in_loop
    async def read_async() -> None:
        assert (await get_items(ALICE, *address())).origin == "cache"

    def read() -> None:
        if is_async:
            read_async()
        else:
            assert get_items_sync(ALICE, *address()).origin == "cache"

    read()
    assert timezone.now() - PubsubNode.objects.get().last_read < timedelta(minutes=1)
    with django_assert_max_num_queries(2):
        read()


def test_forgotten_node_is_cached_again_by_a_read() -> None:
    prepare()
    node = PubsubNode.objects.get()
    PubsubNode.objects.update(last_read=timezone.now() - 40 * DAY)
    assert forget_unread(node.account_id) == 1
    assert not PubsubItem.objects.exists()
    prepare()
    found = cache.look_up(ALICE, ADDRESS, cache.ItemsRequest())
    assert found.freshness is cache.Freshness.FRESH


def test_index_finds_unread_nodes_among_many(account: Account) -> None:
    make_nodes(account, *[1] * 3000, pinned=True)
    make_nodes(account, *[1] * 300)
    unpinned = PubsubNode.objects.filter(account_id=account.pk, pinned=False, policy="auto").order_by("last_read")
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    assert "pubsubcache_node_unread" in unpinned.values_list("pk")[:100].explain()


@in_loop
async def test_worker_runs_one_batch_when_due(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(worker_ageing.time, "monotonic", lambda: clock[0])
    asked: list[int] = []

    def forget(pk: int) -> int:
        asked.append(pk)
        return 100 if len(asked) == 1 else 0

    monkeypatch.setattr(worker_ageing, "forget_unread", forget)
    runs = worker_ageing.Ageing(7)
    await runs.attend()
    assert asked == []
    for now, number in ((600.0, 1), (600.5, 1), (601.0, 2), (700.0, 2), (1201.0, 3)):
        clock[0] = now
        await runs.attend()
        assert len(asked) == number, now
