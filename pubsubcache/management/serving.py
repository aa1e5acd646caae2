"""Runs the web server and the worker in one event loop. Needs the extra `server`, so import it only to serve."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from pubsubcache import live
from pubsubcache.services.layer import get_channel_layer
from pubsubcache.worker import PubsubWorker


class _Server(uvicorn.Server):
    """A server without signal handlers: the command handles signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(application: Any, listening: socket.socket) -> None:
    """Serve an ASGI application on a listening socket and run a worker, until SIGTERM or SIGINT."""
    worker = PubsubWorker(channel_layer=get_channel_layer())
    config = uvicorn.Config(
        application, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=5, ws="none"
    )
    server = _Server(config)
    pages = live.of_loop()

    def stop() -> None:
        server.should_exit = True
        pages.stop()
        worker.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    work = asyncio.create_task(worker.work())
    web = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        await asyncio.wait({work, web}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop()
        await asyncio.gather(work, web)
