"""Reads and writes accounts: the leases of workers and the state of sessions."""

from dataclasses import replace
from datetime import datetime

from django.db import transaction
from django.db.models import F, Q, QuerySet

from pubsubcache.exceptions import LeaseLost
from pubsubcache.models import Account, PubsubNode
from pubsubcache.store import runs
from pubsubcache.store.leases import Lease
from pubsubcache.store.nodes import forget_nodes
from pubsubcache.utils import clock
from pubsubcache.utils.cleaning import one_line

Status = Account.Status


@transaction.atomic
def claim_accounts(worker: str) -> list[Account]:
    """Renew the leases of `worker`, take over enabled accounts without a live worker, and return all its accounts.

    A takeover also releases the claims of the previous worker. Accounts that are being removed and have no more
    subscriptions are deleted.
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
    delete_accounts(Account.objects.filter(worker=worker, leaving=True, pending_unsubscriptions=None))
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


@transaction.atomic
def remove_accounts(accounts: QuerySet[Account]) -> tuple[int, int]:
    """Remove accounts and their nodes.

    An account that has subscriptions and can log in loses its nodes at once. A worker then ends the subscriptions, and
    the account is deleted after that. Removing it a second time deletes it immediately.

    Returns:
        The number of deleted accounts and the number of accounts that wait for a worker.
    """
    deleted = leaving = 0
    for account in accounts.select_for_update(of=("self",)):
        followed = account.nodes.filter(Q(subscribed=True) | ~Q(sync_owner=""))
        has_subscriptions = followed.exists() or account.pending_unsubscriptions.exists()
        can_log_in = account.enabled and account.status not in (Status.AUTH_FAILED, Status.ERROR)
        if has_subscriptions and can_log_in and not account.leaving:
            forget_nodes(PubsubNode.objects.filter(account=account), unsubscribe=True)
            Account.objects.filter(pk=account.pk).update(leaving=True)
            leaving += 1
        else:
            delete_accounts(Account.objects.filter(pk=account.pk))
            deleted += 1
    return deleted, leaving


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
