"""Points in time as people write them: "now", a date, "6 months ago", "2026-01-31 + 2 weeks".

A pattern is a reference, a shift, or a reference and a shift. References are "now" and dates; the day comes first
(31/01/2026) unless the year does (2026-01-31). Shifts are a number and a unit, with a sign, with "ago" after them or
"in" before them. What has no time zone is in Django's current one.
"""

import re
from datetime import UTC, datetime, timedelta, tzinfo
from datetime import timezone as fixed_zone
from typing import Any

from dateutil import parser
from dateutil.relativedelta import relativedelta
from django.utils import timezone

from pubsubcache.exceptions import InvalidRequest

MAX_LENGTH = 100
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
_OF_CLOCKS = ("seconds", "minutes", "hours")  # of the same length everywhere; days are as long as the zone has them
_SHIFT = re.compile(
    rf"""(?P<reference>.*?) (?:^|\s+|(?=[+-])) (?P<word>in\s+)? (?P<sign>[+-])? \s*
    (?P<number>[0-9]{{1,30}}) \s* (?P<unit>{"|".join(sorted(_ARGUMENTS, key=len, reverse=True))}) (?P<ago>\s+ago)?""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_YEAR = re.compile(r"([0-9]{4})(?:-([0-9]{2}))?", re.ASCII)
_YEAR_FIRST = re.compile(r"[0-9]{4}[-/.]", re.ASCII)
# Two dates that differ in all: what a parser takes from both was not written.
_DEFAULTS = (datetime(2000, 1, 1), datetime(2004, 2, 2))


def point_in_time(written: str, *, unsigned: bool = True) -> datetime:
    """Return the time that a pattern means, in UTC; see the module for what may be written.

    Without `unsigned`, a shift of now has to say its direction: "6 months" is then refused, where it would mean a
    time to come and "6 months ago" was probably meant. Raises `InvalidRequest`.
    """
    try:
        return _point(" ".join(written.split()), unsigned).astimezone(UTC)
    except (ValueError, OverflowError, ArithmeticError, TypeError, AttributeError, IndexError) as error:
        # dateutil lets a few others than its own errors out.
        raise InvalidRequest(
            f'{written[:MAX_LENGTH]!r} is not a time: give one like 2026-01-31, 31/01/2026 12:30, now, "6 months ago", '
            '"in 2 days" or "2026-01-31 + 2 weeks".'
        ) from error


def _point(written: str, unsigned: bool) -> datetime:
    if len(written) > MAX_LENGTH:
        raise ValueError("too long")
    shift = _SHIFT.fullmatch(written)
    if shift is None:
        return _reference(written)
    if bool(shift["word"]) + bool(shift["sign"]) + bool(shift["ago"]) > 1:
        raise ValueError("two directions")
    directed = shift["word"] or shift["sign"] or shift["ago"]
    if not directed and (shift["reference"] or not unsigned):
        raise ValueError("no direction")
    number = int(shift["number"]) * (-1 if shift["ago"] or shift["sign"] == "-" else 1)
    return _shifted(_reference(shift["reference"] or "now"), _ARGUMENTS[shift["unit"].lower()], number)


def _shifted(point: datetime, unit: str, number: int) -> datetime:
    if unit in _OF_CLOCKS:
        return point.astimezone(UTC) + timedelta(**{unit: number})
    shifted: datetime = point + relativedelta(**{unit: number})
    return shifted


def _reference(written: str) -> datetime:
    if written.lower() == "now":
        return timezone.localtime()
    point = _date(written)
    return timezone.make_aware(point) if timezone.is_naive(point) else point


def _date(written: str) -> datetime:
    """Return a date as it is written, naive if it has no zone."""
    if (year := _YEAR.fullmatch(written)) is not None:
        return datetime(int(year[1]), int(year[2] or 1), 1)
    try:
        return datetime.fromisoformat(written)
    except ValueError:
        if written.isdigit():
            raise
    options: dict[str, Any] = {"dayfirst": True}
    if _YEAR_FIRST.match(written):
        options = {"yearfirst": True}  # or dateutil would take 2026-02-01 for the second of January
    options["tzinfos"] = _zone
    one, other = (parser.parse(written, default=default, **options) for default in _DEFAULTS)
    has_year, has_month, has_day = (getattr(one, part) == getattr(other, part) for part in ("year", "month", "day"))
    today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    if not has_year and not has_month:
        if has_day:
            raise ValueError("a day of no month")
        default = today  # a time of the day, or a day of the week
    else:
        default = today.replace(month=1, day=1)
    point: datetime = parser.parse(written, default=default, **options)
    return point


def _zone(name: str | None, offset: int | None) -> tzinfo | None:
    """Return the zone that a date names, if any. Raises `ValueError` for names that may mean several."""
    if offset is not None:
        return fixed_zone(timedelta(seconds=offset))
    if name is None:
        return None
    if name.upper() in ("Z", "UTC", "GMT"):
        return UTC
    raise ValueError(f"unknown zone {name}")
