"""Rows of accounts: leases of the workers, and the state of the sessions."""

from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from pubsubcache.models import Account, PubsubNode
from pubsubcache.store.nodes import forget_nodes
from pubsubcache.texts import one_line

Status = Account.Status


@transaction.atomic
def claim_accounts(worker: str) -> list[Account]:
    """Take leases of enabled accounts that nobody alive holds, and renew our own; return all that are ours."""
    now = timezone.now()
    free = Account.objects.enabled().free_or_of(worker, now).exclude(worker=worker).values_list("pk", flat=True)
    for pk in free:
        # Another worker may have come between: whoever's condition still holds gets it.
        Account.objects.filter(pk=pk).enabled().free_or_of(worker, now).update(
            worker=worker, heartbeat=now, status=Status.CONNECTING, status_detail="", session_started=None
        )
    Account.objects.filter(worker=worker, enabled=True).update(heartbeat=now)
    Account.objects.filter(worker=worker, leaving=True, pending_unsubscriptions=None).delete()
    return list(Account.objects.filter(worker=worker, enabled=True))


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
def save_status(
    worker: str, account_pk: int, status: str, detail: str = "", session_started: datetime | None = None
) -> bool:
    """Keep the state of a session; return False when the account is no longer ours."""
    changes: dict[str, Any] = {"status": status, "status_detail": one_line(detail)}
    if status == Status.ONLINE:
        changes["session_started"] = session_started
    return bool(Account.objects.filter(pk=account_pk, worker=worker).update(**changes, heartbeat=timezone.now()))


@transaction.atomic
def release_accounts(worker: str, pks: list[int] | None = None) -> None:
    """Give leases back: those of `pks`, or all of the worker's."""
    ours = Account.objects.filter(worker=worker)
    if pks is not None:
        ours = ours.filter(pk__in=pks)
    kept = ours.filter(status__in=[Status.AUTH_FAILED, Status.ERROR])
    kept.update(worker="", heartbeat=None, session_started=None)
    ours.update(worker="", heartbeat=None, status=Status.OFFLINE, status_detail="", session_started=None)
