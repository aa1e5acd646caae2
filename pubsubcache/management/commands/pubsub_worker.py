"""`manage.py pubsub_worker`: the Channels worker that holds the sessions."""

from typing import Any

from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import get_channel_layer
from channels.management.commands import runworker
from channels.routing import get_default_application
from django.core.management.base import CommandError, CommandParser

from pubsubcache.management.base import ExitCodeCommand
from pubsubcache.worker import PubsubWorker


class Command(ExitCodeCommand, runworker.Command):  # type: ignore[misc]
    """Runs until SIGTERM or SIGINT."""

    help = "Hold the sessions of the enabled accounts, and keep their nodes in sync."
    worker_class = PubsubWorker

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the layer from `runworker`; the channels are the worker's own."""
        parser.add_argument("--layer", default=DEFAULT_CHANNEL_LAYER, help="Alias of the channel layer to use.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Work."""
        layer = get_channel_layer(options["layer"])
        if layer is None:
            raise CommandError(f"There is no channel layer {options['layer']!r}.")
        self.worker_class(application=get_default_application(), channel_layer=layer).run()
