"""`manage.py pubsub_nodes`: lists nodes with their state."""

from typing import Any

from django.core.management.base import CommandParser
from django.db.models import Q

from pubsubcache.management.base import PubsubCommand
from pubsubcache.management.output import as_table, as_time, to_second
from pubsubcache.models import PubsubNode, PubsubNodeQuerySet
from pubsubcache.states import notes_of, state_of, with_state
from pubsubcache.store.reading import left_out_counts

NONE = "none"
COLUMNS = (
    "account",
    "service",
    "node",
    "state",
    "freshness",
    "items",
    "type",
    "policy",
    "subscribed",
    "checked_at",
    "error",
)


class Command(PubsubCommand):
    """Lists nodes from the database. Sends no requests to services."""

    help = "List the nodes in the cache with their state."
    read_only = True

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_filters(parser, "account", "service", "node", "type")
        parser.add_argument(
            "--state",
            action="append",
            default=[],
            type=_state,
            choices=[*PubsubNode.SyncState.values, NONE],
            help='only nodes in this state; "none" for those not yet synchronised; may be repeated',
        )
        self.add_output(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        nodes = _in_states(self.filtered_nodes(options), options["state"])
        left_out = left_out_counts(nodes)
        nodes = with_state(nodes).order_by("account__jid", "service", "name", "pk")
        if options["output"] == "json":
            self.print_json([as_data(node, left_out.get(node.pk, 0)) for node in nodes.iterator()])
        elif rows := [as_data(node) | {"freshness": _in_words(node)} for node in nodes.iterator()]:
            shown = (row | {"checked_at": to_second(row["checked_at"])} for row in rows)
            cells = ([row[column] for column in COLUMNS] for row in shown)
            self.print_data(as_table([column.replace("_at", "") for column in COLUMNS], cells, self.stdout, options))
        else:
            self.say(options, "There is no such node in the cache.")


def _state(value: str) -> str:
    return NONE if value.lower() == NONE else value.upper()


def _in_states(nodes: PubsubNodeQuerySet, states: list[str]) -> PubsubNodeQuerySet:
    if not states:
        return nodes
    wanted = Q(sync_state__in=[state for state in states if state != NONE])
    if NONE in states:
        wanted |= Q(sync_state__isnull=True)
    return nodes.filter(wanted)


def _in_words(node: PubsubNode) -> str:
    return ", ".join(state.label for state in (state_of(node), *notes_of(node)))


def as_data(node: PubsubNode, left_out: int = 0) -> dict[str, Any]:
    """Return the state of a node as JSON data. `left_out` is the number of items that the cache cannot store."""
    return {
        "account": node.account.jid,
        "service": node.service,
        "node": node.name,
        "state": node.sync_state,
        "items": node.item_count,
        "left_out": left_out,
        "type": node.type,
        "subtype": node.subtype,
        "analyser": node.analyser,
        "policy": node.policy,
        "subscribed": node.subscribed,
        "checked_at": as_time(node.checked_at),
        "error": node.sync_error or None,
    }
