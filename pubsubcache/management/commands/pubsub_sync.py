"""`manage.py pubsub_sync`: synchronises nodes now."""

from itertools import groupby
from typing import Any

from django.core.management.base import CommandError, CommandParser

from pubsubcache import cache
from pubsubcache.exceptions import InvalidRequest
from pubsubcache.management.base import PubsubCommand
from pubsubcache.management.network import asking, run
from pubsubcache.management.output import as_table, counted, plain, progress_bar
from pubsubcache.management.syncing import Failure, sync_address, sync_listed
from pubsubcache.models import PubsubNode
from pubsubcache.store import nodes
from pubsubcache.syncing.full_sync import SyncResult
from pubsubcache.types import NodeAddress
from pubsubcache.utils import jid

COUNTS = ("items", "added", "updated", "removed")
COLUMNS = ("account", "service", "node", *COUNTS, "seconds", "error")


class Command(PubsubCommand):
    """Synchronises nodes in this process, regardless of their policy, and fetches evicted items again."""

    help = "Synchronise a node with its service now. Adds the node to the cache if it is not there yet."

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_target(parser, node_required=False)
        several = parser.add_mutually_exclusive_group()
        several.add_argument("--all", action="store_true", help="all nodes that should be in sync")
        several.add_argument("--stale", action="store_true", help="those of them whose copy is not fresh")
        self.add_output(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Synchronise and print the changes. Exits with the code of the first failure."""
        if options["all"] or options["stale"]:
            self._sync_several(options)
        else:
            self._sync_one(options)

    def _sync_one(self, options: dict[str, Any]) -> None:
        if options["node"] is None:
            raise InvalidRequest("No node is given: use --node, --all or --stale.")
        account = self.account(options["account"])
        service = account.jid if options["service"] is None else jid.normalise(options["service"])
        address = NodeAddress(service, options["node"])
        nodes.check_address(address)

        async def work() -> SyncResult:
            async with asking(account) as asked:
                with progress_bar(self.stderr, address.name, options) as report:
                    return await sync_address(asked, account, address, report)

        result = run(work)
        sentence = f"{counted(result.items, 'item')}: " + ", ".join(
            f"{getattr(result, name)} {name}" for name in COUNTS[1:]
        )
        self.print_result(options, _counts(result), f"{sentence}, in {result.seconds:.1f} s.")

    def _sync_several(self, options: dict[str, Any]) -> None:
        if options["node"] is not None:
            raise InvalidRequest("--node cannot be combined with --all or --stale.")
        chosen = self._chosen(options)
        done = run(lambda: self._sync_chosen(chosen, options))
        rows = [_row(node, outcome) for node, outcome in done]
        if options["output"] == "json":
            self.print_json(rows)
        elif rows:
            cells = ([row[column] for column in COLUMNS] for row in rows)
            self.print_data(as_table(COLUMNS, cells, self.stdout, options))
        else:
            self.say(options, "There is no such node in the cache.")
        if failures := [outcome for _, outcome in done if isinstance(outcome, Failure)]:
            raise CommandError(
                f"{len(failures)} of {len(done)} nodes could not be synchronised.", returncode=failures[0].exit_code
            )

    def _chosen(self, options: dict[str, Any]) -> list[PubsubNode]:
        found = PubsubNode.objects.select_related("account").order_by("account__jid", "service", "name")
        if options["account"] is not None:
            found = found.filter(account=self.account(options["account"]))
        else:
            found = found.filter(account__enabled=True)
        if options["service"] is not None:
            found = found.filter(service=jid.normalise(options["service"]))
        return [
            node
            for node in found
            if nodes.wants_sync(node) and not (options["stale"] and cache.freshness(node) is cache.Freshness.FRESH)
        ]

    async def _sync_chosen(
        self, chosen: list[PubsubNode], options: dict[str, Any]
    ) -> list[tuple[PubsubNode, SyncResult | Failure]]:
        done: list[tuple[PubsubNode, SyncResult | Failure]] = []
        for account, theirs in groupby(chosen, key=lambda node: node.account):
            async with asking(account) as service:
                for node in theirs:
                    place = f"[{len(done) + 1}/{len(chosen)}] {node.service} {node.name}"
                    with progress_bar(self.stderr, place, options) as report:
                        outcome = await sync_listed(service, node.pk, report)
                    self.say(options, f"{place}: {_brief(outcome)}")
                    done.append((node, outcome))
        return done


def _brief(outcome: SyncResult | Failure) -> str:
    return str(outcome) if isinstance(outcome, Failure) else counted(outcome.items, "item")


def _counts(result: SyncResult) -> dict[str, Any]:
    return {**{name: getattr(result, name) for name in COUNTS}, "seconds": round(result.seconds, 3)}


def _row(node: PubsubNode, outcome: SyncResult | Failure) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {"account": node.account.jid, "service": node.service, "node": node.name}
    return row | ({"error": plain(outcome)} if isinstance(outcome, Failure) else _counts(outcome))
