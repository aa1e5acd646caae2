"""`manage.py pubsub_reset`: forget all nodes."""

from typing import Any

from django.core.management.base import CommandParser

from pubsubcache.management.base import PubsubCommand, add_noinput
from pubsubcache.management.forgetting import forget, unsubscribe
from pubsubcache.management.output import counted
from pubsubcache.models import Account


class Command(PubsubCommand):
    """Forgets nodes with their items; later reads fill the cache anew."""

    help = "Forget all nodes and their items, and give up the subscriptions at the services."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take the accounts."""
        self.add_filters(parser, "account")
        subscriptions = parser.add_mutually_exclusive_group()
        subscriptions.add_argument(
            "--unsubscribe", action="store_true", default=True, help="give up the subscriptions (default)"
        )
        subscriptions.add_argument(
            "--keep-subscriptions", action="store_false", dest="unsubscribe", help="leave the subscriptions"
        )
        add_noinput(parser)
        self.add_output(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask, forget, unsubscribe, say how many."""
        nodes = self.filtered_nodes(options)
        self.confirm(options, f"Forget {counted(nodes.count(), 'node')} with all their items?")
        accounts = list(Account.objects.filter(nodes__in=nodes).distinct())
        forgotten = forget(nodes, unsubscribe=options["unsubscribe"])
        ended, pending = 0, 0
        for account in accounts if options["unsubscribe"] else []:
            done, left, why = unsubscribe(account)
            ended, pending = ended + done, pending + left
            if left:
                self.say(options, f"Left for a worker to give up: {counted(left, 'subscription')} of {account}. {why}")
        self.print_result(
            options,
            {"forgotten": forgotten, "unsubscribed": ended, "pending": pending},
            f"{counted(forgotten, 'node')} forgotten, {counted(ended, 'subscription')} given up.",
        )
