"""`manage.py pubsub_serve`: runs the web server and the worker in one process."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from channels.routing import get_default_application
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.management.base import CommandError, CommandParser

from pubsubcache.management.base import ExitCodeCommand
from pubsubcache.worker import process


class Command(ExitCodeCommand):
    """Runs until SIGTERM or SIGINT."""

    help = "Serve the site and hold the sessions, in one process and event loop."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--bind",
            default="127.0.0.1:8000",
            metavar="HOST:PORT",
            help="the address to listen on (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        serve = _server()
        has_own = getattr(settings, "ASGI_APPLICATION", None)
        application = get_default_application() if has_own else get_asgi_application()
        process.set_up()
        listening = _listen(options["bind"])
        host, port = listening.getsockname()[:2]
        self.stdout.write(f"Serving on http://{host}:{port}/")
        self.stdout.flush()
        with listening:
            asyncio.run(serve(application, listening))


def _server() -> Callable[..., Any]:
    try:
        from pubsubcache.management.serving import serve
    except ModuleNotFoundError as error:
        if error.name != "uvicorn":
            raise
        raise CommandError("pubsub_serve needs uvicorn: pip install 'pubsubcache[server]'.") from error
    return serve


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
