"""A settable wall clock for the test process. Monotonic time and the database's clock are not changed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from unittest.mock import patch


@dataclass
class WallClock:
    """A clock that is `offset` seconds ahead; behind if negative."""

    offset: float = 0.0

    def now(self, zone: object = UTC) -> datetime:
        """Return the time of this clock, in UTC."""
        return datetime.now(UTC) + timedelta(seconds=self.offset)


@contextmanager
def wall_clock() -> Iterator[WallClock]:
    """Make the cache use a settable clock."""
    clock = WallClock()
    with (
        patch("django.utils.timezone.now", clock.now),
        patch("pubsubcache.xmpp.session.datetime", SimpleNamespace(now=clock.now)),
    ):
        yield clock
