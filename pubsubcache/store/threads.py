"""Calls synchronous functions of the store from asynchronous code."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, TypeVar

from asgiref.sync import ThreadSensitiveContext
from channels.db import database_sync_to_async
from django.db import connections

from pubsubcache.utils.cleaning import get_logger

P = ParamSpec("P")
T = TypeVar("T")
logger = get_logger(__name__)


def in_thread(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return a coroutine function that runs `function` in a thread with a working database connection."""
    call: Callable[P, Coroutine[Any, Any, T]] = database_sync_to_async(function)
    return call


@asynccontextmanager
async def own_thread() -> AsyncIterator[None]:
    """Run the store calls of the block, and of the tasks that it starts, in a separate thread.

    Other calls use the thread that the process shares, so they do not wait for those of the block. The tasks must end
    before the block does.
    """
    async with ThreadSensitiveContext():
        try:
            yield
        finally:
            await in_thread(connections.close_all)()


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` until it is complete, even if the caller is cancelled.

    A thread cannot be cancelled. Otherwise the caller could end before the thread commits, and nobody would release
    the lease or claim that it acquired.

    Raises:
        CancelledError: The caller was cancelled. It is raised after `work` is complete.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is None:
        return task.result()
    if not task.cancelled() and (failure := task.exception()) is not None:
        logger.warning("A cancelled store call failed: %s", failure)
    raise cancelled
