"""`manage.py pubsub_serve`: web and worker in one process, the embedded default."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from channels.layers import get_channel_layer
from channels.routing import get_default_application
from django.core.management.base import CommandError, CommandParser

from pubsubcache.management.base import ExitCodeCommand
from pubsubcache.worker import PubsubWorker, process


class _Server(uvicorn.Server):
    """A server that leaves signals to the command."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Command(ExitCodeCommand):
    """Runs until SIGTERM or SIGINT."""

    help = "Serve the site and hold the sessions, in one process and event loop."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the address."""
        parser.add_argument(
            "--bind", default="127.0.0.1:8000", metavar="HOST:PORT", help="Where to listen (default: %(default)s)."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Listen and work."""
        process.set_up()
        listening = _listen(options["bind"])
        host, port = listening.getsockname()[:2]
        self.stdout.write(f"Serving on http://{host}:{port}/")
        self.stdout.flush()
        with listening:
            asyncio.run(serve(listening))


def _listen(bind: str) -> socket.socket:
    host, colon, port = bind.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise CommandError(f"{bind!r} is not HOST:PORT.")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family, backlog=128)
    except OSError as error:
        reason = str(error.strerror or error).partition(" (while")[0]
        raise CommandError(f"Cannot listen on {bind}: {reason}.") from error


async def serve(listening: socket.socket) -> None:
    """Serve on a listening socket, and hold the sessions, until SIGTERM or SIGINT."""
    application = get_default_application()
    worker = PubsubWorker(application=application, channel_layer=get_channel_layer())
    config = uvicorn.Config(
        application, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=5, ws="none"
    )
    server = _Server(config)

    def stop() -> None:
        server.should_exit = True
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
