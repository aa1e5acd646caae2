"""The wall clock of the test's process, which jumps as told. Monotonic time and the database's clock stay true."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from unittest.mock import patch


@dataclass
class WallClock:
    """A clock that is `offset` seconds ahead of the true one; behind it when negative."""

    offset: float = 0.0

    def now(self, zone: object = UTC) -> datetime:
        """Return the time that it shows, in UTC."""
        return datetime.now(UTC) + timedelta(seconds=self.offset)


@contextmanager
def wall_clock() -> Iterator[WallClock]:
    """Have the cache see a clock that can be set."""
    clock = WallClock()
    with (
        patch("django.utils.timezone.now", clock.now),
        patch("pubsubcache.xmpp.session.datetime", SimpleNamespace(now=clock.now)),
    ):
        yield clock
