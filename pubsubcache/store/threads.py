"""Calls of the store from asynchronous code."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from asgiref.sync import ThreadSensitiveContext
from channels.db import database_sync_to_async
from django.db import connections

from pubsubcache.cleaning import get_logger

T = TypeVar("T")
logger = get_logger(__name__)

in_thread = database_sync_to_async


@asynccontextmanager
async def own_thread() -> AsyncIterator[None]:
    """Have the block, and the tasks that it starts, call the store in one thread of their own.

    Calls from elsewhere, which go to the thread that the process shares, then do not wait behind those of the block.
    The tasks are to end before the block.
    """
    async with ThreadSensitiveContext():
        try:
            yield
        finally:
            await in_thread(connections.close_all)()


async def uninterrupted(work: Coroutine[Any, Any, T]) -> T:
    """Await `work` to its end, also when cancelled meanwhile, and only then raise `CancelledError`.

    A thread cannot be cancelled. Without this, the caller would leave while the thread still commits, and what it
    acquired would belong to nobody.
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
        logger.warning("A cancelled call of the store failed: %s", failure)
    raise cancelled
