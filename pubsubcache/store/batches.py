"""Bulk work in batches: each is one short transaction, so that others can write in between.

A batch is a function of a `Batch`. It works until the batch is spent, and leaves in `cursor` where the next one
continues. A batch leaves nothing half done: whoever stops after any of them has a correct cache.
"""

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Sum

from pubsubcache.models import PubsubNode, PubsubNodeQuerySet

MAX_ROWS = 1000  # nodes and items that one batch writes
MAX_SECONDS = 0.08  # that a batch holds its locks; it ends after the chunk of rows that exceeds it
READ_AHEAD = 100  # nodes
PAUSE = 0.05  # seconds; at least, between two batches on SQLite
Report = Callable[[int, int | None], None]
Nodes = Iterable[int] | dict[str, Any]


@dataclass(slots=True)
class Batch:
    """The state of bulk work, and how much of it the present transaction may do.

    Attributes:
        cursor: Where the work continues; JSON. The function of the batch changes it.
        rows: How many rows may still be written in this transaction.
        ends: Until when, by the monotonic clock.
        done: The rows that are done so far in this batch: nodes and items.
        counts: The result of this batch, by kind of change.
        history: What was done with the nodes that this batch has finished, by primary key.
        finished: Whether all is done.
    """

    cursor: dict[str, Any] = field(default_factory=dict)
    rows: int = field(default_factory=lambda: MAX_ROWS)
    ends: float = field(default_factory=lambda: time.monotonic() + MAX_SECONDS)
    done: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    history: dict[int, dict[str, int]] = field(default_factory=dict)
    finished: bool = False

    @property
    def is_spent(self) -> bool:
        """Whether the transaction must end now."""
        return self.rows <= 0 or time.monotonic() >= self.ends

    def spend(self, rows: int) -> None:
        """Count rows that were written."""
        self.rows -= rows
        self.done += rows

    def note(self, **counts: int) -> None:
        """Count changes of the present node."""
        self.counts.update(counts)
        self.cursor["changes"] = dict(Counter(self.cursor.get("changes", {})) + Counter(counts))

    def end_node(self, pk: int) -> None:
        """Go on to the node after `pk`."""
        self.cursor["after"] = pk
        if changes := self.cursor.pop("changes", None):
            self.history[pk] = changes
        self.spend(1)


Work = Callable[[Batch], None]


def run(work: Work, report: Report | None = None, size: Callable[[], int] | None = None) -> Counter[str]:
    """Do bulk work in this process, batch by batch; return its counts.

    Args:
        work: The function of a batch.
        report: Called with the number of rows done so far and the total.
        size: Returns the number of rows to do.
    """
    total = size() if report is not None and size is not None else None
    cursor: dict[str, Any] = {}
    counts: Counter[str] = Counter()
    done = 0
    while True:
        began = time.monotonic()
        with transaction.atomic():
            batch = Batch(cursor)
            work(batch)
        cursor, done = batch.cursor, done + batch.done
        counts.update(batch.counts)
        if report is not None:
            report(done, total)
        if batch.finished:
            return counts
        if not connection.in_atomic_block:
            time.sleep(pause_after(time.monotonic() - began))


def pause_after(seconds: float) -> float:
    """Return how long to leave the database to others after a batch of `seconds`.

    SQLite has one writer at a time, and those that wait look for the lock only now and then.
    """
    return max(seconds, PAUSE) if connection.vendor == "sqlite" else seconds / 4


class Selection:
    """The nodes of bulk work, in the order of their primary keys.

    Args:
        nodes: Their primary keys, or conditions: arguments of `PubsubNodeQuerySet.matching`, `analyser` (a name) and
            `account` (a primary key).
    """

    def __init__(self, nodes: Nodes) -> None:
        self._pks = None if isinstance(nodes, dict) else sorted(nodes)
        self._filters = dict(nodes) if isinstance(nodes, dict) else {}

    def after(self, pk: int) -> list[int]:
        """Return the primary keys of some nodes that follow `pk`, in order. They may have been removed."""
        if self._pks is None:
            return list(self._matching().filter(pk__gt=pk).order_by("pk").values_list("pk", flat=True)[:READ_AHEAD])
        place = bisect_right(self._pks, pk)
        return self._pks[place : place + READ_AHEAD]

    def size(self) -> int:
        """Return the number of the nodes and of their items, according to the counters of the nodes."""
        if self._pks is None:
            chunks = [self._matching()]
        else:
            starts = range(0, len(self._pks), MAX_ROWS)
            chunks = [PubsubNode.objects.filter(pk__in=self._pks[start : start + MAX_ROWS]) for start in starts]
        sizes = (chunk.order_by().aggregate(nodes=Count("pk"), items=Sum("item_count")) for chunk in chunks)
        return sum(size["nodes"] + (size["items"] or 0) for size in sizes)

    def _matching(self) -> PubsubNodeQuerySet:
        fields = {name: value for name, value in self._filters.items() if name in ("analyser", "account")}
        lists = {name: value for name, value in self._filters.items() if name not in fields}
        return PubsubNode.objects.matching(**lists).filter(**fields)


def each_node(batch: Batch, selection: Selection, work: Callable[[int], bool]) -> None:
    """Do `work` with the nodes of a selection, as many as the batch may.

    Args:
        batch: The batch. Its cursor holds the last node that is done.
        selection: The nodes.
        work: Does some work with a node, and returns whether it is done with it.
    """
    while not batch.is_spent:
        pks = selection.after(batch.cursor.get("after", 0))
        if not pks:
            batch.finished = True
            return
        while pks and not batch.is_spent:
            if work(pks[0]):
                batch.end_node(pks.pop(0))
