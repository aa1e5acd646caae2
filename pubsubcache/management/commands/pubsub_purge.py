"""`manage.py pubsub_purge`: evicts items from the cache to free space. The nodes stay in sync."""

from typing import Any

from django.core.management.base import CommandParser

from pubsubcache import store
from pubsubcache.lookups.conditions.timepatterns import point_in_time
from pubsubcache.management.base import PubsubCommand, add_noinput
from pubsubcache.management.output import counted, progress_bar


class Command(PubsubCommand):
    """Evicts the items that match all given filters."""

    help = (
        "Remove items from the cache, not from the service. Reads that include removed items go to the service; "
        "pubsub_sync fetches them again."
    )

    def is_read_only(self, options: dict[str, Any]) -> bool:
        """Whether the command only counts items."""
        return bool(options["dry_run"])

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_filters(parser, "account", "service", "node", "type", "subtype")
        for event in ("created", "updated"):
            parser.add_argument(
                f"--{event}-before",
                metavar="TIME",
                help=f'only items {event} in the cache before this time: ISO 8601, or like "6 months ago"',
            )
        parser.add_argument("--dry-run", action="store_true", help="only count the items that would be removed")
        add_noinput(parser)
        self.add_output(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        nodes = self.filtered_nodes(options)
        created, updated = (
            point_in_time(options[name], unsigned=False) if options[name] is not None else None
            for name in ("created_before", "updated_before")
        )
        if options["dry_run"] or options["interactive"]:
            number = store.evictable(nodes, created, updated).count()
        if options["dry_run"]:
            self.print_result(
                options, {"would_remove": number}, f"{counted(number, 'item')} would be removed from the cache."
            )
            return
        if options["interactive"]:
            self.confirm(options, f"Remove {counted(number, 'item')} from the cache?")
        with progress_bar(self.stderr, "Removing", options) as report:
            number = store.evict(nodes, created_before=created, updated_before=updated, report=report)
        self.print_result(options, {"removed": number}, f"{counted(number, 'item')} removed from the cache.")
