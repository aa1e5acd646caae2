"""`manage.py pubsub_analysers`: lists the analysers, chooses which of them are synchronised, and explains items."""

from collections.abc import Awaitable, Callable
from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Count

from pubsubcache import explaining, store
from pubsubcache.analysers import registry
from pubsubcache.analysers.base import dotted
from pubsubcache.exceptions import InvalidRequest
from pubsubcache.explaining import Explanation, Subject, explain
from pubsubcache.management.base import PubsubCommand, text
from pubsubcache.management.explaining import as_text, from_file, from_node
from pubsubcache.management.network import run
from pubsubcache.management.output import as_table, counted, progress_bar
from pubsubcache.models import AnalyserChoice, PubsubNode
from pubsubcache.services.remote import wake
from pubsubcache.types import NodeAddress
from pubsubcache.utils import jid

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
    """Stores the given choices, then lists the analysers in the order in which they are tried; or explains an item."""

    help = (
        "List the analysers in order. If several match a node, the first one is used. Optionally choose whether the "
        "nodes of an analyser are synchronised, overriding its own default; a node's own policy takes precedence. "
        "The action explain shows what the analysers make of an item."
    )

    def is_read_only(self, options: dict[str, Any]) -> bool:
        """Whether the command only lists or explains."""
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
        self._add_explain(parser.add_subparsers(dest="action", metavar="ACTION"))

    def _add_explain(self, actions: Any) -> None:
        meaning = "show which analyser matches an item and why, its JSON, and what is left out of it"
        parser = self.add_action(actions, "explain", meaning)
        parser.add_argument(
            "file", nargs="?", type=text, metavar="FILE", help='a file with an <item/>, or "-" for stdin'
        )
        self.add_target(parser, node_required=False)
        parser.add_argument("-i", "--item", type=text, metavar="ID", help="the id of the item (default: the newest)")
        source = parser.add_mutually_exclusive_group()
        source.add_argument("--no-cache", action="store_true", help="read from the service in any case")
        source.add_argument("--cache-only", action="store_true", help="never read from the service")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "explain":
            self._explain(options)
        else:
            self._choose(options)
            self._list(options)

    def _explain(self, options: dict[str, Any]) -> None:
        if any(options[switch] for switch in SWITCHES):
            raise InvalidRequest("explain cannot be combined with a choice.")
        find = self._in_file(options) if options["file"] is not None else self._in_node(options)

        async def work() -> tuple[Subject, Explanation]:
            subject = await find()
            return subject, await explain(subject)

        data = explaining.as_data(*run(work))
        self.print_result(options, data, as_text(data))

    def _in_file(self, options: dict[str, Any]) -> Callable[[], Awaitable[Subject]]:
        if any(options[name] for name in ("account", "item", "no_cache", "cache_only")):
            raise InvalidRequest("FILE cannot be combined with --account, --item, --no-cache or --cache-only.")
        service = jid.normalise(options["service"]) if options["service"] else ""
        subject = from_file(options["file"], NodeAddress(service, options["node"] or ""))

        async def find() -> Subject:
            return subject

        return find

    def _in_node(self, options: dict[str, Any]) -> Callable[[], Awaitable[Subject]]:
        if options["node"] is None:
            raise InvalidRequest("No node is given: use --node, or FILE.")
        account = self.account(options["account"])
        service = account.jid if options["service"] is None else jid.normalise(options["service"])
        source = {name: options[name] for name in ("no_cache", "cache_only")}
        return lambda: from_node(account, NodeAddress(service, options["node"]), options["item"], **source)

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
            with progress_bar(self.stderr, name, options) as report:
                _choice, changed = store.choose_analyser(name, to_sync, report)
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
                "parser": dotted(analyser.parser) or None,
                "match_cb": dotted(analyser.match_cb) or None,
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
