"""Exponential back-off: how long to wait after consecutive failures."""

import random

LONGEST_AFTER = 32  # failures after which the delay is the longest; also for failures that a retry will not fix


def delay(failures: int, first: float, most: float, *, spread: float = 0.0) -> float:
    """Return the seconds to wait after consecutive failures. The delay doubles with each failure.

    Args:
        failures: The number of failures, at least 1.
        first: The delay after the first failure.
        most: The longest delay.
        spread: The fraction of the delay that is random, so that clients do not retry all at once. With 0.5 the result
            is between half of the delay and the whole delay.
    """
    wait = min(first * 2.0 ** (failures - 1), most) if failures < LONGEST_AFTER else most
    return wait * random.uniform(1 - spread, 1)  # noqa: S311
