"""Writes changes that the service has confirmed in an answer, before their notification arrives."""

from collections.abc import Sequence

from pubsubcache.models import PubsubNode
from pubsubcache.store.changes import Change, Outcome, apply_changes
from pubsubcache.store.leases import fenced


@fenced
def apply_answer(node: PubsubNode, changes: Sequence[Change]) -> Outcome | None:
    """Apply changes from an answer of the service, unless the cache may already be newer.

    Args:
        node: The row of the node, read before the service was asked.
        changes: The changes, in order.

    Returns:
        The outcome. None, without any change, if notifications or a sync may have changed the node since it was read.
    """
    unchanged = {"revision": node.revision, "next_position": node.next_position, "sync_owner": ""}
    if not PubsubNode.objects.for_update().filter(pk=node.pk, **unchanged).exists():
        return None
    return apply_changes(node.pk, changes)
