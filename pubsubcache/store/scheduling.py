"""Decides which nodes of an account a worker synchronises next."""

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db.models import DateTimeField, ExpressionWrapper, F, OrderBy, Q, QuerySet, Value

from pubsubcache.conf import settings
from pubsubcache.models import PubsubNode
from pubsubcache.store.fairness import outside_domains, served_last
from pubsubcache.utils import clock

SyncState = PubsubNode.SyncState

# Scheduled revalidations are spread in this many turns over this last fraction of the interval.
JITTER = 0.25
TURNS = 12


def due(account_pk: int, limit: int, *, token: int) -> list[int]:
    """Return the nodes of an account that a worker should synchronise now, most urgent first.

    Args:
        account_pk: The primary key of the account.
        limit: The maximum number of nodes.
        token: The account's fencing token. Nodes checked under another token are due.

    Returns:
        The primary keys of the nodes.
    """
    found = _due(account_pk, token)
    return list(found.order_by(*_urgency()).values_list("pk", flat=True)[:limit])


def next_due(
    account_pk: int,
    *,
    token: int,
    busy: Collection[int] = (),
    excluded: Collection[str] = (),
    served: Collection[str] = (),
) -> tuple[int, str] | None:
    """Return the node that a worker should synchronise next.

    Args:
        account_pk: The primary key of the account.
        token: The account's fencing token. Nodes checked under another token are due.
        busy: Nodes that the worker is already synchronising.
        excluded: Domains whose services should not be contacted now.
        served: Domains that had their turn. Their nodes come after those of other domains.

    Returns:
        The primary key of the node and the domain of its service, or None if no node is due.
    """
    found = outside_domains(_due(account_pk, token), excluded).exclude(pk__in=list(busy))
    turn = [served_last(served)] if served else []
    return found.order_by(*turn, *_urgency()).values_list("pk", "domain").first()


def _urgency() -> list[OrderBy | str]:
    return [F("sync_requested").desc(nulls_last=True), F("checked_at").desc(nulls_last=True), "pk"]


def _due(account_pk: int, token: int) -> QuerySet[PubsubNode]:
    """Return the nodes of an account that are due.

    A node is due if a sync was requested, was interrupted or never happened, if it is time to retry a failed sync, if
    the node is invalidated or was checked under another fencing token, or if a scheduled revalidation is due. Times
    that are too far in the future to be plausible do not delay a node.
    """
    now = clock.now()
    free = PubsubNode.objects.unclaimed(now).filter(account_id=account_pk)
    longest_wait = timedelta(seconds=2 * max(settings.RETRY_MAX_DELAY, settings.COMPARE_INTERVAL))
    attempt_due = Q(next_attempt__isnull=True) | Q(next_attempt__lte=now) | Q(next_attempt__gt=now + longest_wait)
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
    return free.alias(turn=F("pk") % TURNS).filter(Q(sync_requested__isnull=False) | wanted & attempt_due)


def _revalidation_due(now: datetime) -> Q:
    """Return the condition that a scheduled revalidation is due, by the node's own interval or by its `turn`.

    The turns spread nodes that were checked at the same time, such as at the start of a session.
    """
    interval = F("reconcile_interval")
    threshold = ExpressionWrapper(Value(now, DateTimeField()) - interval, DateTimeField())
    due = Q(reconcile_interval__isnull=False, checked_at__lt=threshold)
    for turn in range(TURNS):
        seconds = settings.RECONCILE_INTERVAL * (1 - JITTER * turn / TURNS)
        due |= Q(reconcile_interval__isnull=True, turn=turn, checked_at__lt=now - timedelta(seconds=seconds))
    return due
