"""`manage.py pubsub_reparse`: parses stored items again after a parser changed."""

from typing import Any

from django.core.management.base import CommandParser

from pubsubcache.management.base import PubsubCommand
from pubsubcache.management.network import run
from pubsubcache.management.output import counted, progress_bar
from pubsubcache.store.reparsing import reparse


class Command(PubsubCommand):
    """Parses stored items again. Sends no requests to services, and does not change the times of items."""

    help = "Parse stored items again with the parsers of their nodes' analysers."

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_filters(parser, "account", "service", "node", "type")
        self.add_output(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        nodes = self.filtered_nodes(options)
        with progress_bar(self.stderr, "Parsing", options) as report:
            outcome = run(lambda: reparse(nodes, report))
        for name, number in sorted(outcome.skipped.items()):
            self.say(options, f"Skipped {counted(number, 'node')} with the analyser {name}, which no app registers.")
        self.print_result(
            options,
            {"items": outcome.items, "changed": outcome.changed, "errors": outcome.errors},
            f"{counted(outcome.items, 'item')} parsed: {outcome.changed} changed, {outcome.errors} cannot be parsed.",
        )
