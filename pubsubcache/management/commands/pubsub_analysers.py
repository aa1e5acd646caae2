"""`manage.py pubsub_analysers`: the registry."""

from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Count

from pubsubcache.analysers import registry
from pubsubcache.management.base import PubsubCommand
from pubsubcache.management.output import as_table, counted
from pubsubcache.models import PubsubNode

COLUMNS = ("name", "type", "node", "namespace", "to_sync", "parser", "match_cb", "nodes")


class Command(PubsubCommand):
    """Lists the analysers in the order in which they are asked."""

    help = "List the analysers in order; of several that match a node, the first decides."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the form of the list."""
        self.add_output(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """List them."""
        tallies = PubsubNode.objects.order_by().values_list("analyser").annotate(number=Count("pk"))
        counts: dict[str, int] = dict(tallies)
        rows = [
            {
                "name": analyser.name,
                "type": analyser.type,
                "node": analyser.node,
                "namespace": analyser.namespace,
                "to_sync": analyser.to_sync,
                "parser": _dotted(analyser.parser),
                "match_cb": _dotted(analyser.match_cb),
                "nodes": counts.pop(analyser.name, 0),
            }
            for analyser in registry.all()
        ]
        if options["output"] == "json":
            self.print_json(rows)
        else:
            cells = ([row[column] for column in COLUMNS] for row in rows)
            self.print_data(as_table(COLUMNS, cells, self.stdout, options))
        counts.pop("", None)
        for name, number in sorted(counts.items()):
            self.say(options, f"There are {counted(number, 'node')} of the analyser {name}, which no app registers.")


def _dotted(function: Callable[..., Any] | None) -> str | None:
    if function is None:
        return None
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', type(function).__module__)}.{name}"
