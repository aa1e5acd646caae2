"""Test that cursors round-trip and that forged cursors are rejected."""

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsubcache.store.cursors import PREFIX, Key, decode, encode

moments = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
positions = st.integers(0, 2**63 - 1)


@given(st.integers(1, 2**63 - 1), positions, moments)
def test_round_trip(pk: int, position: int, at: datetime) -> None:
    assert decode(encode(pk, None, Key(position)), pk, None) == Key(position)
    for order in ("creation", "modification"):
        assert decode(encode(pk, order, Key(position, at)), pk, order) == Key(position, at)


def test_cursor_is_valid_for_one_node_and_order() -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    cursor = encode(1, "creation", Key(5, at))
    assert decode(cursor, 2, "creation") is None
    assert decode(cursor, 1, "modification") is None
    assert decode(cursor, 1, None) is None
    assert decode(encode(1, None, Key(5)), 1, "creation") is None


def made(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return PREFIX + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


NOW = "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        5,
        [1],
        [1, "creation", 1, ""],
        [1, "creation", 1, None],
        [1, "creation", 1, 5],
        [1, "creation", 1, "0001-01-01T00:00:00+14:00"],
        [1, "creation", 1, "9999-12-31T23:59:59-14:00"],
        [1, "creation", 1.5, NOW],
        [1, "creation", True, NOW],
        [1, "creation", "1", NOW],
        [1, "creation", 2**63, NOW],
        [1, "creation", -(2**63) - 1, NOW],
        [1, "creation", None, NOW],
        [True, "creation", 1, NOW],
        '[1,"creation",1e999,""]',
        '[1,"creation",Infinity,""]',
        '[1,"creation",NaN,""]',
        "[" * 100_000,
        '[1,"creation",' + "9" * 5000 + ',""]',
    ],
)
def test_forged_cursors_are_rejected(value: Any) -> None:
    assert decode(made(value), 1, "creation") is None


def test_time_zones_do_not_matter() -> None:
    at = datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5)))
    assert decode(encode(1, "creation", Key(5, at)), 1, "creation") == Key(5, at)


@given(st.text())
def test_garbage_is_rejected(text: str) -> None:
    assert decode(text, 1, None) is None
    assert decode(PREFIX + text, 1, "creation") is None


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(json_values | st.lists(json_values, min_size=4, max_size=4))
def test_garbage_in_the_format_of_cursors_does_not_raise(value: Any) -> None:
    for order in (None, "creation"):
        key = decode(made(value), 1, order)
        assert key is None or (0 <= key.position < 2**63 and (key.at is None) == (order is None))
