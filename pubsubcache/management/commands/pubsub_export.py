"""`manage.py pubsub_export`: writes nodes to a file."""

from typing import Any

from django.core.management.base import CommandParser

from pubsubcache.exchange import FORMATS, export_nodes
from pubsubcache.management.base import PubsubCommand, text
from pubsubcache.management.files import STANDARD, writing
from pubsubcache.management.output import counted, progress_bar


class Command(PubsubCommand):
    """Writes nodes from the database. Sends no requests to services."""

    help = "Write nodes with their items to a file for pubsub_import."
    read_only = True
    formats = FORMATS

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_filters(parser, "account", "service", "node", "type")
        self.add_output(
            parser, default=FORMATS[0], help=f"JSON lines, or XML based on XEP-0227 (default: {FORMATS[0]})"
        )
        parser.add_argument(
            "-o",
            "--output-file",
            type=text,
            default=STANDARD,
            metavar="FILE",
            help="the file to write; an existing file is replaced after everything has been written (default: stdout)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        nodes = self.filtered_nodes(options)
        with (
            writing(options["output_file"], self.stdout) as stream,
            progress_bar(self.stderr, "Exporting", options) as report,
        ):
            totals = export_nodes(nodes, stream, options["output"], report)
        purged = f" and the ids of {counted(totals.evicted, 'purged item')}" if totals.evicted else ""
        self.say(options, f"{counted(totals.nodes, 'node')} with {counted(totals.items, 'item')}{purged} exported.")
