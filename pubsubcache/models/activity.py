"""Activity: how much each account received, stored and answered in each hour."""

from datetime import datetime, timedelta
from typing import Any, Self

from django.db import models

from pubsubcache.models.account import Account, is_visible_to
from pubsubcache.utils import clock

#: The counters.
COUNTERS = ("notifications", "stored", "hits", "misses", "stale")


def hour_of(moment: datetime) -> datetime:
    """Return the start of the hour of `moment`."""
    return moment.replace(minute=0, second=0, microsecond=0)


class ActivityQuerySet(models.QuerySet["Activity"]):
    """Queries for activity."""

    def visible_to(self, user: Any) -> Self:
        """Return the activity of the accounts that a user of the site may see; see `is_visible_to`."""
        return self.filter(is_visible_to(user, "account__owner"))

    def per_hour(self, hours: int = 24, now: datetime | None = None) -> list[dict[str, Any]]:
        """Return the sums of the counters in each of the last hours, oldest first. The last hour is the current one.

        Args:
            hours: The number of hours.
            now: The time by the database's clock. The default is the current time.

        Returns:
            For each hour a dict with `hour` and the counters; they are 0 in hours without activity.
        """
        current = hour_of(now or clock.now())
        chosen = [current - timedelta(hours=ago) for ago in reversed(range(hours))]
        sums = {name: models.Sum(name) for name in COUNTERS}
        rows = self.filter(hour__gte=chosen[0]).order_by().values("hour").annotate(**sums)
        found: dict[datetime, dict[str, Any]] = {row["hour"]: dict(row) for row in rows}
        return [found.get(hour, {"hour": hour, **dict.fromkeys(COUNTERS, 0)}) for hour in chosen]


class Activity(models.Model):
    """What happened for one account in one hour."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="activity", db_index=False)
    hour = models.DateTimeField(db_index=True)
    notifications = models.BigIntegerField(default=0)  # received
    stored = models.BigIntegerField(default=0)  # new and changed items
    hits = models.BigIntegerField(default=0)
    misses = models.BigIntegerField(default=0)
    stale = models.BigIntegerField(default=0)

    objects = ActivityQuerySet.as_manager()

    class Meta:
        verbose_name = "activity"
        verbose_name_plural = "activity"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["account", "hour"], name="pubsubcache_activity_unique")]

    def __str__(self) -> str:
        return f"{self.account} {self.hour:%Y-%m-%d %H:%M}"
