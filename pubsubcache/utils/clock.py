"""The clock that all processes share: the database's.

Times that one process writes and another compares (heartbeats, checks, retries) are read here. A time in the future
proves nothing: the clock that wrote it was wrong, or this one is.
"""

from datetime import UTC, datetime, timedelta

from django.db import connection

#: How far ahead a time may lie and still count as now: machines adjust their clocks in small steps.
TOLERANCE = timedelta(seconds=5)


def now() -> datetime:
    """Return the time by the database's clock. SQLite's is that of the machine."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT clock_timestamp()")
            moment: datetime = cursor.fetchone()[0]
            return moment
        cursor.execute("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")
        return datetime.fromisoformat(cursor.fetchone()[0]).replace(tzinfo=UTC)


def is_recent(moment: datetime | None, now: datetime, seconds: float) -> bool:
    """Whether `moment` is less than `seconds` ago, and not in the future."""
    return moment is not None and -TOLERANCE <= now - moment < timedelta(seconds=seconds)
