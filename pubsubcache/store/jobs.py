"""Jobs: bulk work that a worker does in batches, and that another worker continues after a crash.

`request` adds a job, `claim` takes one, and `carry_out` does it. Each batch is a transaction that first checks the
fencing token of the job, and that records the progress. So a process that lost the job changes nothing.
"""

import asyncio
import time
from collections import Counter
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Max, Q, QuerySet

from pubsubcache.analysers import registry
from pubsubcache.exceptions import InvalidRequest, JobLost
from pubsubcache.models import Job, PubsubItem, PubsubNode
from pubsubcache.models.node import claim_timeout
from pubsubcache.models.timed import heartbeat_expired
from pubsubcache.store import history, reparsing
from pubsubcache.store.accounts import cancel_removal, removal_batch
from pubsubcache.store.batches import Batch, Report, Selection, Work, pause_after
from pubsubcache.store.evicting import evict_batch
from pubsubcache.store.nodes import choice_batch, forget_batch, policy_batch
from pubsubcache.store.threads import in_thread, uninterrupted
from pubsubcache.utils import clock
from pubsubcache.utils.cleaning import get_logger, one_line
from pubsubcache.utils.slices import Work as Slices

logger = get_logger(__name__)

WEB = "web"  # the owner of jobs that a request of the admin does at once
MAX_CHOSEN = 100_000  # objects that a job names one by one
MAX_ATTEMPTS = 3  # processes that may die at the same batch
KEEP_AGE = timedelta(days=30)  # of ended jobs
KEEP_NUMBER = 500
Kind, State = Job.Kind, Job.State
PROGRESS = (
    "state", "started", "finished", "done", "cursor", "counts", "error", "owner", "heartbeat", "attempts",
)  # fmt: skip
NODE_FILTERS = {"accounts", "services", "nodes", "types", "subtypes", "analyser", "account"}
#: The parameters of each kind of job.
PARAMETERS: dict[str, set[str]] = {
    Kind.PURGE: {"nodes", "created_before", "updated_before"},
    Kind.POLICY: {"nodes", "policy"},
    Kind.ANALYSER: {"analyser"},
    Kind.FORGET: {"nodes", "unsubscribe"},
    Kind.REPARSE: {"nodes"},
    Kind.ACCOUNTS: {"accounts"},
}


def chosen(rows: QuerySet[Any]) -> list[int]:
    """Return the primary keys of rows, for the parameters of a job.

    Raises:
        InvalidRequest: There are more than `MAX_CHOSEN`.
    """
    pks = list(rows.order_by().values_list("pk", flat=True)[: MAX_CHOSEN + 1])
    if len(pks) > MAX_CHOSEN:
        raise InvalidRequest(f"A job may name at most {MAX_CHOSEN} objects.")
    return pks


def request(kind: str, parameters: dict[str, Any], user: Any = None, owner: str = "") -> Job:
    """Add a job. Wake the workers afterwards, when the transaction has ended.

    Args:
        kind: One of `Job.Kind`.
        parameters: Which objects, and what to do with them; JSON. `nodes` is a list of primary keys (see `chosen`) or a
            dict of conditions (see `batches.Selection`), `accounts` a list of primary keys, and `analyser` a name:
            `save_choice` has saved the choice that the job applies. `purge` also takes `created_before` and
            `updated_before` (ISO 8601), `policy` takes `policy`, and `forget` takes `unsubscribe`.
        user: The user of the site who asks for it, if any.
        owner: The name of this process, if it does the job itself; the job is then claimed.

    Returns:
        The job.

    Raises:
        InvalidRequest: The kind or the parameters are unknown.
    """
    if kind not in Kind.values or not parameters.keys() <= PARAMETERS[kind]:
        raise InvalidRequest(f"There is no job {kind!r} with the parameters {', '.join(sorted(parameters))}.")
    nodes = parameters.get("nodes", [])
    if isinstance(nodes, dict) and not nodes.keys() <= NODE_FILTERS:
        raise InvalidRequest(f"Nodes have no conditions {', '.join(sorted(nodes.keys() - NODE_FILTERS))}.")
    if kind == Kind.POLICY and parameters["policy"] not in PubsubNode.Policy.values:
        raise InvalidRequest(f"{parameters['policy']!r} is not a policy.")
    _work_of(Job(kind=kind, parameters=parameters))
    job = Job(kind=kind, parameters=parameters, requested_by=user, total=size(kind, parameters))
    if owner:
        job.state, job.owner, job.token, job.attempts = State.RUNNING, owner, 1, 1
        job.started = job.heartbeat = clock.now()
    job.save()
    return job


def size(kind: str, parameters: dict[str, Any]) -> int:
    """Return the number of nodes and items that a job may change, according to the counters of the nodes."""
    if kind == Kind.ACCOUNTS:
        return len(parameters["accounts"]) + sum(Selection({"account": pk}).size() for pk in parameters["accounts"])
    return _nodes(kind, parameters).size()


