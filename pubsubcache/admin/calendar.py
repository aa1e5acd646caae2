"""Converts a parsed event to a calendar file (iCalendar, RFC 5545). Data are hostile: each value is bounded."""

from datetime import UTC, datetime, timedelta
from typing import Any

from pubsubcache.models import PubsubItem
from pubsubcache.parsers import uris
from pubsubcache.utils.cleaning import one_line

MEDIA_TYPE = "text/calendar"
MAX_TEXT = 5000  # characters of a value
MAX_LINE = 75  # bytes of a line; longer ones are folded
STATUS = {"confirmed": "CONFIRMED", "tentative": "TENTATIVE", "cancelled": "CANCELLED"}
PLACE = ("text", "description", "room", "building", "street", "postalcode", "locality", "region", "country")


def calendar_of(item: PubsubItem) -> str | None:
    """Return the event of an item as a calendar with one event; None if the item is no event with a beginning."""
    parsed = item.parsed
    if not isinstance(parsed, dict) or (start := _moment(parsed.get("start"))) is None:
        return None
    end, is_day = _moment(parsed.get("end")), parsed.get("all_day") is True
    if end is not None and is_day:
        end += timedelta(days=1)  # the last day is part of the event; in iCalendar it is not
    lines = [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//pubsubcache//EN",
        "BEGIN:VEVENT",
        f"UID:{_escaped(uris.item_uri(item.node.service, item.node.name, item.name))}",
        f"DTSTAMP:{item.updated.astimezone(UTC):%Y%m%dT%H%M%SZ}",
        _time("DTSTART", start, is_day),
        *([_time("DTEND", end, is_day)] if end is not None and end > start else []),
    ]
    values = {
        "SUMMARY": parsed.get("title") or item.name,
        "DESCRIPTION": parsed.get("description"),
        "LOCATION": _place(parsed.get("locations")),
        "URL": uris.absolute(website) if isinstance(website := parsed.get("website"), str) else None,
        "STATUS": STATUS.get(status) if isinstance(status := parsed.get("status"), str) else None,
    }
    lines += [f"{name}:{_escaped(value)}" for name, value in values.items() if isinstance(value, str) and value]
    return "".join(f"{_folded(line)}\r\n" for line in [*lines, "END:VEVENT", "END:VCALENDAR"])


def _moment(value: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
        return found.astimezone(UTC) if found.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        return None


def _time(name: str, value: datetime, is_day: bool) -> str:
    return f"{name};VALUE=DATE:{value:%Y%m%d}" if is_day else f"{name}:{value:%Y%m%dT%H%M%SZ}"


def _place(locations: Any) -> str:
    first = locations[0] if isinstance(locations, list) and locations else None
    place = first.get("place") if isinstance(first, dict) else None
    pieces = [place.get(name) for name in PLACE] if isinstance(place, dict) else []
    return ", ".join(piece for piece in pieces if isinstance(piece, str) and piece)


def _escaped(text: str) -> str:
    lines = [one_line(line, MAX_TEXT) for line in text[:MAX_TEXT].splitlines()]
    escaped = (line.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,") for line in lines)
    return "\\n".join(escaped)


def _folded(line: str) -> str:
    """Break a line after at most `MAX_LINE` bytes, without breaking a character (RFC 5545, 3.1)."""
    pieces, size = [""], 0
    for character in line:
        width = len(character.encode())
        if size + width > MAX_LINE:
            pieces.append(" ")
            size = 1
        pieces[-1] += character
        size += width
    return "\r\n".join(pieces)
