"""Describes what jobs did, and adds it to the history that the Django admin shows, if the site has an admin."""

from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.utils.translation import ngettext

from pubsubcache.models import Job, PubsubNode

Kind, State = Job.Kind, Job.State


def result(job: Job) -> str:
    """Return in a sentence what a job has done so far."""
    return sentence(job.kind, job.counts, job.parameters)


def sentence(kind: str, counts: Mapping[str, int], parameters: Mapping[str, Any]) -> str:
    """Return in a sentence what a job of a kind did.

    Args:
        kind: The kind.
        counts: The counts of the job, or of one node.
        parameters: The parameters of the job.
    """
    nodes, items = counts.get("nodes", 0), counts.get("items", 0)
    removed = ngettext("%(count)d item was removed.", "%(count)d items were removed.", items) % {"count": items}
    match kind:
        case Kind.PURGE:
            text = ngettext(
                "%(count)d item was removed from the cache.", "%(count)d items were removed from the cache.", items
            )
            return text % {"count": items}
        case Kind.POLICY:
            text = ngettext(
                "The policy of %(count)d node is now: %(policy)s.",
                "The policy of %(count)d nodes is now: %(policy)s.",
                nodes,
            )
            policy = PubsubNode.Policy(parameters["policy"]).label
            said = text % {"count": nodes, "policy": policy}
        case Kind.ANALYSER:
            text = ngettext("This changed %(count)d node.", "This changed %(count)d nodes.", nodes)
            said = text % {"count": nodes}
        case Kind.FORGET:
            text = ngettext(
                "%(count)d node was removed from the cache.", "%(count)d nodes were removed from the cache.", nodes
            )
            said = text % {"count": nodes}
        case Kind.REPARSE:
            text = ngettext(
                "%(count)d item parsed: %(changed)d changed, %(errors)d cannot be parsed.",
                "%(count)d items parsed: %(changed)d changed, %(errors)d cannot be parsed.",
                items,
            )
            return text % {"count": items, "changed": counts.get("changed", 0), "errors": counts.get("errors", 0)}
        case _:
            said = _accounts(counts)
    return f"{said} {removed}" if items else said


def _accounts(counts: Mapping[str, int]) -> str:
    deleted, leaving = counts.get("accounts", 0), counts.get("leaving", 0)
    text = ngettext("%(count)d account was deleted.", "%(count)d accounts were deleted.", deleted)
    said = text % {"count": deleted}
    if not leaving:
        return said
    text = ngettext(
        "%(count)d account will be removed after a worker has ended its subscriptions. Delete it again to "
        "remove it now and leave them.",
        "%(count)d accounts will be removed after a worker has ended their subscriptions. Delete them again "
        "to remove them now and leave the subscriptions.",
        leaving,
    )
    waiting = text % {"count": leaving}
    return f"{said} {waiting}" if deleted else waiting


def record_nodes(job: Job, done: Mapping[int, Mapping[str, int]]) -> None:
    """Add what a batch of a job did with each node to the history of the nodes. Forgotten nodes have none."""
    if not _is_kept(job) or not done:
        return
    names = PubsubNode.objects.filter(pk__in=done).only("service", "name")
    _add(job, {node: sentence(job.kind, done[node.pk], job.parameters) for node in names})


def record_end(job: Job) -> None:
    """Add the end of a job and its result to its history."""
    if _is_kept(job):
        _add(job, {job: " ".join(filter(None, (f"{job.get_state_display()}.", result(job), job.error)))})


def _is_kept(job: Job) -> bool:
    return job.requested_by_id is not None and apps.is_installed("django.contrib.admin")


def _add(job: Job, messages: "Mapping[Job | PubsubNode, str]") -> None:
    from django.contrib.admin.models import CHANGE, LogEntry
    from django.contrib.contenttypes.models import ContentType

    assert job.requested_by_id is not None
    LogEntry.objects.bulk_create(
        LogEntry(
            user_id=job.requested_by_id,
            content_type=ContentType.objects.get_for_model(one),
            object_id=str(one.pk),
            object_repr=str(one)[:200],
            action_flag=CHANGE,
            change_message=message,
        )
        for one, message in messages.items()
    )


__all__ = ["record_end", "record_nodes", "result", "sentence"]
