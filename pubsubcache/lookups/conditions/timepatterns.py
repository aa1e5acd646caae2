"""Parses time patterns such as "now", "2026-01-31", "6 months ago" and "2026-01-31 + 2 weeks".

A pattern is a reference, a shift, or a reference followed by a shift. A reference is "now" or a date. In a date, the
day comes first (31/01/2026) unless the year does (2026-01-31). A shift is a number and a unit, with a sign, followed by
"ago" or preceded by "in". Times without a time zone are in Django's current time zone.
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
_FIXED_UNITS = ("seconds", "minutes", "hours")  # of constant length; the length of a day depends on the time zone
_SHIFT = re.compile(
    rf"""(?P<reference>.*?) (?:^|\s+|(?=[+-])) (?P<word>in\s+)? (?P<sign>[+-])? \s*
    (?P<number>[0-9]{{1,30}}) \s* (?P<unit>{"|".join(sorted(_ARGUMENTS, key=len, reverse=True))}) (?P<ago>\s+ago)?""",
    re.VERBOSE | re.IGNORECASE | re.ASCII,
)
_YEAR = re.compile(r"([0-9]{4})(?:-([0-9]{2}))?", re.ASCII)
_YEAR_FIRST = re.compile(r"[0-9]{4}[-/.]", re.ASCII)
# Two dates that differ in every part. If the results for both defaults differ in a part, the text did not contain it.
_DEFAULTS = (datetime(2000, 1, 1), datetime(2004, 2, 2))


def point_in_time(written: str, *, unsigned: bool = True) -> datetime:
    """Parse a time pattern; the module docstring describes the syntax.

    Args:
        written: The pattern.
        unsigned: Whether a shift without a direction, such as "6 months", is accepted and lies in the future. If not,
            the user has to write "6 months ago" or "in 6 months".

    Returns:
        An aware datetime in UTC.

    Raises:
        InvalidRequest: The pattern is invalid.
    """
    try:
        return _point(" ".join(written.split()), unsigned).astimezone(UTC)
    except (ValueError, OverflowError, ArithmeticError, TypeError, AttributeError, IndexError) as error:
        # dateutil lets several kinds of errors escape.
        raise InvalidRequest(
            f"{written[:MAX_LENGTH]!r} is not a time: use for example 2026-01-31, 31/01/2026 12:30, now, "
            '"6 months ago", "in 2 days" or "2026-01-31 + 2 weeks".'
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
    if unit in _FIXED_UNITS:
        return point.astimezone(UTC) + timedelta(**{unit: number})
    shifted: datetime = point + relativedelta(**{unit: number})
    return shifted


def _reference(written: str) -> datetime:
    if written.lower() == "now":
        return timezone.localtime()
    point = _date(written)
    return timezone.make_aware(point) if timezone.is_naive(point) else point


def _date(written: str) -> datetime:
    """Parse a date; the result is naive if it has no time zone."""
    if (year := _YEAR.fullmatch(written)) is not None:
        return datetime(int(year[1]), int(year[2] or 1), 1)
    try:
        return datetime.fromisoformat(written)
    except ValueError:
        if written.isdigit():
            raise
    options: dict[str, Any] = {"dayfirst": True}
    if _YEAR_FIRST.match(written):
        options = {"yearfirst": True}  # otherwise dateutil reads 2026-02-01 as 2 January
    options["tzinfos"] = _zone
    one, other = (parser.parse(written, default=default, **options) for default in _DEFAULTS)
    has_year, has_month, has_day = (getattr(one, part) == getattr(other, part) for part in ("year", "month", "day"))
    today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    if not has_year and not has_month:
        if has_day:
            raise ValueError("a day without a month")
        default = today  # a time of day, or a weekday
    else:
        default = today.replace(month=1, day=1)
    point: datetime = parser.parse(written, default=default, **options)
    return point


def _zone(name: str | None, offset: int | None) -> tzinfo | None:
    """Return the time zone of a date, or None. Raises `ValueError` for ambiguous names."""
    if offset is not None:
        return fixed_zone(timedelta(seconds=offset))
    if name is None:
        return None
    if name.upper() in ("Z", "UTC", "GMT"):
        return UTC
    raise ValueError(f"unknown zone {name}")
