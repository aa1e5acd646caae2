"""Test that texts of services are stored as one clean line."""

import pytest

from pubsubcache.exceptions import PubsubCacheError, ServiceError
from pubsubcache.models import Account, PubsubNode
from pubsubcache.store import accounts, in_thread, nodes
from pubsubcache.store.leases import Lease
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.types import ItemsRequest, NodeAddress, ServicePage
from tests.fakes import ADDRESS, FakeService, in_loop

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

NASTY = "refused\n2026-01-01 INFO forged\r\x00\x1b[31m\x85\u2028\u202e\ud800" + "x" * 6_000_000


class NastyService(FakeService):
    """Refuses all requests with a hostile text."""

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ServicePage:
        raise ServiceError("bad-request", NASTY)


def assert_clean(text: str) -> None:
    assert "refused 2026-01-01 INFO forged" in text
    assert text.isprintable()
    assert len(text) <= 1000


@in_thread
def made() -> PubsubNode:
    account = Account.objects.create(jid="alice@example.org", worker="here")
    return PubsubNode.objects.create(account=account, service=ADDRESS.service, name=ADDRESS.name, policy="always")


@in_thread
def reloaded(node: PubsubNode) -> PubsubNode:
    return PubsubNode.objects.select_related("account").get(pk=node.pk)


@in_loop
async def test_the_reason_of_a_failed_synchronisation_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    node = await made()
    with pytest.raises(PubsubCacheError) as caught:
        await sync_node(NastyService(), node.pk)
    assert_clean(str(caught.value))
    assert_clean((await reloaded(node)).sync_error)
    assert all(record.getMessage().isprintable() for record in caplog.records)


@in_loop
async def test_the_detail_of_a_session_is_one_line() -> None:
    node = await made()
    (account,) = await in_thread(accounts.claim_accounts)("here")
    lease = Lease(account.pk, "here", account.fencing_token)
    await in_thread(accounts.save_status)(lease, Account.Status.ERROR, NASTY)
    assert_clean((await reloaded(node)).account.status_detail)


@in_loop
async def test_the_reason_of_a_state_is_one_line() -> None:
    node = await made()
    await in_thread(nodes.set_state)(node, PubsubNode.SyncState.ERROR, NASTY)
    assert_clean(node.sync_error)
