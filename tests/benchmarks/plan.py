"""What is measured and how much of it, and the figures that come of it; passed between processes as JSON."""

import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    small: int = 1_000  # items in the nodes that are read
    large: int = 10_000
    calls_small: int = 200
    calls_large: int = 60
    synced: int = 5_000  # items in the node that is synchronised
    rounds: int = 3
    burst: int = 1_000  # notifications at once
    singles: int = 100  # notifications one by one
    memory: tuple[int, ...] = (5_000, 10_000)

    @classmethod
    def quick(cls) -> Self:
        """Return a plan for a first look: the figures are rough."""
        return cls(
            small=200, large=2_000, calls_small=40, calls_large=20, synced=1_000, burst=300, singles=20, memory=(1_000,)
        )


@dataclass
class Figure:
    """One line of the table: `target` is what to hope for, in words, `good` whether it is reached."""

    measure: str
    title: str
    value: float
    unit: str = ""
    target: str = ""
    good: bool | None = None


@dataclass
class Job:
    """What one process is to measure on its database, with which servers."""

    measures: list[str]
    plan: Plan
    servers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the job as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the job that `to_json` made the text of."""
        data = json.loads(text)
        plan = {**data["plan"], "memory": tuple(data["plan"]["memory"])}
        return cls(data["measures"], Plan(**plan), data["servers"])


def at_most(measure: str, title: str, value: float, bound: float, unit: str = "") -> Figure:
    """Return a figure that is hoped to be at most `bound`."""
    return Figure(measure, title, value, unit, f"at most {bound:g}", value <= bound)


def at_least(measure: str, title: str, value: float, bound: float, unit: str = "") -> Figure:
    """Return a figure that is hoped to be at least `bound`."""
    return Figure(measure, title, value, unit, f"at least {bound:g}", value >= bound)


IN_A_ROW = 4


async def interleaved(calls: int, contestants: dict[str, Callable[[], Awaitable[Any]]]) -> dict[str, float]:
    """Call each of `contestants` in turn, `calls` times; return the median of each in milliseconds.

    Whatever else the machine does meets them all alike; who follows whom changes, for whoever comes after
    a long wait finds cold caches. Each has `IN_A_ROW` calls when its turn comes, as readers come in numbers. A
    contestant that returns a number of seconds took its time itself, as one that works in another thread.
    """
    times: dict[str, list[float]] = {name: [] for name in contestants}
    order = random.Random(1)
    for _ in range(max(1, calls // IN_A_ROW)):
        for name in order.sample(list(contestants), len(contestants)):
            for _ in range(IN_A_ROW):
                began = time.perf_counter()
                own = await contestants[name]()
                times[name].append(own if isinstance(own, float) else time.perf_counter() - began)
    return {name: statistics.median(taken) * 1000 for name, taken in times.items()}
