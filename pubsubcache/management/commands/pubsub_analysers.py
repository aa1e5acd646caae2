"""`manage.py pubsub_analysers`: lists the analysers, and chooses which of them are synchronised."""

from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Count

from pubsubcache import store
from pubsubcache.analysers import registry
from pubsubcache.exceptions import InvalidRequest
from pubsubcache.management.base import PubsubCommand, text
from pubsubcache.management.output import as_table, counted
from pubsubcache.models import AnalyserChoice, PubsubNode
from pubsubcache.services.remote import wake

COLUMNS = ("name", "type", "node", "namespace", "to_sync", "choice", "parser", "match_cb", "nodes")
SWITCHES: dict[str, tuple[bool | None, str, str]] = {
    "sync": (True, "synchronise all nodes that this analyser matches", "its nodes are synchronised"),
    "no_sync": (
        False,
        "do not cache them: they are emptied, and their subscriptions ended",
        "its nodes are not synchronised",
    ),
    "default": (None, "use the analyser's own default again", "it uses its own default"),
}


class Command(PubsubCommand):
    """Stores the given choices, then lists the analysers in the order in which they are tried."""

    help = (
        "List the analysers in order. If several match a node, the first one is used. Optionally choose whether the "
        "nodes of an analyser are synchronised, overriding its own default; a node's own policy takes precedence."
    )

    def is_read_only(self, options: dict[str, Any]) -> bool:
        """Whether the command only lists."""
        return not any(options[switch] for switch in SWITCHES)

    def add_arguments(self, parser: CommandParser) -> None:
        for switch, (_, meaning, _) in SWITCHES.items():
            parser.add_argument(
                f"--{switch.replace('_', '-')}",
                action="append",
                default=[],
                type=text,
                metavar="NAME",
                help=f"{meaning}; may be repeated",
            )
        self.add_output(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        self._choose(options)
        self._list(options)

    def _choose(self, options: dict[str, Any]) -> None:
        chosen = [(name.strip().lower(), switch) for switch in SWITCHES for name in options[switch]]
        names = [name for name, _ in chosen]
        for name in names:
            if names.count(name) > 1:
                raise InvalidRequest(f"The analyser {name!r} is named more than once.")
            if not _is_known(name):
                known = ", ".join(analyser.name for analyser in registry.all()) or "none"
                raise InvalidRequest(f"There is no analyser {name!r}; registered: {known}.")
        for name, switch in chosen:
            to_sync, _, now = SWITCHES[switch]
            _choice, changed = store.choose_analyser(name, to_sync)
            self.say(options, f"Analyser {name}: {now}; {counted(changed, 'node')} changed.")
        if chosen:
            wake()

    def _list(self, options: dict[str, Any]) -> None:
        choices = store.choices()
        tallies = PubsubNode.objects.order_by().values_list("analyser").annotate(number=Count("pk"))
        counts: dict[str, int] = dict(tallies)
        rows = [
            {
                "name": analyser.name,
                "type": analyser.type,
                "node": analyser.node,
                "namespace": analyser.namespace,
                "to_sync": analyser.to_sync,
                "choice": choices.get(analyser.name),
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
            self.say(options, f"{counted(number, 'node')} with the analyser {name}, which no app registers.")


def _is_known(name: str) -> bool:
    """Whether an app registers the analyser, or nodes or choices refer to it."""
    return bool(name) and (
        registry.get(name) is not None
        or PubsubNode.objects.filter(analyser=name).exists()
        or AnalyserChoice.objects.filter(analyser=name).exists()
    )


def _dotted(function: Callable[..., Any] | None) -> str | None:
    if function is None:
        return None
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', type(function).__module__)}.{name}"
