"""Which nodes of an account a worker should synchronise, and which of them first."""

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db.models import DateTimeField, ExpressionWrapper, F, OrderBy, Q, QuerySet, Value

from pubsubcache.conf import settings
from pubsubcache.models import PubsubNode
from pubsubcache.store.fairness import besides, served_last
from pubsubcache.utils import clock

SyncState = PubsubNode.SyncState

# Scheduled comparisons are spread over this part of the interval before its end, in so many turns.
JITTER = 0.25
TURNS = 12


def due(account_pk: int, limit: int, *, token: int) -> list[int]:
    """Return the nodes of an account that a worker should synchronise now, most pressing first.

    Args:
        account_pk: The account.
        limit: The number of nodes at most.
        token: The account's fencing token: nodes checked under another are due.
    """
    found = _due(account_pk, token)
    return list(found.order_by(*_urgency()).values_list("pk", flat=True)[:limit])


def next_due(
    account_pk: int,
    *,
    token: int,
    busy: Collection[int] = (),
    barred: Collection[str] = (),
    served: Collection[str] = (),
) -> tuple[int, str] | None:
    """Return the node that a worker should synchronise next, with the domain of its service, or None.

    Args:
        account_pk: The account.
        token: The account's fencing token: nodes checked under another are due.
        busy: Nodes that the worker is at already.
        barred: Domains whose services should not be asked now.
        served: Domains whose services had their turn: their nodes come after those of others.
    """
    found = besides(_due(account_pk, token), barred).exclude(pk__in=list(busy))
    turn = [served_last(served)] if served else []
    return found.order_by(*turn, *_urgency()).values_list("pk", "domain").first()


def _urgency() -> list[OrderBy | str]:
    return [F("sync_requested").desc(nulls_last=True), F("checked_at").desc(nulls_last=True), "pk"]


def _due(account_pk: int, token: int) -> QuerySet[PubsubNode]:
    """Return the nodes of an account that are due.

    Requested; never synchronised; failed, and their time has come; interrupted; not checked under the account's
    fencing token `token`, or doubted; due for a scheduled comparison. A time in the future is never waited for.
    """
    now = clock.now()
    free = PubsubNode.objects.unclaimed(now).filter(account_id=account_pk)
    longest_wait = timedelta(seconds=2 * max(settings.RETRY_MAX_DELAY, settings.COMPARE_INTERVAL))
    waiting = Q(next_attempt__isnull=True) | Q(next_attempt__lte=now) | Q(next_attempt__gt=now + longest_wait)
    unchecked = (
        Q(checked_at__isnull=True)
        | ~Q(checked_token=token)
        | Q(checked_at__gt=now + clock.TOLERANCE)
        | _revalidation_due(now)
    )
    wanted = (
        Q(sync_state__isnull=True)
        | Q(sync_state=SyncState.IN_PROGRESS)
        | Q(sync_state=SyncState.ERROR, next_attempt__isnull=False)
        | Q(sync_state=SyncState.COMPLETED) & unchecked
    )
    return free.alias(turn=F("pk") % TURNS).filter(Q(sync_requested__isnull=False) | wanted & waiting)


def _revalidation_due(now: datetime) -> Q:
    """Return which nodes, by their own interval or by their `turn`, it is time to compare again.

    Nodes that were checked together, as at the start of a session, come up one turn after the other.
    """
    interval = F("reconcile_interval")
    moment = ExpressionWrapper(Value(now, DateTimeField()) - interval, DateTimeField())
    due = Q(reconcile_interval__isnull=False, checked_at__lt=moment)
    for turn in range(TURNS):
        seconds = settings.RECONCILE_INTERVAL * (1 - JITTER * turn / TURNS)
        due |= Q(reconcile_interval__isnull=True, turn=turn, checked_at__lt=now - timedelta(seconds=seconds))
    return due
