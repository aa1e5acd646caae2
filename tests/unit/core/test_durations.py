"""Test the form field for durations."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from pubsubcache.admin.durations import LONGEST, UnitDurationField, in_words

FIELD = UnitDurationField(required=False)


@pytest.mark.parametrize(
    ("text", "seconds", "shown"),
    [
        ("10 min", 600, "10 min"),
        ("2H", 7200, "2 h"),
        (" 1 d 4 h ", 100_800, "1 d 4 h"),
        ("1 day, 4 hours", 100_800, "1 d 4 h"),
        ("90 seconds", 90, "1 min 30 s"),
        ("1,5 h", 5400, "1 h 30 min"),
        ("1.25 s", 1.25, "1.25 s"),
        ("00:10:00", 600, "10 min"),
        ("1 04:00:00", 100_800, "1 d 4 h"),
        ("600", 600, "10 min"),
        ("0", 0, "0 s"),
    ],
)
def test_durations_are_read_and_shown_with_units(text: str, seconds: float, shown: str) -> None:
    found = FIELD.clean(text)
    assert found == timedelta(seconds=seconds)
    assert FIELD.prepare_value(found) == shown


@pytest.mark.parametrize(
    "text", ["soon", "10 parsecs", "min 10", "10 min x", "-5 min", "999999999 d", "1" * 400 + " d"]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        FIELD.clean(text)
    assert FIELD.prepare_value(text) == text


@given(st.timedeltas(timedelta(0), LONGEST))
def test_a_shown_duration_is_read_as_the_same(duration: timedelta) -> None:
    assert FIELD.clean(in_words(duration)) == duration
    assert not FIELD.has_changed(duration, in_words(duration))
