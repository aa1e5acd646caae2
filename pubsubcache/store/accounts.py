"""Reads and writes accounts: the leases of workers and the state of sessions."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import F, Q, QuerySet

from pubsubcache.exceptions import LeaseLost
from pubsubcache.models import Account, PendingUnsubscription, PubsubNode
from pubsubcache.store import runs
from pubsubcache.store.batches import Batch, Report, Selection, run
from pubsubcache.store.leases import Lease
from pubsubcache.store.nodes import forget_batch
from pubsubcache.utils import clock
from pubsubcache.utils.cleaning import one_line

Status = Account.Status


@transaction.atomic
def claim_accounts(worker: str) -> list[Account]:
    """Renew the leases of `worker`, take over enabled accounts without a live worker, and return all its accounts.

    A takeover also releases the claims of the previous worker. Accounts that are being removed and have no more
    nodes and subscriptions are deleted.
    """
    now = clock.now()
    _renew(worker, now)
    # Skip an account that is locked by a transaction of its previous worker, which may be suspended.
    free = Account.objects.enabled().available_to("", now).exclude(worker=worker)
    for account in free.select_for_update(skip_locked=True, no_key=True):
        if account.worker:
            _release_claims(account)
        Account.objects.filter(pk=account.pk).update(
            worker=worker,
            heartbeat=now,
            fencing_token=F("fencing_token") + 1,
            status=Status.CONNECTING,
            status_detail="",
            session_started=None,
        )
    delete_accounts(Account.objects.filter(worker=worker, leaving=True, pending_unsubscriptions=None, nodes=None))
    return list(Account.objects.filter(worker=worker, enabled=True))


@transaction.atomic
def renew_leases(worker: str) -> None:
    """Renew the leases that `worker` holds."""
    _renew(worker, clock.now())


def _renew(worker: str, now: datetime) -> None:
    Account.objects.filter(worker=worker, enabled=True).update(heartbeat=now)


def _release_claims(account: Account) -> None:
    owned = PubsubNode.objects.filter(account=account, sync_owner__startswith=f"{account.worker}/")
    runs.abandon(owned, clock.now())
    owned.update(sync_owner="", sync_heartbeat=None)


def remove_accounts(accounts: QuerySet[Account], report: Report | None = None) -> tuple[int, int]:
    """Remove accounts and their nodes in batches.

    An account that has subscriptions and can log in loses its nodes first. A worker then ends the subscriptions, and
    the account is deleted after that. Removing it a second time deletes it immediately.

    Returns:
        The number of deleted accounts and the number of accounts that wait for a worker.
    """
    pks = sorted(accounts.values_list("pk", flat=True))
    nodes = Selection(PubsubNode.objects.filter(account__in=pks).values_list("pk", flat=True))
    counts = run(partial(removal_batch, pks=pks), report, nodes.size)
    return counts["accounts"], counts["leaving"]


def removal_batch(batch: Batch, pks: Sequence[int]) -> None:
    """Remove accounts and their nodes, as much as the batch may.

    Args:
        batch: The batch.
        pks: The primary keys of the accounts, sorted.
    """
    while not batch.is_spent:
        if "account" not in batch.cursor:
            remaining = [pk for pk in pks if pk > batch.cursor.get("removed", 0)]
            if not remaining:
                batch.finished = True
                return
            _begin_removal(batch, remaining[0])
        pk = batch.cursor["account"]
        forget_batch(batch, Selection({"account": pk}), batch.cursor["unsubscribe"])
        if batch.finished:
            batch.finished = False
            _end_removal(batch, pk)


def _begin_removal(batch: Batch, pk: int) -> None:
    """Note how to remove an account, and keep workers from adding nodes to it."""
    batch.cursor |= {"account": pk, "unsubscribe": False, "after": 0}
    for account in Account.objects.select_for_update(of=("self",), no_key=True).filter(pk=pk):
        followed = account.nodes.filter(Q(subscribed=True) | ~Q(sync_owner=""))
        has_subscriptions = followed.exists() or account.pending_unsubscriptions.exists()
        can_log_in = account.enabled and account.status not in (Status.AUTH_FAILED, Status.ERROR)
        batch.cursor["unsubscribe"] = has_subscriptions and can_log_in and not account.leaving
        batch.cursor["is_new"] = not account.leaving
        Account.objects.filter(pk=pk).update(leaving=True)


def _end_removal(batch: Batch, pk: int) -> None:
    account = Account.objects.filter(pk=pk)
    if batch.cursor["unsubscribe"] and PendingUnsubscription.objects.filter(account=pk).exists():
        batch.counts["leaving"] += 1
    else:
        delete_accounts(account)
        batch.counts["accounts"] += 1
    batch.cursor = {"removed": pk}
    batch.spend(1)


def cancel_removal(cursor: dict[str, Any]) -> None:
    """Let an account keep what is left of it, after its removal was cancelled.

    Args:
        cursor: The cursor of `removal_batch`.
    """
    if cursor.get("is_new"):
        Account.objects.filter(pk=cursor["account"]).update(leaving=False)


@transaction.atomic
def delete_accounts(accounts: QuerySet[Account]) -> None:
    """Delete accounts, their nodes and their items."""
    PubsubNode.objects.filter(account__in=accounts).lock()
    accounts.delete()


@transaction.atomic
def begin_session(lease: Lease, started: datetime | None) -> Lease:
    """Record the start of a session that did not resume a stream.

    The fencing token is incremented, so pending writes of earlier sessions fail.

    Args:
        lease: The current lease.
        started: When the session started.

    Returns:
        The lease with the new fencing token.

    Raises:
        LeaseLost: Another worker has taken over the account.
    """
    changed = _leased(lease).update(
        fencing_token=F("fencing_token") + 1,
        status=Status.ONLINE,
        status_detail="",
        session_started=started,
        heartbeat=clock.now(),
    )
    if not changed:
        raise LeaseLost("Another worker has taken over the account.")
    return replace(lease, token=lease.token + 1)


@transaction.atomic
def save_status(lease: Lease, status: str, detail: str = "") -> None:
    """Record the state of the current session.

    Raises:
        LeaseLost: Another worker has taken over the account.
    """
    if not _leased(lease).update(status=status, status_detail=one_line(detail), heartbeat=clock.now()):
        raise LeaseLost("Another worker has taken over the account.")


def _leased(lease: Lease) -> QuerySet[Account]:
    return Account.objects.filter(pk=lease.account_pk, worker=lease.worker, fencing_token=lease.token)


@transaction.atomic
def release_accounts(worker: str, pks: list[int] | None = None) -> None:
    """Release the leases of `worker` on the accounts `pks`, or all its leases if `pks` is None."""
    ours = Account.objects.filter(worker=worker)
    if pks is not None:
        ours = ours.filter(pk__in=pks)
    failed = ours.filter(status__in=[Status.AUTH_FAILED, Status.ERROR])
    failed.update(worker="", heartbeat=None, session_started=None)
    ours.update(worker="", heartbeat=None, status=Status.OFFLINE, status_detail="", session_started=None)
