"""Does the jobs that wait, one at a time, beside the sessions of the worker."""

import asyncio
import time
from contextlib import suppress

from pubsubcache.exceptions import JobLost
from pubsubcache.models import Job
from pubsubcache.store import in_thread, jobs, own_thread, uninterrupted
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

POLL_INTERVAL = 5.0  # seconds between two looks for jobs if nobody wakes the worker
PRUNE_INTERVAL = 3600.0  # seconds


class JobRunner:
    """Does jobs until it is cancelled; another worker then continues the present one.

    Args:
        name: The name of the worker.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._due = asyncio.Event()
        self._pruned = -PRUNE_INTERVAL

    def wake(self) -> None:
        """Look for jobs soon."""
        self._due.set()

    async def run(self) -> None:
        """Do the jobs in a thread of their own, so that notifications need not wait for a batch to end."""
        async with own_thread():
            while True:
                self._due.clear()
                if not await self._do_next():
                    await self._prune()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(POLL_INTERVAL):
                            await self._due.wait()

    async def _do_next(self) -> bool:
        """Do the next job; return whether there was one."""
        claimed: list[Job] = []

        def claim() -> None:
            if (job := jobs.claim(self.name)) is not None:
                claimed.append(job)

        try:
            await uninterrupted(in_thread(claim)())
        except asyncio.CancelledError:
            for job in claimed:
                await uninterrupted(in_thread(jobs.release)(job))
            raise
        if not claimed:
            return False
        [job] = claimed
        logger.info("Job %d has started: %s.", job.pk, job.kind)
        try:
            job = await jobs.carry_out(job)
        except JobLost:
            logger.info("Job %d was taken over by another process.", job.pk)
        else:
            logger.info("Job %d has ended: %s.", job.pk, job.state)
        return True

    async def _prune(self) -> None:
        if time.monotonic() - self._pruned < PRUNE_INTERVAL:
            return
        self._pruned = time.monotonic()
        await in_thread(jobs.prune)()


__all__ = ["JobRunner"]
