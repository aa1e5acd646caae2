"""The run of `pubsub_reparse` that has not ended, so that it can be resumed."""

from django.db import models
from django.utils import timezone

from pubsubcache.models.fields import JSONField


class ReparseRun(models.Model):
    """A run that parses stored items again, in the order of their primary keys. There is at most one."""

    ONLY = 1  # the primary key

    # Identifies the process that is at work. A new run, or one that resumes, replaces it.
    token = models.CharField(max_length=32)
    filters = JSONField(default=dict)
    last_item = models.BigIntegerField(default=0)
    started = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = "run of pubsub_reparse"
        verbose_name_plural = "runs of pubsub_reparse"

    def __str__(self) -> str:
        return f"after item {self.last_item}"
