"""`manage.py pubsub_reindex`: make the full text index anew."""

from typing import Any

from django.core.management.base import CommandParser
from django.db import DEFAULT_DB_ALIAS

from pubsubcache.lookups.fulltext import schema
from pubsubcache.management.base import PubsubCommand
from pubsubcache.management.output import counted
from pubsubcache.models import PubsubItem


class Command(PubsubCommand):
    """Makes the index in one transaction: searches wait until it is done, and so do writes."""

    help = "Make the full text index anew, as after a change of PostgreSQL's search language."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the output format."""
        self.add_output(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Make it, and say of how many items."""
        schema.rebuild(DEFAULT_DB_ALIAS)
        total = PubsubItem.objects.count()
        self.print_result(options, {"items": total}, f"{counted(total, 'item')} indexed.")
