"""Test evicting, forgetting and policies, as decided by staff."""

import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from pubsubcache.analysers import Analysis, registry
from pubsubcache.exceptions import InvalidRequest
from pubsubcache.models import Account, PendingUnsubscription, PubsubEvicted, PubsubItem, PubsubNode
from pubsubcache.store import evict, evictable, forget_nodes, nodes, request_sync, scheduling, set_policy, syncing
from pubsubcache.types import NodeAddress
from tests.fakes import make_item, note_analyser

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

NOW = timezone.now()


@pytest.fixture(autouse=True)
def _analyser() -> Iterator[None]:
    with registry.temporarily(note_analyser(), replace=True):
        yield


def make_node(name: str = "n", size: int = 5, jid: str = "alice@example.org", **fields: Any) -> PubsubNode:
    account, _ = Account.objects.get_or_create(jid=jid)
    values = {"sync_state": "COMPLETED", "subscribed": True, "checked_at": NOW}
    values |= {"registry_fingerprint": registry.fingerprint(), "to_sync": True}
    node = PubsubNode.objects.create(account=account, service="s", name=name, item_count=size, **(values | fields))
    for number in range(size):
        day = NOW - timedelta(days=size - number)
        PubsubItem.objects.create(
            node=node,
            name=f"i{number}",
            data=make_item(f"i{number}").xml,
            position=number + 1,
            created=day,
            updated=day + timedelta(hours=1),
        )
    return node


def left(node: PubsubNode) -> list[str]:
    return list(node.items.in_order().values_list("name", flat=True))


def analysis(to_sync: bool = True, **fields: Any) -> Analysis:
    return Analysis(**({"service": "s", "node": "n", "name": "note", "type": "note", "to_sync": to_sync} | fields))


# Evicting


def test_evicted_items_are_remembered() -> None:
    node = make_node()
    before = list(node.items.in_order().values_list("name", "position", "created", "updated"))
    assert evict(PubsubNode.objects.filter(pk=node.pk)) == 5
    node.refresh_from_db()
    assert (left(node), node.item_count, node.evicted_count, node.sync_state) == ([], 0, 5, "COMPLETED")
    evicted = node.evicted.order_by("position").values_list("name", "position", "created", "updated")
    assert list(evicted) == before
    assert evict(PubsubNode.objects.all()) == 0


@pytest.mark.parametrize(
    ("limits", "number"),
    [
        ({"created_before": NOW - timedelta(days=3)}, 2),
        ({"created_before": NOW - timedelta(days=3, microseconds=-1)}, 3),
        ({"updated_before": NOW - timedelta(days=3)}, 2),
        ({"updated_before": NOW - timedelta(days=3, hours=-2)}, 3),
        ({"created_before": NOW - timedelta(days=2), "updated_before": NOW - timedelta(days=4)}, 1),
        ({"created_before": NOW - timedelta(days=99)}, 0),
    ],
)
def test_only_old_items_are_evicted(limits: dict[str, Any], number: int) -> None:
    node, other = make_node(), make_node("other")
    chosen = PubsubNode.objects.filter(pk=node.pk)
    assert evictable(chosen, **limits).count() == number
    assert evict(chosen, **limits) == number
    node.refresh_from_db()
    assert left(node) == [f"i{place}" for place in range(number, 5)]
    assert (node.item_count, node.evicted_count) == (5 - number, number)
    assert len(left(other)) == 5


def test_many_items_are_evicted_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsubcache.store.evicting.BATCH", 2)
    node = make_node(size=7)
    assert evict(PubsubNode.objects.all()) == 7
    node.refresh_from_db()
    assert (node.item_count, node.evicted_count) == (0, 7)


# Forgetting


@pytest.mark.parametrize("unsubscribe", [True, False])
def test_forgetting(unsubscribe: bool) -> None:
    node, kept = make_node(), make_node("kept")
    make_node("not subscribed", subscribed=False)
    evict(PubsubNode.objects.filter(pk=node.pk))
    assert forget_nodes(PubsubNode.objects.exclude(pk=kept.pk), unsubscribe=unsubscribe) == 2
    assert list(PubsubNode.objects.all()) == [kept]
    assert PubsubItem.objects.count() == 5
    assert not PubsubEvicted.objects.exists()
    pending = [row.name for row in PendingUnsubscription.objects.all()]
    assert pending == (["n"] if unsubscribe else [])
    assert forget_nodes(PubsubNode.objects.none(), unsubscribe=True) == 0


def test_forgotten_twice() -> None:
    for _ in range(2):
        make_node()
        assert forget_nodes(PubsubNode.objects.all(), unsubscribe=True) == 1
    assert PendingUnsubscription.objects.count() == 1


# Policies


def test_policy_never() -> None:
    node = make_node()
    assert set_policy(PubsubNode.objects.all(), "never") == 1
    node.refresh_from_db()
    assert (node.policy, node.sync_state, node.subscribed, node.checked_at) == ("never", "NO_SYNC", False, None)
    assert (left(node), node.item_count) == ([], 0)
    assert "never" in node.sync_error
    assert PendingUnsubscription.objects.get().name == "n"
    nodes.save_analysis("alice@example.org", node.address, analysis())
    node.refresh_from_db()
    assert node.sync_state == "NO_SYNC"


