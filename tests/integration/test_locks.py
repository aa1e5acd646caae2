"""Test which locks on PostgreSQL wait for which: deletions for writers, but writers of nodes not for their account."""

import threading
from collections.abc import Callable

import pytest
from django.db import connection, connections, transaction

from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.store import evict, forget_nodes, nodes, syncing
from pubsubcache.store.accounts import delete_accounts
from pubsubcache.store.changes import PurgeAll, apply_changes
from tests.fakes import make_item

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgresql_only]


def wait_for_a_lock() -> None:
    """Return when another connection waits for a lock."""
    with connection.cursor() as cursor:
        waiting = 0
        while not waiting:
            cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
            [waiting] = cursor.fetchone()


def in_background(function: Callable[[], object]) -> tuple[threading.Thread, list[Exception]]:
    """Return a thread that will call `function`, and a list for what it raises."""
    failures: list[Exception] = []

    def run() -> None:
        try:
            function()
        except Exception as error:
            failures.append(error)
        finally:
            connections.close_all()

    return threading.Thread(target=run), failures


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
    thread, failures = in_background(delete)
    with transaction.atomic():
        node = PubsubNode.objects.select_for_update().get(pk=pk)
        thread.start()
        wait_for_a_lock()
        PubsubItem.objects.create(node=node, name="1", data=make_item("1").xml, position=1)
    thread.join(60)
    assert failures == []
    assert not PubsubNode.objects.exists()
    assert not PubsubItem.objects.exists()


@pytest.mark.parametrize(
    "write",
    [
        lambda pk: evict(PubsubNode.objects.filter(pk=pk)),
        lambda pk: apply_changes(pk, [PurgeAll()]),
        lambda pk: syncing.claim(pk, "owner"),
    ],
    ids=["evict", "notification", "claim"],
)
def test_writer_of_a_node_does_not_wait_for_a_lock_of_its_account(write: Callable[[int], object]) -> None:
    account = Account.objects.create(jid="alice@example.org")
    node = PubsubNode.objects.create(account=account, service="s", name="n", sync_state="COMPLETED", item_count=1)
    PubsubItem.objects.create(node=node, name="1", data=make_item("1").xml, position=1)
    thread, failures = in_background(lambda: write(node.pk))
    with transaction.atomic():
        list(Account.objects.select_for_update(no_key=True))
        thread.start()
        thread.join(60)
        assert not thread.is_alive()
    thread.join()
    assert failures == []
