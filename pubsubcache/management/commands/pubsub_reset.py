"""`manage.py pubsub_reset`: removes all nodes from the cache."""

from typing import Any

from django.core.management.base import CommandParser

from pubsubcache.management.base import PubsubCommand, add_noinput
from pubsubcache.management.forgetting import forget, unsubscribe
from pubsubcache.management.output import counted, progress_bar
from pubsubcache.models import Account


class Command(PubsubCommand):
    """Removes nodes with their items from the cache. Later reads fill it again."""

    help = "Remove all nodes and their items from the cache, and end the subscriptions at the services."

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_filters(parser, "account")
        subscriptions = parser.add_mutually_exclusive_group()
        subscriptions.add_argument(
            "--unsubscribe", action="store_true", default=True, help="end the subscriptions (default)"
        )
        subscriptions.add_argument(
            "--keep-subscriptions", action="store_false", dest="unsubscribe", help="do not end the subscriptions"
        )
        add_noinput(parser)
        self.add_output(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        nodes = self.filtered_nodes(options)
        self.confirm(options, f"Remove {counted(nodes.count(), 'node')} with all their items from the cache?")
        accounts = list(Account.objects.filter(nodes__in=nodes).distinct())
        with progress_bar(self.stderr, "Removing", options) as report:
            forgotten = forget(nodes, unsubscribe=options["unsubscribe"], report=report)
        ended, pending = 0, 0
        for account in accounts if options["unsubscribe"] else []:
            done, left, why = unsubscribe(account)
            ended, pending = ended + done, pending + left
            if left:
                self.say(options, f"A worker will end {counted(left, 'subscription')} of {account}. {why}")
        self.print_result(
            options,
            {"forgotten": forgotten, "unsubscribed": ended, "pending": pending},
            f"{counted(forgotten, 'node')} removed from the cache, {counted(ended, 'subscription')} ended.",
        )
