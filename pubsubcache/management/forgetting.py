"""Removes nodes from the cache, and ends their subscriptions at the services."""

from functools import partial

from pubsubcache.management.network import run, unsubscribe_pending
from pubsubcache.management.output import Report
from pubsubcache.models import Account, PubsubNodeQuerySet
from pubsubcache.store import batches
from pubsubcache.store.nodes import forget_batch


def forget(nodes: PubsubNodeQuerySet, *, unsubscribe: bool, report: Report) -> int:
    """Remove nodes with their items in batches, and return their number.

    Args:
        nodes: The nodes.
        unsubscribe: Whether to schedule the end of their subscriptions.
        report: Called with the number of rows done so far and the total.
    """
    total = 0
    while pks := list(nodes.order_by("pk").values_list("pk", flat=True)):  # again for those that were added meanwhile
        chosen = batches.Selection(pks)
        total += batches.run(partial(forget_batch, nodes=chosen, unsubscribe=unsubscribe), report, chosen.size)["nodes"]
    return total


def unsubscribe(account: Account) -> tuple[int, int, str]:
    """End the account's subscriptions that are scheduled to end; return the number ended, the number left, and why."""
    if not account.pending_unsubscriptions.exists():
        return 0, 0, ""
    done, why = run(lambda: unsubscribe_pending(account))
    return done, account.pending_unsubscriptions.count(), why
