"""Rows of accounts: leases of the workers, and the state of the sessions."""

from dataclasses import replace
from datetime import datetime

from django.db import transaction
from django.db.models import F, Q, QuerySet

from pubsubcache.exceptions import LeaseLost
from pubsubcache.models import Account, PubsubNode
from pubsubcache.store.leases import Lease
from pubsubcache.store.nodes import forget_nodes
from pubsubcache.utils import clock
from pubsubcache.utils.cleaning import one_line

Status = Account.Status


@transaction.atomic
def claim_accounts(worker: str) -> list[Account]:
    """Renew the leases of `worker`, take those of enabled accounts that nobody alive holds, and return its accounts.

    The claims of the worker that held an account before end with its lease.
    """
    now = clock.now()
    _renew(worker, now)
    # An account whose old worker was suspended within a transaction is left until that transaction ends.
    free = Account.objects.enabled().free_or_of("", now).exclude(worker=worker)
    for account in free.select_for_update(skip_locked=True, no_key=True):
        if account.worker:
            _end_claims(account)
        Account.objects.filter(pk=account.pk).update(
            worker=worker,
            heartbeat=now,
            fencing_token=F("fencing_token") + 1,
            status=Status.CONNECTING,
            status_detail="",
            session_started=None,
        )
    Account.objects.filter(worker=worker, leaving=True, pending_unsubscriptions=None).delete()
    return list(Account.objects.filter(worker=worker, enabled=True))


@transaction.atomic
def renew_leases(worker: str) -> None:
    """Renew the leases that `worker` has, and take no others."""
    _renew(worker, clock.now())


def _renew(worker: str, now: datetime) -> None:
    Account.objects.filter(worker=worker, enabled=True).update(heartbeat=now)


def _end_claims(account: Account) -> None:
    owned = PubsubNode.objects.filter(account=account, sync_owner__startswith=f"{account.worker}/")
    owned.update(sync_owner="", sync_heartbeat=None)


@transaction.atomic
def remove_accounts(accounts: QuerySet[Account]) -> tuple[int, int]:
    """Remove accounts with their nodes: return how many are gone, and how many go once a worker unsubscribed them.

    Those stay that can log in and have subscriptions to give up, without their nodes; removed again, they go at once.
    """
    gone = leaving = 0
    for account in accounts.select_for_update(of=("self",)):
        followed = account.nodes.filter(Q(subscribed=True) | ~Q(sync_owner=""))
        has_subscriptions = followed.exists() or account.pending_unsubscriptions.exists()
        can_log_in = account.enabled and account.status not in (Status.AUTH_FAILED, Status.ERROR)
        if has_subscriptions and can_log_in and not account.leaving:
            forget_nodes(PubsubNode.objects.filter(account=account), unsubscribe=True)
            Account.objects.filter(pk=account.pk).update(leaving=True)
            leaving += 1
        else:
            account.delete()
            gone += 1
    return gone, leaving


@transaction.atomic
def begin_session(lease: Lease, started: datetime | None) -> Lease:
    """Record that a session began which did not resume its stream; return the lease under which it acts.

    What earlier sessions brought and has not been written yet is void.

    Raises:
        LeaseLost: Another worker has taken the account over.
    """
    changed = _leased(lease).update(
        fencing_token=F("fencing_token") + 1,
        status=Status.ONLINE,
        status_detail="",
        session_started=started,
        heartbeat=clock.now(),
    )
    if not changed:
        raise LeaseLost("Another worker has taken the account over.")
    return replace(lease, token=lease.token + 1)


@transaction.atomic
def save_status(lease: Lease, status: str, detail: str = "") -> None:
    """Record the state of a session that did not begin anew.

    Raises:
        LeaseLost: Another worker has taken the account over.
    """
    if not _leased(lease).update(status=status, status_detail=one_line(detail), heartbeat=clock.now()):
        raise LeaseLost("Another worker has taken the account over.")


def _leased(lease: Lease) -> QuerySet[Account]:
    return Account.objects.filter(pk=lease.account_pk, worker=lease.worker, fencing_token=lease.token)


@transaction.atomic
def release_accounts(worker: str, pks: list[int] | None = None) -> None:
    """Give leases back: those of `pks`, or all of the worker's."""
    ours = Account.objects.filter(worker=worker)
    if pks is not None:
        ours = ours.filter(pk__in=pks)
    kept = ours.filter(status__in=[Status.AUTH_FAILED, Status.ERROR])
    kept.update(worker="", heartbeat=None, session_started=None)
    ours.update(worker="", heartbeat=None, status=Status.OFFLINE, status_detail="", session_started=None)
