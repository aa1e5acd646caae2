"""Times as people write them on a command line."""

import re
from datetime import UTC, datetime

from dateutil.relativedelta import relativedelta
from django.utils import timezone

from pubsubcache.exceptions import InvalidRequest

_UNITS = {
    "seconds": ("s", "sec", "secs", "second", "seconds"),
    "minutes": ("m", "min", "mins", "minute", "minutes"),
    "hours": ("h", "hr", "hrs", "hour", "hours"),
    "days": ("d", "day", "days"),
    "weeks": ("w", "week", "weeks"),
    "months": ("mo", "month", "months"),
    "years": ("y", "yr", "yrs", "year", "years"),
}
_ARGUMENTS = {word: argument for argument, words in _UNITS.items() for word in words}
_AGO = re.compile(r"(\d{1,9})\s*([a-z]+)\s+ago", re.IGNORECASE)


def point_in_time(written: str) -> datetime:
    """Return the time that a text means: ISO 8601, "now" or like "6 months ago".

    A time without a zone is in the site's time zone. Raises `InvalidRequest`.
    """
    try:
        return _point(written.strip()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            f'{written!r} is not a time: give one like 2024-05-31, 2024-05-31T12:00:00+02:00 or "6 months ago".'
        ) from error


def _point(written: str) -> datetime:
    now = timezone.localtime()
    if written.lower() == "now":
        return now
    if (ago := _AGO.fullmatch(written)) is not None:
        argument = _ARGUMENTS.get(ago[2].lower())
        if argument is None:
            raise ValueError(f"unknown unit {ago[2]}")
        past: datetime = now - relativedelta(**{argument: int(ago[1])})
        return past
    point = datetime.fromisoformat(written)
    return timezone.make_aware(point) if timezone.is_naive(point) else point
