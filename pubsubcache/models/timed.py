"""Rows that know when they were read, and conditions on heartbeats."""

from datetime import datetime, timedelta
from typing import Self, TypeVar

from django.db import models
from django.db.models.functions import Now

from pubsubcache.utils import clock

M = TypeVar("M", bound=models.Model)


def silent(column: str, seconds: float, now: datetime | None = None) -> models.Q:
    """Return the condition that nothing was heard of the owner of a row for `seconds`: its heartbeat proves nothing.

    Args:
        column: The column with the heartbeat.
        seconds: How long a heartbeat counts.
        now: The time by the database's clock.
    """
    now = now or clock.now()
    return (
        models.Q(**{f"{column}__isnull": True})
        | models.Q(**{f"{column}__lte": now - timedelta(seconds=seconds)})
        | models.Q(**{f"{column}__gt": now + clock.TOLERANCE})
    )


class TimedQuerySet(models.QuerySet[M]):
    """Rows that can tell when they were read."""

    def with_time(self) -> Self:
        """Rows with `as_of`: when they are read, by the database's clock."""
        return self.annotate(as_of=Now())
