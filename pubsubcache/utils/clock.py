"""The clock shared by all processes: that of the database.

Use it for times that one process writes and another compares, such as heartbeats, checks and retries. A time in the
future is unreliable: one of the clocks is wrong.
"""

from datetime import UTC, datetime, timedelta

from django.db import connection

#: A time this far in the future still counts as now, because machines adjust their clocks in small steps.
TOLERANCE = timedelta(seconds=5)


def now() -> datetime:
    """Return the current time of the database. SQLite uses the clock of the machine."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT clock_timestamp()")
            moment: datetime = cursor.fetchone()[0]
            return moment
        cursor.execute("SELECT strftime('%Y-%m-%d %H:%M:%f', 'now')")
        return datetime.fromisoformat(cursor.fetchone()[0]).replace(tzinfo=UTC)


def is_recent(moment: datetime | None, now: datetime, seconds: float) -> bool:
    """Return whether `moment` is less than `seconds` before `now`, and not in the future."""
    return moment is not None and -TOLERANCE <= now - moment < timedelta(seconds=seconds)