def _nodes(kind: str, parameters: dict[str, Any]) -> Selection:
    return Selection({"analyser": parameters["analyser"]} if kind == Kind.ANALYSER else parameters["nodes"])


def _work_of(job: Job) -> Work:
    """Return the function that does a batch of a job."""
    options = job.parameters
    match job.kind:
        case Kind.ACCOUNTS:
            return partial(removal_batch, pks=sorted(options["accounts"]))
        case Kind.PURGE:
            created, updated = (_time(options.get(name)) for name in ("created_before", "updated_before"))
            nodes = _nodes(job.kind, options)
            return partial(evict_batch, nodes=nodes, created_before=created, updated_before=updated)
        case Kind.POLICY:
            return partial(policy_batch, nodes=_nodes(job.kind, options), policy=options["policy"])
        case Kind.ANALYSER:
            return partial(choice_batch, nodes=_nodes(job.kind, options), name=options["analyser"])
        case Kind.FORGET:
            return partial(forget_batch, nodes=_nodes(job.kind, options), unsubscribe=options.get("unsubscribe", True))
    return lambda batch: None


def _time(text: str | None) -> datetime | None:
    """Return a time in ISO 8601, or None for None. Raises `InvalidRequest`."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidRequest(f"{text!r:.50} is not a time in ISO 8601.") from error
    if moment.tzinfo is None:
        raise InvalidRequest(f"{text!r:.50} has no time zone.")
    return moment


@transaction.atomic
def claim(owner: str, pk: int | None = None) -> Job | None:
    """Claim the oldest job that nobody does, and return it. A job whose process has died continues where it stopped.

    Args:
        owner: The name of this process.
        pk: The only job to consider.
    """
    now = clock.now()
    abandoned = Q(state=State.RUNNING) & heartbeat_expired("heartbeat", claim_timeout(), now)
    free = Job.objects.filter(Q(state=State.WAITING) | abandoned)
    if pk is not None:
        free = free.filter(pk=pk)
    for job in free.order_by("pk").select_for_update(skip_locked=True):
        job.token += 1
        job.attempts += 1
        if job.attempts > MAX_ATTEMPTS:
            _end(job, State.FAILED, f"The processes that did it have died {MAX_ATTEMPTS} times in a row.")
            job.save()
            continue
        job.state, job.owner, job.heartbeat = State.RUNNING, owner, now
        job.started = job.started or now
        job.save()
        return job
    return None


async def carry_out(job: Job, report: Report | None = None) -> Job:
    """Do a claimed job batch by batch, and return it as it ended. If this task is cancelled, others may continue it.

    Args:
        job: The job, from `claim`.
        report: Called after each batch with the number of rows done so far and the total.

    Raises:
        JobLost: Another process has taken the job over.
        DatabaseError: The database failed. Others may continue the job.
    """
    work = _work_of(job)
    try:
        while not job.is_finished:
            began = time.monotonic()
            if job.kind == Kind.REPARSE:
                cursor, rows = await in_thread(_items_to_parse)(job)
                changed = await _parse(rows)
                work = partial(_save_parsed, rows=rows, changed=changed, cursor=cursor)
            job = await uninterrupted(in_thread(_step)(job, work))
            if report is not None:
                report(job.done, job.total)
            if not job.is_finished:
                await asyncio.sleep(pause_after(time.monotonic() - began))
    except JobLost:
        raise
    except (OperationalError, InterfaceError, asyncio.CancelledError):
        await uninterrupted(in_thread(release)(job))
        raise
    except Exception as error:
        job = await in_thread(_fail)(job, error)
    return job


def do_at_once(job: Job) -> Job:
    """Do a claimed job of few rows, in synchronous code; return it as it ended. Raises the same as `carry_out`."""
    work = _work_of(job)
    try:
        while not job.is_finished:
            if job.kind == Kind.REPARSE:
                cursor, rows = _items_to_parse(job)
                changed = async_to_sync(_parse)(rows)
                work = partial(_save_parsed, rows=rows, changed=changed, cursor=cursor)
            job = _step(job, work)
    except (JobLost, OperationalError, InterfaceError):
        raise
    except Exception as error:
        job = _fail(job, error)
    return job


@transaction.atomic
def _step(job: Job, work: Work) -> Job:
    """Do a batch of a job and record its progress; return the job.

    Raises:
        JobLost: The job has ended, or another process has taken it over.
    """
    row = _held(job)
    if row.cancel_requested and "emptied" not in row.cursor:
        if row.kind == Kind.ACCOUNTS:
            cancel_removal(row.cursor)
        _end(row, State.CANCELLED)
    else:
        batch = Batch(row.cursor)
        work(batch)
        row.cursor, row.done = batch.cursor, row.done + batch.done
        row.counts = dict(batch.counts + Counter(row.counts))
        row.heartbeat, row.attempts = clock.now(), 0
        history.record_nodes(row, batch.history)
        if batch.finished:
            _end(row, State.DONE)
    row.save(update_fields=PROGRESS)
    return row


def _held(job: Job) -> Job:
    row = Job.objects.select_for_update().defer("parameters").filter(pk=job.pk, token=job.token, state=State.RUNNING)
    found = row.first()
    if found is None:
        raise JobLost("The job has ended, or another process has taken it over.")
    found.parameters = job.parameters
    return found


def _end(job: Job, state: str, error: str = "") -> None:
    """End a job. The caller saves it."""
    job.state, job.error, job.finished = state, one_line(error), clock.now()
    if job.owner != WEB:  # else the history of the nodes says it
        history.record_end(job)
    job.owner, job.heartbeat, job.cursor = "", None, {}


@transaction.atomic
def _fail(job: Job, error: Exception) -> Job:
    logger.error("Job %d failed.", job.pk, exc_info=error)
    row = _held(job)
    _end(row, State.FAILED, f"{type(error).__name__}: {error}")
    row.save(update_fields=PROGRESS)
    return row


async def _parse(rows: list[PubsubItem]) -> set[int]:
    """Parse items, and return the primary keys of those that changed."""
    outcome = reparsing.Reparsing()
    changed = set()
    for row in rows:
        if await reparsing.parse(row, outcome):
            changed.add(row.pk)
        await Slices(row.node.service).pause()
    return changed


def _items_to_parse(job: Job) -> tuple[dict[str, Any], list[PubsubItem]]:
    """Return the next items of one node of a job, and the cursor before them. There are none after the last node.

    Items that come in during the job are parsed already.
    """
    cursor = job.cursor or {"newest": PubsubItem.objects.aggregate(newest=Max("pk"))["newest"] or 0, "after": 0}
    known = ["", *(analyser.name for analyser in registry.all())]
    nodes = _nodes(job.kind, job.parameters)
    while pks := nodes.after(cursor["after"]):
        present = set(PubsubNode.objects.filter(pk__in=pks, analyser__in=known).values_list("pk", flat=True))
        for pk in pks:
            items = PubsubItem.objects.filter(node=pk, pk__lte=cursor["newest"]).order_by("position")
            if "position" in cursor:
                items = items.filter(position__gt=cursor["position"])
            if pk in present and (rows := reparsing.some_of(items)):
                return cursor, rows
            cursor = {"newest": cursor["newest"], "after": pk}
    return cursor, []


def _save_parsed(batch: Batch, rows: list[PubsubItem], changed: set[int], cursor: dict[str, Any]) -> None:
    """Save the `changed` of some parsed items of a node, as many as the batch may.

    Args:
        batch: The batch.
        rows: The items, in order.
        changed: The primary keys of those that changed.
        cursor: The cursor before them.
    """
    batch.cursor = dict(cursor)
    batch.finished = not rows
    for node in PubsubNode.objects.for_update().filter(pk__in={row.node_id for row in rows}).only("analyser"):
        for row in rows:
            if batch.is_spent:
                break
            if row.pk in changed and node.analyser == row.node.analyser:
                batch.counts["changed"] += reparsing.save_row(row)
            batch.counts.update(items=1, errors=int(bool(row.parse_error)))
            batch.cursor["position"] = row.position
            batch.spend(1)
        return
    if rows:  # the node was removed
        batch.cursor = {"newest": cursor["newest"], "after": rows[0].node_id}


@transaction.atomic
def cancel(job: Job) -> None:
    """Cancel a job: at once if nobody is at work on it, else after the present batch. What it has done stays done."""
    for row in Job.objects.select_for_update().filter(pk=job.pk, state__in=Job.UNFINISHED):
        row.cancel_requested = True
        if row.state == State.WAITING:
            _end(row, State.CANCELLED)
        row.save(update_fields=["cancel_requested", *PROGRESS])


@transaction.atomic
def release(job: Job) -> None:
    """Let another process continue a job."""
    held = Job.objects.filter(pk=job.pk, token=job.token, state=State.RUNNING)
    held.update(owner="", heartbeat=None, attempts=0)


@transaction.atomic
def prune() -> int:
    """Delete jobs that ended long ago, and all but the newest `KEEP_NUMBER`; return their number."""
    ended = Job.objects.exclude(state__in=Job.UNFINISHED)
    kept = list(
        ended.filter(finished__gt=clock.now() - KEEP_AGE).order_by("-pk").values_list("pk", flat=True)[:KEEP_NUMBER]
    )
    return ended.exclude(pk__in=kept).delete()[0]
