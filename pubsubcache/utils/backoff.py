"""How long to wait after failures in a row: twice as long each time, up to a limit."""

import random

LONGEST_AFTER = 32  # failures; whoever need not hope for better sooner can count so many at once


def delay(failures: int, first: float, most: float, *, spread: float = 0.0) -> float:
    """Return the seconds to wait after `failures` failures in a row.

    Args:
        failures: At least 1.
        first: The wait after the first failure.
        most: The longest wait.
        spread: The share of the wait that is left to chance, so that those who failed together do not come back
            together: 0.5 makes it half of the wait to all of it.
    """
    wait = min(first * 2.0 ** (failures - 1), most) if failures < LONGEST_AFTER else most
    return wait * random.uniform(1 - spread, 1)  # noqa: S311
