"""Records sync runs, in the transactions of the synchronisations, and removes old ones."""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import QuerySet

from pubsubcache.conf import settings
from pubsubcache.models import PubsubNode, SyncRun
from pubsubcache.utils import clock
from pubsubcache.utils.cleaning import one_line

BATCH = 1000  # runs removed in one transaction

Kind = SyncRun.Kind
Reason = SyncRun.Reason
Outcome = SyncRun.Outcome
#: The reasons of runs that nobody asked for. They mostly change nothing.
ROUTINE = {Reason.INVALIDATED, Reason.RECONNECT, Reason.READ, Reason.IDS, Reason.CONTENTS, Reason.SCHEDULE}


def reason_of(node: PubsubNode, now: datetime) -> SyncRun.Reason:
    """Return why a node is due, from its row before the synchronisation begins."""
    state = node.sync_state
    if node.bring_back:
        return Reason.STAFF
    if node.failures:
        return Reason.RETRY
    if state is None or node.compared_at is None:
        return Reason.FIRST
    if state == PubsubNode.SyncState.IN_PROGRESS:
        return Reason.RETRY
    if node.parse_anew:
        return Reason.ANALYSER
    if node.checked_at is None and state == PubsubNode.SyncState.COMPLETED:
        return Reason.INVALIDATED
    if node.sync_requested is not None:
        return Reason.READ
    if node.checked_token != node.account.fencing_token:
        return Reason.RECONNECT
    if not clock.is_recent(node.compared_at, now, settings.COMPARE_INTERVAL):
        return Reason.CONTENTS
    return Reason.SCHEDULE


def begin(node: PubsubNode, reason: SyncRun.Reason, now: datetime) -> None:
    """Record the start of a full sync, in the transaction of the claim. An expired claim leaves an abandoned run."""
    if node.sync_owner:
        abandon(PubsubNode.objects.filter(pk=node.pk), now)
    SyncRun.objects.create(account_id=node.account_id, node=node, kind=Kind.FULL, reason=reason, started=now)


def end(
    node_pk: int,
    outcome: SyncRun.Outcome,
    error: str = "",
    *,
    added: int = 0,
    updated: int = 0,
    removed: int = 0,
    requests: int = 0,
) -> None:
    """Record the end of the full sync of a node, if one runs, in the transaction that ends the claim.

    Args:
        node_pk: The primary key of the node.
        outcome: How it ended.
        error: Why it failed, "" if it did not.
        added: The number of items added.
        updated: The number of items changed.
        removed: The number of items removed.
        requests: The number of requests sent to the service.
    """
    run = SyncRun.objects.filter(node_id=node_pk, outcome=Outcome.RUNNING).order_by("-pk").first()
    if run is None:
        return
    run.outcome, run.error, run.finished = outcome, one_line(error), clock.now()
    run.added, run.updated, run.removed, run.requests = added, updated, removed, requests
    run.save()
    _replace_unchanged(run)


def _replace_unchanged(run: SyncRun) -> None:
    """If a routine run changed nothing, remove the run before it if it was of that kind too.

    Otherwise the full syncs of all nodes at each new session would fill the table.
    """
    if not _is_negligible(run):
        return
    before = SyncRun.objects.filter(node_id=run.node_id, pk__lt=run.pk).order_by("-pk").first()
    if before is not None and _is_negligible(before):
        SyncRun.objects.filter(pk=before.pk).delete()


def _is_negligible(run: SyncRun) -> bool:
    """Whether a run was routine and changed nothing."""
    changed = run.added or run.updated or run.removed
    return run.outcome == Outcome.DONE and run.reason in ROUTINE and not changed


def record_id_check(
    node: PubsubNode, reason: SyncRun.Reason, started: datetime, *, removed: int, requests: int
) -> None:
    """Record an id check that removed items, in the transaction that removes them."""
    SyncRun.objects.create(
        account_id=node.account_id,
        node_id=node.pk,
        kind=Kind.IDS,
        reason=reason,
        outcome=Outcome.DONE,
        started=started,
        finished=clock.now(),
        removed=removed,
        requests=requests,
    )


def abandon(nodes: QuerySet[PubsubNode], now: datetime) -> None:
    """Record that nobody works on the runs of `nodes` any more."""
    SyncRun.objects.filter(outcome=Outcome.RUNNING, node__in=nodes.order_by().values("pk")).update(
        outcome=Outcome.ABANDONED, finished=now
    )


@transaction.atomic
def prune(account_pk: int) -> int:
    """Remove a batch of old runs of an account, and close the runs whose claim has expired.

    Removes runs older than `SYNC_RUN_AGE`, and those in excess of `MAX_SYNC_RUNS`, oldest first.

    Returns:
        The number of removed runs; 0 if there are no more.
    """
    now = clock.now()
    runs = SyncRun.objects.filter(account_id=account_pk)
    abandon(PubsubNode.objects.unclaimed(now).filter(account_id=account_pk), now)
    newest = runs.order_by("-pk").values_list("pk", flat=True)
    surplus = newest[settings.MAX_SYNC_RUNS :][:1]
    too_old = now - timedelta(seconds=settings.SYNC_RUN_AGE)
    last_surplus = next(iter(surplus), 0)
    oldest = runs.order_by("pk").values_list("pk", "started")[:BATCH]
    chosen = [pk for pk, started in oldest if pk <= last_surplus or started < too_old]
    return SyncRun.objects.filter(pk__in=chosen).delete()[0] if chosen else 0
