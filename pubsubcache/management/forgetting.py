"""Removes nodes from the cache, and ends their subscriptions at the services."""

from pubsubcache import store
from pubsubcache.management.network import run, unsubscribe_pending
from pubsubcache.models import Account, PubsubNode, PubsubNodeQuerySet

BATCH = 500


def forget(nodes: PubsubNodeQuerySet, *, unsubscribe: bool) -> int:
    """Remove nodes with their items. With `unsubscribe`, schedule their unsubscription. Return their number."""
    total = 0
    while batch := list(nodes.order_by("pk").values_list("pk", flat=True)[:BATCH]):
        total += store.forget_nodes(PubsubNode.objects.filter(pk__in=batch), unsubscribe=unsubscribe)
    return total


def unsubscribe(account: Account) -> tuple[int, int, str]:
    """End the account's subscriptions that are scheduled to end; return the number ended, the number left, and why."""
    if not account.pending_unsubscriptions.exists():
        return 0, 0, ""
    done, why = run(lambda: unsubscribe_pending(account))
    return done, account.pending_unsubscriptions.count(), why
