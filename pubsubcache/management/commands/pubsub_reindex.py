"""`manage.py pubsub_reindex`: rebuilds the full text index."""

from typing import Any

from django.core.management.base import CommandParser
from django.db import DEFAULT_DB_ALIAS

from pubsubcache.lookups.fulltext import schema
from pubsubcache.management.base import PubsubCommand
from pubsubcache.management.output import counted
from pubsubcache.models import PubsubItem


class Command(PubsubCommand):
    """Rebuilds the index in one transaction. Searches and writes wait until it is done."""

    help = "Rebuild the full text index, for example after a change of PostgreSQL's search language."

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_output(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        schema.rebuild(DEFAULT_DB_ALIAS)
        total = PubsubItem.objects.count()
        self.print_result(options, {"items": total}, f"{counted(total, 'item')} indexed.")
