from datetime import UTC, datetime, timedelta, timezone
from random import Random

import pytest

from pubsubcache.parsers import dates

NOON = "2026-01-31T12:00:00Z"


@pytest.mark.parametrize(
    "text",
    [
        "2026-01-31T12:00:00Z",
        "2026-01-31t12:00:00z",
        "2026-01-31T12:00:00",
        "2026-01-31 12:00:00",
        "2026-01-31 12:00:00 +0000",
        "2026-01-31T12:00Z",
        "2026-01-31T12:00:00.5Z",
        "2026-01-31T12:00:00,25Z",
        "2026-01-31T12:00:00.1234567890123456789Z",
        "2026-01-31T14:00:00+02:00",
        "2026-01-31T14:00:00+0200",
        "2026-01-31T14:00:00+02",
        "2026-01-31T14:00:00+2:00",
        "2026-01-31T06:30:00-05:30",
        "2026-01-31T06:30:00\u221205:30",
        "2026-01-31T12:00:00 UTC",
        "20260131T12:00:00",
        "20260131T120000Z",
        "  2026-01-31T12:00:00Z\n",
        "Sat, 31 Jan 2026 12:00:00 GMT",
        "Sat, 31 Jan 2026 12:00:00 +0000",
        "Sat, 31 Jan 2026 12:00:00 -0000",
        "31 Jan 26 12:00 UT",
        "31 Jan 2026 12:00:00",
        "Sat, 31 Jan 2026 07:00:00 EST",
        "Sat, 31 Jan 2026 08:00:00 EDT",
        "sat, 31 jan 2026 04:00:00 pst",
        "Sat, 31 Jan 2026 05:00:00 PDT",
        "Sat Jan 31 12:00:00 2026",
    ],
)
def test_accepted_date_formats(text: str) -> None:
    assert dates.normalise(text) == NOON


def test_date_without_time_is_midnight() -> None:
    assert dates.normalise("2026-01-31") == "2026-01-31T00:00:00Z"
    assert dates.normalise("20260131") == "2026-01-31T00:00:00Z"


def test_leap_second_becomes_second_59() -> None:
    assert dates.normalise("2016-12-31T23:59:60Z") == "2016-12-31T23:59:59Z"


def test_parsed_dates_are_aware_utc_and_keep_their_fraction() -> None:
    moment = dates.parse("2026-01-31T14:00:00.000250+02:00")
    assert moment == datetime(2026, 1, 31, 12, 0, 0, 250, tzinfo=UTC)
    assert moment.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "   ",
        "yesterday",
        "10",
        "2026",
        "1769860800",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-01-31T25:00:00Z",
        "2026-01-31T12:61:00Z",
        "2026-01-31T12:00:00+99:00",
        "2026-01-31T12:00:00+01:75",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+05:00",
        "9999-12-31T23:59:59-05:00",
        "99999-01-01T00:00:00Z",
        "2026-01-31T12:00:00Z and more",
        "2026-0131",
        "\u0662\u0660\u0662\u0666-01-31T12:00:00Z",
        "Wed, 99 Oct 2002 13:00:00 GMT",
        "Wed, 02 Oct 99999 13:00:00 GMT",
        "Wed, 02 Oct 2002 13:00:00 +9999999999999",
        "2026-01-31T12:00:00." + "1" * 200_000 + "Z",
        "9" * 1_000_000,
        " " * 1_000_000,
        "(" * 99,
        "\x00",
        "\ud800",
    ],
)
def test_invalid_dates_return_none(text: str | None) -> None:
    assert dates.parse(text) is None
    assert dates.normalise(text) is None


def test_random_text_never_raises() -> None:
    random = Random(7)
    alphabet = "0123456789-:.,TtZz+ ()JanFebSatGMTEST\u2212\ud800\x00"
    for _ in range(20_000):
        moment = dates.parse("".join(random.choices(alphabet, k=random.randrange(40))))
        assert moment is None or moment.tzinfo is UTC


def test_formatted_dates_sort_by_time() -> None:
    random = Random(1)
    span = int((datetime.max - datetime.min).total_seconds()) - 200_000
    moments = [
        datetime(1, 1, 2, tzinfo=timezone(timedelta(hours=random.randrange(-12, 13))))
        + timedelta(seconds=random.randrange(span), microseconds=random.randrange(10**6))
        for _ in range(2000)
    ]
    texts = [dates.iso(moment) for moment in sorted(moments)]
    assert texts == sorted(texts)
    assert {len(text) for text in texts} == {20}


def test_iso_round_trips() -> None:
    moment = datetime(987, 6, 5, 4, 3, 2, 999_999, tzinfo=UTC)
    assert dates.iso(moment) == "0987-06-05T04:03:02Z"
    assert dates.parse(dates.iso(moment)) == moment.replace(microsecond=0)


def test_iso_rejects_naive_datetimes() -> None:
    with pytest.raises(ValueError, match="time zone"):
        dates.iso(datetime(2026, 1, 1))