def test_policy_always_and_back() -> None:
    make_node(sync_state="NO_SYNC", to_sync=False, size=0, subscribed=False)
    set_policy(PubsubNode.objects.all(), "always")
    node = PubsubNode.objects.get()
    assert (node.sync_state, node.policy) == (None, "always")
    assert scheduling.due(node.account_id, 5, token=0) == [node.pk]
    set_policy(PubsubNode.objects.all(), "auto")
    node = PubsubNode.objects.get()
    assert node.sync_state == "NO_SYNC"
    assert scheduling.due(node.account_id, 5, token=0) == []


def test_node_in_sync_stays_in_sync() -> None:
    node = make_node()
    set_policy(PubsubNode.objects.all(), "always")
    node.refresh_from_db()
    assert (node.sync_state, len(left(node)), node.subscribed) == ("COMPLETED", 5, True)


def test_unknown_policies() -> None:
    with pytest.raises(InvalidRequest, match="sometimes"):
        set_policy(PubsubNode.objects.all(), "sometimes")


# Analyses


@pytest.mark.parametrize("found", [None, analysis(to_sync=False)])
def test_negative_analysis_empties_the_node(found: Analysis | None) -> None:
    node = make_node()
    nodes.save_analysis("alice@example.org", node.address, found)
    node.refresh_from_db()
    assert (node.sync_state, left(node), node.subscribed) == ("NO_SYNC", [], False)
    assert node.sync_error
    assert PendingUnsubscription.objects.count() == 1


def test_policy_overrides_the_analysis() -> None:
    node = make_node(policy="always")
    nodes.save_analysis("alice@example.org", node.address, None)
    node.refresh_from_db()
    assert (node.sync_state, len(left(node))) == ("COMPLETED", 5)


def test_failed_analysis_is_repeated() -> None:
    address = NodeAddress("s", "new")
    Account.objects.create(jid="alice@example.org")
    node = nodes.save_analysis("alice@example.org", address, None, "it failed")
    assert (node.sync_state, node.sync_error, node.registry_fingerprint) == ("NO_SYNC", "it failed", "")
    node = nodes.save_analysis("alice@example.org", address, analysis(subtype="x"))
    assert (node.sync_state, node.sync_error, node.subtype) == (None, "", "x")
    with pytest.raises(Account.DoesNotExist):
        nodes.save_analysis("nobody@example.org", address, None)


# Scheduling


def test_requested_synchronisation_comes_first() -> None:
    account_pk = make_node("fresh").account_id
    other = make_node("new", sync_state=None, checked_at=None, size=0)
    asked = make_node("asked", sync_state="NO_SYNC", size=0)
    waiting = make_node("failed", sync_state="ERROR", next_attempt=NOW + timedelta(hours=1), size=0)
    make_node("hidden", sync_state="ERROR", size=0)
    assert scheduling.due(account_pk, 9, token=0) == [other.pk]
    assert request_sync(PubsubNode.objects.filter(pk=asked.pk)) == 1
    assert scheduling.due(account_pk, 9, token=0) == [asked.pk, other.pk]
    assert scheduling.due(account_pk, 1, token=0) == [asked.pk]
    PubsubNode.objects.filter(pk=waiting.pk).update(next_attempt=NOW - timedelta(seconds=1))
    assert set(scheduling.due(account_pk, 9, token=0)) == {asked.pk, other.pk, waiting.pk}
    claimed = syncing.claim(asked.pk, "me")
    assert claimed is not None
    assert claimed.fetch_evicted
    assert asked.pk not in scheduling.due(account_pk, 9, token=0)


def test_node_checked_before_the_session_began_is_due() -> None:
    node = make_node()
    assert scheduling.due(node.account_id, 9, token=0) == []
    assert scheduling.due(node.account_id, 9, token=1) == [node.pk]
    PubsubNode.objects.update(checked_at=NOW - timedelta(hours=2))
    assert scheduling.due(node.account_id, 9, token=0) == [node.pk]
    nodes.invalidate_all(node.account.jid)
    assert scheduling.due(node.account_id, 9, token=0) == [node.pk]


def test_invalidating_a_node_requests_a_sync_only_during_a_sync() -> None:
    node = make_node()
    nodes.invalidate_node(node.pk)
    node.refresh_from_db()
    assert (node.checked_at, node.sync_requested) == (None, None)
    PubsubNode.objects.update(sync_owner="x", checked_at=NOW)
    nodes.invalidate_node(node.pk)
    node.refresh_from_db()
    assert node.checked_at is None
    assert node.sync_requested is not None


@pytest.mark.parametrize(
    "name", ["", "a\0", "\ud800", "é" * 1251, "x" * 2501]
)  # fmt: skip
def test_addresses_that_cannot_be_stored(name: str) -> None:
    with pytest.raises(InvalidRequest):
        nodes.check_address(NodeAddress("s", name))


def test_the_longest_address_fits_every_index() -> None:
    dice = random.Random(1)
    name = "".join(chr(dice.randrange(0x4E00, 0x9FFF)) for _ in range(830))
    address = NodeAddress("s" * 10, name)
    nodes.check_address(address)
    Account.objects.create(jid="alice@example.org")
    nodes.get_or_create_node("alice@example.org", address)
    assert nodes.find_node("alice@example.org", address) is not None
    PubsubNode.objects.all().update(subscribed=True)
    forget_nodes(PubsubNode.objects.all(), unsubscribe=True)
    assert PendingUnsubscription.objects.count() == 1
