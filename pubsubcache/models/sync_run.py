"""Sync runs: records of synchronisations of nodes, also of those that run now."""

from datetime import datetime, timedelta
from typing import Any, Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from pubsubcache.models.account import Account, is_visible_to
from pubsubcache.models.node import PubsubNode
from pubsubcache.models.timed import TimedQuerySet


class SyncRunQuerySet(TimedQuerySet["SyncRun"]):
    """Queries for sync runs."""

    def visible_to(self, user: Any) -> Self:
        """Return the runs of the accounts that a user of the site may see; see `is_visible_to`."""
        return self.filter(is_visible_to(user, "account__owner"))

    def failed(self, since: datetime) -> Self:
        """Return the runs that started at `since` or later and failed or were refused."""
        return self.filter(outcome__in=[SyncRun.Outcome.FAILED, SyncRun.Outcome.REFUSED], started__gte=since)


class SyncRun(models.Model):
    """One synchronisation of a node: why it ran, how long, and what it changed."""

    class Kind(models.TextChoices):
        """How the copy was revalidated."""

        FULL = "full", _("full sync")
        IDS = "ids", _("id check")

    class Reason(models.TextChoices):
        """Why the run started."""

        FIRST = "first", _("first copy")
        STAFF = "staff", _("requested")
        RETRY = "retry", _("retry after a failure")
        ANALYSER = "analyser", _("analyser changed")
        INVALIDATED = "invalidated", _("invalidated")
        RECONNECT = "reconnect", _("new session")
        READ = "read", _("read of an outdated copy")
        IDS = "ids", _("id check found a difference")
        CONTENTS = "contents", _("comparison of contents")
        SCHEDULE = "schedule", _("schedule")

    class Outcome(models.TextChoices):
        """How the run ended."""

        RUNNING = "running", _("running")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")
        REFUSED = "refused", _("refused")
        ABANDONED = "abandoned", _("abandoned")

    # The indexes of the class start with the foreign keys.
    account = models.ForeignKey(
        Account, on_delete=models.CASCADE, related_name="runs", db_index=False, verbose_name=_("account")
    )
    node = models.ForeignKey(
        PubsubNode, on_delete=models.CASCADE, related_name="runs", db_index=False, verbose_name=_("node")
    )
    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    reason = models.CharField(_("reason"), max_length=20, choices=Reason.choices)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome.choices, default=Outcome.RUNNING)
    started = models.DateTimeField(_("started"), default=timezone.now)
    finished = models.DateTimeField(_("finished"), null=True, blank=True)
    added = models.PositiveIntegerField(_("added"), default=0)
    updated = models.PositiveIntegerField(_("updated"), default=0)
    removed = models.PositiveIntegerField(_("removed"), default=0)
    requests = models.PositiveIntegerField(_("requests"), default=0)
    error = models.TextField(_("error"), blank=True, default="")

    objects = SyncRunQuerySet.as_manager()
    #: When the row was read, by the database's clock; set by queries that ask for it.
    as_of: datetime | None = None

    class Meta:
        verbose_name = _("sync run")
        verbose_name_plural = _("sync runs")
        ordering = ["-pk"]
        default_permissions = ()  # those who may view nodes may view their runs
        indexes = [
            models.Index(fields=["node", "-id"], name="pubsubcache_run_node"),
            models.Index(fields=["account", "-id"], name="pubsubcache_run_account"),
            models.Index(fields=["outcome", "started"], name="pubsubcache_run_outcome"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}, {self.get_reason_display()}: {self.get_outcome_display()}"

    @property
    def current_outcome(self) -> str:
        """The outcome. A run that was not finished counts as abandoned once the claim of its node has ended."""
        if self.outcome != self.Outcome.RUNNING or self.node.is_claimed(self.as_of):
            return self.outcome
        return self.Outcome.ABANDONED

    @property
    def duration(self) -> timedelta | None:
        """How long the run took, or None if it has not finished."""
        return None if self.finished is None else self.finished - self.started
