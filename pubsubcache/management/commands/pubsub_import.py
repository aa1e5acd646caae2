"""`manage.py pubsub_import`: imports nodes from a file."""

from typing import Any

from django.core.management.base import CommandParser

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.exchange import staged
from pubsubcache.management.base import PubsubCommand, text
from pubsubcache.management.files import STANDARD, reading
from pubsubcache.management.output import counted, progress_bar
from pubsubcache.services.remote import wake
from pubsubcache.store.importing import import_records


class Command(PubsubCommand):
    """Imports a file written by `pubsub_export`: all of it, or nothing."""

    help = (
        "Import nodes with their items from a file written by pubsub_export. They are revalidated before the cache "
        "answers reads from them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "file", nargs="?", type=text, default=STANDARD, metavar="FILE", help="the file to read (default: stdin)"
        )
        parser.add_argument(
            "-a", "--account", type=text, metavar="JID", help="import all nodes of the file into this account"
        )
        parser.add_argument("--replace", action="store_true", help="replace nodes that are already in the cache")
        self.add_output(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Read and check the whole file, then store it in one transaction."""
        account = self.account(options["account"]) if options["account"] is not None else None
        if account is not None and account.leaving:
            raise InvalidRequest(f"The account {account} is being removed.")
        with (
            reading(options["file"]) as stream,
            progress_bar(self.stderr, "Importing", options) as report,
            staged(stream, report) as (records, total),
        ):
            done = import_records(
                records, account=account, replace=options["replace"], report=lambda stored: report(stored, total)
            )
        wake()
        self.print_result(
            options,
            {"nodes": done.nodes, "items": done.items, "evicted": done.evicted, "replaced": done.replaced},
            f"{counted(done.nodes, 'node')} with {counted(done.items, 'item')} imported, {done.replaced} replaced.",
        )
