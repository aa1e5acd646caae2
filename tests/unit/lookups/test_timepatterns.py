"""Test the parser of time patterns."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from dateutil.relativedelta import relativedelta
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.lookups.conditions import timepatterns
from pubsubcache.lookups.conditions.timepatterns import point_in_time

# In Paris, clocks are set forward by an hour at 2:00 on 29 March 2026.
NOW = datetime(2026, 3, 29, 10, 30, 15, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _paris(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    with timezone.override("Europe/Paris"):
        yield


def paris(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=ZoneInfo("Europe/Paris")).astimezone(UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("now", NOW),
        (" NOW ", NOW),
        ("2026-01-31", paris(2026, 1, 31)),
        ("2026-02-01", paris(2026, 2, 1)),
        ("2026-02-01 12:30", paris(2026, 2, 1, 12, 30)),
        ("2026-02-01T12:30:15.5", paris(2026, 2, 1, 12, 30, 15, 500_000)),
        ("2026-02-01T12:30:00Z", datetime(2026, 2, 1, 12, 30, tzinfo=UTC)),
        ("2026-02-01 12:30 UTC", datetime(2026, 2, 1, 12, 30, tzinfo=UTC)),
        ("2026-02-01 12:30 +0200", datetime(2026, 2, 1, 10, 30, tzinfo=UTC)),
        ("2026-02-01T12:30-05:00", datetime(2026, 2, 1, 17, 30, tzinfo=UTC)),
        ("2026/02/01", paris(2026, 2, 1)),
        ("2026", paris(2026, 1, 1)),
        ("2026-02", paris(2026, 2, 1)),
        ("01/02/2026", paris(2026, 2, 1)),
        ("1.2.2026 12:30", paris(2026, 2, 1, 12, 30)),
        ("01-02-2026", paris(2026, 2, 1)),
        ("1 February 2026", paris(2026, 2, 1)),
        ("feb 2026", paris(2026, 2, 1)),
        ("31/01", paris(2026, 1, 31)),
        ("Sat, 31 Jan 2026 12:00:00 GMT", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("12:30", paris(2026, 3, 29, 12, 30)),
        ("monday", paris(2026, 3, 30)),
        ("1 second ago", NOW - timedelta(seconds=1)),
        ("90 s ago", NOW - timedelta(seconds=90)),
        ("5 m ago", NOW - timedelta(minutes=5)),
        ("12 hours ago", NOW - timedelta(hours=12)),
        ("12 HR AGO", NOW - timedelta(hours=12)),
        ("1 day ago", paris(2026, 3, 28, 12, 30, 15)),
        ("2w ago", paris(2026, 3, 15, 12, 30, 15)),
        ("1 mo ago", paris(2026, 2, 28, 12, 30, 15)),
        ("6 months ago", paris(2025, 9, 29, 12, 30, 15)),
        ("2 yrs ago", paris(2024, 3, 29, 12, 30, 15)),
        ("-6 months", paris(2025, 9, 29, 12, 30, 15)),
        ("- 6 months", paris(2025, 9, 29, 12, 30, 15)),
        ("in 2 days", paris(2026, 3, 31, 12, 30, 15)),
        ("+2 days", paris(2026, 3, 31, 12, 30, 15)),
        ("2 days", paris(2026, 3, 31, 12, 30, 15)),
        ("now - 1 y", paris(2025, 3, 29, 12, 30, 15)),
        ("now-1y", paris(2025, 3, 29, 12, 30, 15)),
        ("2026-01-31 + 1 month", paris(2026, 2, 28)),
        ("2026-01-31+2 weeks", paris(2026, 2, 14)),
        ("31/01/2026 3 days ago", paris(2026, 1, 28)),
        ("2026-01-31T10:00-02:00 - 3 h", datetime(2026, 1, 31, 9, tzinfo=UTC)),
        ("12:30 - 1 d", paris(2026, 3, 28, 12, 30)),
    ],
)
def test_accepted_time_patterns(written: str, meant: datetime) -> None:
    assert point_in_time(written) == meant
    assert point_in_time(written).tzinfo is UTC


@pytest.mark.parametrize(
    "written",
    [
        "", " ", "soon", "ago", "in", "5", "31", "6 monthz ago", "3 fortnights ago", "one day ago", "-3 days ago",
        "in -3 days", "in 3 days ago", "2026-13-01", "2026-02-30", "29 feb 2026", "2026-01-31 2 days", "1.5 hours ago",
        "999999999 years ago", "in 999999999 years", "999999999999999999999999 s ago", "0001-01-01", "\0", "x" * 10_000,
        "0001-01-01T00:00:00+12:00", "9999-12-31T23:59:59-12:00", "12:30 CET", "2026-01-31 12:00 PST",
        "\u0663 days ago", "2026-01-31 + 2 days + 2 days", "1" * 5000, "🐘", "(", "%s", "now now",
    ],
)  # fmt: skip
def test_invalid_patterns_are_rejected_with_a_hint(written: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a time: use for example") as refused:
        point_in_time(written)
    assert len(str(refused.value)) < 350


def test_shift_without_direction_can_be_rejected() -> None:
    for written in ("6 months", "6mo"):
        with pytest.raises(InvalidRequest):
            point_in_time(written, unsigned=False)
    assert point_in_time("6 months ago", unsigned=False) < NOW < point_in_time("+6 months", unsigned=False)


@pytest.mark.parametrize(("unit", "words"), timepatterns._UNITS.items())
def test_all_units(unit: str, words: tuple[str, ...]) -> None:
    for word in words:
        shifted = (timezone.localtime() - relativedelta(**{unit: 3})).astimezone(UTC)  # type: ignore[arg-type]
        assert point_in_time(f"3 {word} ago") == point_in_time(f"-3{word.upper()}") == shifted


@given(st.text(max_size=30) | st.text("0123456789 -+/:.TZadginomwy", max_size=30))
def test_any_text_raises_at_most_invalid_request(written: str) -> None:
    with suppress(InvalidRequest):
        assert point_in_time(written).tzinfo is UTC
