"""Test that deletions wait for writers, which would otherwise leave items of a deleted node."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection, connections, transaction

from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.store import forget_nodes, nodes
from pubsubcache.store.accounts import delete_accounts
from tests.fakes import make_item

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql_only]


def wait_for_a_lock() -> None:
    """Return when another connection waits for a lock."""
    with connection.cursor() as cursor:
        waiting = 0
        while not waiting:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            [waiting] = cursor.fetchone()


@pytest.mark.parametrize(
    "delete",
    [
        lambda: forget_nodes(PubsubNode.objects.all(), unsubscribe=False),
        lambda: nodes.remove_node(PubsubNode.objects.get().pk),
        lambda: delete_accounts(Account.objects.all()),
        lambda: PubsubNode.objects.all().delete(),
    ],
    ids=["forget", "remove", "account", "query set"],
)
def test_deletion_removes_an_item_that_is_being_stored(delete: Callable[[], object]) -> None:
    account = Account.objects.create(jid="alice@example.org")
    pk = PubsubNode.objects.create(account=account, service="s", name="n").pk
    failures: list[Exception] = []

    def run() -> None:
        try:
            delete()
        except Exception as error:
            failures.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    with transaction.atomic():
        node = PubsubNode.objects.select_for_update().get(pk=pk)
        thread.start()
        wait_for_a_lock()
        PubsubItem.objects.create(node=node, name="1", data=make_item("1").xml, position=1)
    thread.join(60)
    assert failures == []
    assert not PubsubNode.objects.exists()
    assert not PubsubItem.objects.exists()
