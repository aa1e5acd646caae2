"""`manage.py pubsub_worker`: runs the worker that holds the sessions."""

from typing import Any

from channels import DEFAULT_CHANNEL_LAYER
from django.core.management.base import CommandError, CommandParser

from pubsubcache.management.base import ExitCodeCommand
from pubsubcache.services.layer import get_channel_layer
from pubsubcache.worker import PubsubWorker


class Command(ExitCodeCommand):
    """Runs until SIGTERM or SIGINT."""

    help = "Hold the sessions of the enabled accounts, and keep their nodes in sync."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--layer", default=DEFAULT_CHANNEL_LAYER, help="the alias of the channel layer to use")

    def handle(self, *args: Any, **options: Any) -> None:
        layer = get_channel_layer(options["layer"])
        if layer is None:
            raise CommandError(f"There is no channel layer {options['layer']!r}.")
        PubsubWorker(channel_layer=layer).run()
