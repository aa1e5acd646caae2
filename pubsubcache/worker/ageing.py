"""Periodically removes what is old: nodes of an account that nobody reads, records of sync runs, and counters."""

import random
import time

from pubsubcache.store import activity, in_thread, runs
from pubsubcache.store.ageing import forget_unread
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

INTERVAL = 600.0  # seconds between two runs
PAUSE = 1.0  # seconds between two batches of a run, so that others can use the database


class Ageing:
    """The runs for one account. `attend` is called often, and processes a batch if one is due."""

    def __init__(self, account_pk: int) -> None:
        self.account_pk = account_pk
        self._due = time.monotonic() + random.uniform(0, INTERVAL)  # noqa: S311  (spread over accounts)

    async def attend(self) -> None:
        """Remove a batch of everything that is too old if that is due."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + INTERVAL
        if forgotten := await in_thread(forget_unread)(self.account_pk):
            logger.info("Removed %d nodes that nobody reads.", forgotten)
        pruned = await in_thread(runs.prune)(self.account_pk)
        await in_thread(activity.prune)(self.account_pk)
        if forgotten or pruned:
            self._due = time.monotonic() + PAUSE
