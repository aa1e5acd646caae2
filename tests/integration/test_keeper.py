"""Test that a keeper completes pending work after interruptions."""

import time
from typing import Any

import pytest

from pubsubcache.exceptions import ServiceUnreachable
from pubsubcache.models import Account, PubsubNode
from pubsubcache.store import in_thread, nodes
from pubsubcache.worker.keeper import Keeper
from pubsubcache.xmpp.session import SessionStatus
from tests.fakes import ADDRESS, in_loop

pytestmark = pytest.mark.django_db


@in_thread
def _make() -> tuple[Account, int]:
    account = Account.objects.create(jid="alice@example.org", password="x", host="127.0.0.1", port=1)
    node = nodes.get_or_create_node(account.jid, ADDRESS, by_hand=True)
    PubsubNode.objects.filter(pk=node.pk).update(sync_state="COMPLETED", extra={"rsm": True})
    return account, node.pk


@in_loop
async def test_revalidation_that_lost_its_session_is_repeated_after_resumption() -> None:
    """A resumed stream has missed nothing, so nothing else would revalidate the node."""
    account, pk = await _make()
    keeper: Any = Keeper(account)
    with pytest.raises(ServiceUnreachable):
        await keeper._check_ids(pk)
    assert keeper._id_checks[pk] > time.monotonic() + 1
    keeper._on_status(SessionStatus("online", resumed=True))
    assert keeper._id_checks[pk] <= time.monotonic()
