"""Query sets that record the time of reading, and conditions on heartbeats."""

from datetime import datetime, timedelta
from typing import Self, TypeVar

from django.db import models
from django.db.models.functions import Now

from pubsubcache.utils import clock

M = TypeVar("M", bound=models.Model)


def heartbeat_expired(column: str, seconds: float, now: datetime | None = None) -> models.Q:
    """Return the condition that the heartbeat of a row's owner is missing, too old, or in the future.

    Args:
        column: The column that contains the heartbeat.
        seconds: How long a heartbeat is valid.
        now: The time by the database's clock. The default is the current time.
    """
    now = now or clock.now()
    return (
        models.Q(**{f"{column}__isnull": True})
        | models.Q(**{f"{column}__lte": now - timedelta(seconds=seconds)})
        | models.Q(**{f"{column}__gt": now + clock.TOLERANCE})
    )


class TimedQuerySet(models.QuerySet[M]):
    """A query set whose rows can record when they were read."""

    def with_time(self) -> Self:
        """Annotate the rows with `as_of`, the time of reading by the database's clock."""
        return self.annotate(as_of=Now())
