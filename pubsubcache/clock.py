"""The clock that all processes share: the database's.

Times that one process writes and another compares (heartbeats, checks, retries) are read here. A time in the future
proves nothing: the clock that wrote it was wrong, or this one is.
"""

from datetime import datetime, timedelta

from django.db import connection
from django.utils import timezone

#: How far ahead a time may lie and still count as now: machines adjust their clocks in small steps.
TOLERANCE = timedelta(seconds=5)


def now() -> datetime:
    """Return the time by the database's clock. With SQLite that is the clock of this machine."""
    if connection.vendor != "postgresql":
        return timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        moment: datetime = cursor.fetchone()[0]
    return moment


def is_recent(moment: datetime | None, now: datetime, seconds: float) -> bool:
    """Whether `moment` is less than `seconds` ago, and not in the future."""
    return moment is not None and -TOLERANCE <= now - moment < timedelta(seconds=seconds)
