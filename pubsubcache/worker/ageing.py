"""Periodically removes the nodes of an account that nobody reads."""

import random
import time

from pubsubcache.store import in_thread
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
        """Remove a batch of unread nodes if one is due."""
        if time.monotonic() < self._due:
            return
        self._due = time.monotonic() + INTERVAL
        if forgotten := await in_thread(forget_unread)(self.account_pk):
            logger.info("Removed %d nodes that nobody reads.", forgotten)
            self._due = time.monotonic() + PAUSE
