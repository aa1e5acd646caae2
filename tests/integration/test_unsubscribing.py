"""Test that subscriptions end when the cache no longer needs them, but not if it needs them again."""

from typing import Any

import pytest

from pubsubcache.exceptions import SyncFailed
from pubsubcache.models import Account, PendingUnsubscription, PubsubNode
from pubsubcache.store import in_thread, nodes, syncing
from pubsubcache.syncing.full_sync import sync_node
from tests.fakes import ADDRESS, FakeService, in_loop

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]


@pytest.fixture
def node() -> PubsubNode:
    account = Account.objects.create(jid="alice@example.org")
    return PubsubNode.objects.create(
        account=account, service="pubsub.example.org", name="news", sync_state="COMPLETED", subscribed=True
    )


def _set(node: PubsubNode, policy: str) -> None:
    nodes.set_policy(PubsubNode.objects.filter(pk=node.pk), policy)


def test_dropped_node_is_unsubscribed(node: PubsubNode) -> None:
    _set(node, "never")
    assert [address for _, address in nodes.pending_unsubscriptions(node.account_id)] == [node.address]


def test_node_kept_again_is_not_unsubscribed(node: PubsubNode) -> None:
    _set(node, "never")
    _set(node, "always")
    assert nodes.pending_unsubscriptions(node.account_id) == []
    claim = syncing.claim(node.pk, "me")
    assert claim is not None
    syncing.finish(claim, subscribed=True, reverse=False)
    assert not PendingUnsubscription.objects.exists()


def test_node_forgotten_during_a_sync_is_unsubscribed(node: PubsubNode) -> None:
    """Its synchronisation may have subscribed, or may be about to."""
    PubsubNode.objects.update(subscribed=False, sync_owner="me")
    nodes.forget_nodes(PubsubNode.objects.all(), unsubscribe=True)
    assert len(nodes.pending_unsubscriptions(node.account_id)) == 1


@in_loop
async def test_sync_that_lost_its_node_leaves_no_subscription() -> None:
    service = FakeService()
    service.fill(3)

    def adopt() -> PubsubNode:
        Account.objects.create(jid="alice@example.org")
        return nodes.get_or_create_node("alice@example.org", ADDRESS, by_hand=True)

    node = await in_thread(adopt)()

    async def forget(fake: FakeService, method: str, argument: Any) -> None:
        if method == "get_items":
            await in_thread(nodes.forget_nodes)(PubsubNode.objects.all(), unsubscribe=False)

    service.hook = forget
    with pytest.raises(SyncFailed):
        await sync_node(service, node.pk)
    assert await in_thread(lambda: len(nodes.pending_unsubscriptions(node.account_id)))() == 1


def test_forgotten_node_is_unsubscribed(node: PubsubNode) -> None:
    account = node.account_id
    nodes.forget_nodes(PubsubNode.objects.all(), unsubscribe=True)
    assert len(nodes.pending_unsubscriptions(account)) == 1
