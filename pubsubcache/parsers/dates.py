"""Dates as people really publish them, and the one form in which they are kept."""

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
    """Return the zone for "+02", "-0530", "+2:00"; UTC for a name or none. Raises `ValueError`."""
    if not zone or zone[0].isalpha():
        return UTC
    digits = zone[1:].replace(":", "")
    hours, minutes = (int(digits), 0) if len(digits) <= 2 else (int(digits[:-2]), int(digits[-2:]))
    if minutes > 59:
        raise ValueError("minutes of an offset are at most 59")
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(offset if zone[0] == "+" else -offset)


def _from_iso(text: str) -> datetime | None:
    """Return the date of RFC 3339 or ISO 8601 text, None when it is in another form. Raises `ValueError`."""
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
    """Return the date of RFC 822 or 5322 text, zone names included, None when it is in another form.

    Raises `ValueError` and its like, as the standard library's parser does on odd input.
    """
    fields = parsedate_tz(text)
    if fields is None:
        return None
    year, month, day, hour, minute, second = fields[:6]
    return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=timezone(timedelta(seconds=fields[9] or 0)))


def parse(text: str | None) -> datetime | None:
    """Return the point in time that `text` names, aware and in UTC, or None when it names none.

    Read are RFC 3339 (XEP-0082) and its common misspellings: lower-case letters, a space for the T, no seconds,
    no zone (UTC is meant), any number of decimals, an offset of hours only, a date only; the short form of ISO 8601
    without separators; RFC 822 with day names, two-digit years and zones such as EST. Never raises.
    """
    text = (text or "").strip()
    if not text or len(text) > MAX_LENGTH:
        return None
    try:
        found = _from_iso(text) or _from_rfc822(text)
        return found.astimezone(UTC) if found else None
    except (ValueError, OverflowError, IndexError, TypeError):  # no such day, or a year that UTC has no room for
        return None


def iso(moment: datetime) -> str:
    """Return an aware `moment` in the one form of the cache, such as "2026-01-31T12:00:00Z".

    UTC, whole seconds, always 20 characters: so the order of the texts is the order of the times, in every
    database. Raises `ValueError` on a naive datetime.
    """
    if moment.tzinfo is None:
        raise ValueError("A datetime without a time zone names no point in time.")
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def normalise(text: str | None) -> str | None:
    """Return the date that `text` names in the form of `iso`, or None."""
    moment = parse(text)
    return iso(moment) if moment else None
