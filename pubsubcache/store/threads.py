"""Calls of the store from asynchronous code."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from channels.db import database_sync_to_async

from pubsubcache.utils.cleaning import get_logger

P = ParamSpec("P")
T = TypeVar("T")
logger = get_logger(__name__)


def in_thread(function: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
    """Return a coroutine function that runs `function` in a thread, with a database connection that is alive."""
    call: Callable[P, Coroutine[Any, Any, T]] = database_sync_to_async(function)
    return call


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
