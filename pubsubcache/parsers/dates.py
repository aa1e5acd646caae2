"""Tolerant parsing of dates, and the single format in which the cache stores them."""

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_tz

MAX_LENGTH = 100

_ISO = re.compile(
    r"""(?P<year>[0-9]{4}) (?P<dash>-?) (?P<month>[0-9]{2}) (?P=dash) (?P<day>[0-9]{2})
    (?:
        (?:\s*T\s*|\s+) (?P<hour>[0-9]{2}) :?(?P<minute>[0-9]{2})
        (?: :?(?P<second>[0-9]{2}) (?:[.,](?P<fraction>[0-9]+))? )?
    )?
    \s* (?P<zone> Z | UTC | GMT | [+\u2212-][0-9]{1,2}(?::?[0-9]{2})? )?""",
    re.VERBOSE | re.IGNORECASE,
)


def _offset(zone: str | None) -> timezone:
    """Return the time zone for "+02", "-0530" or "+2:00"; UTC for a name or None. Raises `ValueError`."""
    if not zone or zone[0].isalpha():
        return UTC
    digits = zone[1:].replace(":", "")
    hours, minutes = (int(digits), 0) if len(digits) <= 2 else (int(digits[:-2]), int(digits[-2:]))
    if minutes > 59:
        raise ValueError("the minutes of an offset must be <= 59")
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(offset if zone[0] == "+" else -offset)


def _from_iso(text: str) -> datetime | None:
    """Parse RFC 3339 or ISO 8601; return None for any other format. Raises `ValueError`."""
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second = (
        int(match[name] or 0) for name in ("year", "month", "day", "hour", "minute", "second")
    )
    if second == 60:  # a leap second
        second = 59
    microsecond = int((match["fraction"] or "0")[:6].ljust(6, "0"))
    return datetime(year, month, day, hour, minute, second, microsecond, tzinfo=_offset(match["zone"]))


def _from_rfc822(text: str) -> datetime | None:
    """Parse RFC 822 or RFC 5322, including zone names; return None for any other format.

    Raises `ValueError`, and whatever else the parser of the standard library raises on malformed input.
    """
    fields = parsedate_tz(text)
    if fields is None:
        return None
    year, month, day, hour, minute, second = fields[:6]
    return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=timezone(timedelta(seconds=fields[9] or 0)))


def parse(text: str | None) -> datetime | None:
    """Parse a date. Never raises.

    Accepts RFC 3339 (XEP-0082) and common deviations from it: lower-case letters, a space instead of the T, no seconds,
    no zone (taken as UTC), any number of decimals, an offset in hours only, a date only. Also accepts the basic format
    of ISO 8601, without separators, and RFC 822 with day names, two-digit years and zones such as EST.

    Args:
        text: The date as published, or None.

    Returns:
        An aware datetime in UTC, or None if `text` is not a valid date.
    """
    text = (text or "").strip()
    if not text or len(text) > MAX_LENGTH:
        return None
    try:
        found = _from_iso(text) or _from_rfc822(text)
        return found.astimezone(UTC) if found else None
    except (ValueError, OverflowError, IndexError, TypeError):  # no such day, or a year outside datetime's range
        return None


def iso(moment: datetime) -> str:
    """Format a datetime the way the cache stores it, such as "2026-01-31T12:00:00Z".

    The format is UTC, in whole seconds, and always 20 characters long, so strings sort by time in every database.

    Args:
        moment: An aware datetime.

    Raises:
        ValueError: `moment` is naive.
    """
    if moment.tzinfo is None:
        raise ValueError("The datetime must have a time zone.")
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def normalise(text: str | None) -> str | None:
    """Parse a date and return it in the format of `iso`; None if it is not a valid date."""
    moment = parse(text)
    return iso(moment) if moment else None
