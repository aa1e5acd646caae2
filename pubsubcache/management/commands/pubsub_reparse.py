"""`manage.py pubsub_reparse`: parses stored items again after a parser changed."""

from typing import Any

from django.core.management.base import CommandParser

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.management.base import PubsubCommand
from pubsubcache.management.network import run
from pubsubcache.management.output import counted, progress_bar
from pubsubcache.models import ReparseRun
from pubsubcache.store import reparsing

FILTERS = ("account", "service", "node", "type")


class Command(PubsubCommand):
    """Parses stored items again. Sends no requests to services, and does not change the times of items."""

    help = "Parse stored items again with the parsers of their nodes' analysers."

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_filters(parser, *FILTERS)
        parser.add_argument(
            "--resume", action="store_true", help="continue the run that was interrupted, with its filters"
        )
        self.add_output(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        work = self._run_of(options)
        nodes = self.filtered_nodes(work.filters)
        try:
            with progress_bar(self.stderr, "Parsing", options) as report:
                outcome = run(lambda: reparsing.reparse(work, nodes, report))
        except (KeyboardInterrupt, SystemExit):
            self.say(options, "Interrupted: pubsub_reparse --resume continues.")
            raise
        for name, number in sorted(outcome.skipped.items()):
            self.say(options, f"Skipped {counted(number, 'node')} with the analyser {name}, which no app registers.")
        self.print_result(
            options,
            {"items": outcome.items, "changed": outcome.changed, "errors": outcome.errors},
            f"{counted(outcome.items, 'item')} parsed: {outcome.changed} changed, {outcome.errors} cannot be parsed.",
        )

    def _run_of(self, options: dict[str, Any]) -> ReparseRun:
        filters = {name: options[name] for name in FILTERS if options[name]}
        before = reparsing.unfinished()
        if options["resume"]:
            if filters:
                raise InvalidRequest("--resume continues with the filters of the interrupted run: omit them.")
            if before is None:
                raise InvalidRequest("No run was interrupted.")
            return reparsing.resume(before)
        self.filtered_nodes(filters)  # raises an error before the run replaces the one before
        if before is not None:
            self.say(options, "The run before this one has not ended; this one starts from the beginning.")
        return reparsing.start(filters)
