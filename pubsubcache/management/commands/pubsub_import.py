"""`manage.py pubsub_import`: nodes from a file."""

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
    """Takes in what `pubsub_export` wrote: all of it, or nothing."""

    help = (
        "Take nodes with their items from a file that pubsub_export wrote. They are compared with their services "
        "before the cache vouches for them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the file, and what is to become of what is there."""
        parser.add_argument(
            "file", nargs="?", type=text, default=STANDARD, metavar="FILE", help="the file to read (default: stdin)"
        )
        parser.add_argument(
            "-a", "--account", type=text, metavar="JID", help="the login that all nodes of the file are to belong to"
        )
        parser.add_argument(
            "--replace", action="store_true", help="take nodes that are in the cache already from the file instead"
        )
        self.add_output(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Read it all, then store it all."""
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
