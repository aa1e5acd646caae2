"""Test delays that grow with each failure."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsubcache.utils import backoff


def test_delay_doubles_up_to_the_maximum() -> None:
    assert [backoff.delay(failures, 0.5, 3.0) for failures in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


@pytest.mark.parametrize("failures", [backoff.LONGEST_AFTER, 10**9])
def test_many_failures_cause_no_overflow(failures: int) -> None:
    assert backoff.delay(failures, 1e-12, 60.0) == 60.0


@given(st.integers(1, 100), st.floats(0.1, 1))
def test_spread_delay_varies_and_never_exceeds_the_delay(failures: int, spread: float) -> None:
    wait = backoff.delay(failures, 1.0, 60.0)
    waits = {backoff.delay(failures, 1.0, 60.0, spread=spread) for _ in range(20)}
    assert (1 - spread) * wait <= min(waits) < max(waits) <= wait
