"""Jobs: work on many rows, done in small batches by a worker."""

from typing import Any, Self

from django.conf import settings as django_settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from pubsubcache.models.account import ALL_ACCOUNTS
from pubsubcache.models.fields import JSONField


class JobQuerySet(models.QuerySet["Job"]):
    """Queries for jobs."""

    def visible_to(self, user: Any) -> Self:
        """Return the jobs that a user of the site may see: their own, or all with the permission `all_accounts`."""
        return self if user.has_perm(ALL_ACCOUNTS) else self.filter(requested_by__in=[user.pk])

    def unfinished(self) -> Self:
        """Return the jobs that wait or run."""
        return self.filter(state__in=Job.UNFINISHED)


class Job(models.Model):
    """Work on many rows, done in small batches by a worker.

    `store.jobs` writes it. The row holds all that another worker needs to continue after a crash, because each batch
    records its progress in its own transaction.
    """

    class Kind(models.TextChoices):
        """What a job does."""

        PURGE = "purge", _("purge from the cache")
        POLICY = "policy", _("set the policy")
        ANALYSER = "analyser", _("apply the choice for an analyser")
        FORGET = "forget", _("forget nodes")
        REPARSE = "reparse", _("parse items again")
        ACCOUNTS = "accounts", _("delete accounts")

    class State(models.TextChoices):
        """The progress of a job."""

        WAITING = "waiting", _("waiting")
        RUNNING = "running", _("running")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    UNFINISHED = (State.WAITING, State.RUNNING)

    kind = models.CharField(_("kind"), max_length=20, choices=Kind.choices)
    # Which objects, and what to do with them; see `store.jobs.request`. It never changes.
    parameters: "models.JSONField[dict[str, Any], dict[str, Any]]" = JSONField(default=dict, editable=False)
    requested_by = models.ForeignKey(
        django_settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        related_name="pubsub_jobs",
        verbose_name=_("requested by"),
    )
    state = models.CharField(
        _("state"), max_length=20, choices=State.choices, default=State.WAITING, db_index=True, editable=False
    )
    created = models.DateTimeField(_("requested"), default=timezone.now, editable=False)
    started = models.DateTimeField(_("started"), null=True, editable=False)
    finished = models.DateTimeField(_("ended"), null=True, editable=False)
    # In nodes and items.
    done = models.PositiveBigIntegerField(_("done"), default=0, editable=False)
    total = models.PositiveBigIntegerField(_("total"), default=0, editable=False)
    # Where the next batch continues.
    cursor: "models.JSONField[dict[str, Any], dict[str, Any]]" = JSONField(default=dict, editable=False)
    # The result: how many rows were changed, by kind of change.
    counts: "models.JSONField[dict[str, int], dict[str, int]]" = JSONField(default=dict, editable=False)
    error = models.TextField(_("error"), blank=True, default="", editable=False)
    cancel_requested = models.BooleanField(_("cancel requested"), default=False, editable=False)
    # The process that is at work, and its last sign of life. The token grows with each process that takes the job over.
    owner = models.CharField(_("worker"), max_length=100, blank=True, default="", editable=False)
    heartbeat = models.DateTimeField(_("heartbeat"), null=True, editable=False)
    token = models.BigIntegerField(default=0, editable=False)
    # How many processes have taken the job over since the last complete batch.
    attempts = models.PositiveSmallIntegerField(default=0, editable=False)

    objects = JobQuerySet.as_manager()

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        ordering = ["-pk"]
        default_permissions = ("view",)
        permissions = [("cancel_job", "Can cancel jobs of others")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} ({self.pk})"

    @property
    def is_finished(self) -> bool:
        """Whether the job has ended, in whatever way."""
        return self.state not in self.UNFINISHED

    @property
    def percent(self) -> int:
        """How much of the work is done, from 0 to 100."""
        if self.state == self.State.DONE:
            return 100
        return min(100 * self.done // self.total, 99) if self.total else 0
