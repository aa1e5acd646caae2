"""Writes of what this site itself changed at a service, before the notification of it comes."""

from collections.abc import Sequence

from pubsubcache.models import PubsubNode
from pubsubcache.store.changes import Change, Outcome, apply_changes
from pubsubcache.store.leases import fenced


@fenced
def apply_at(node: PubsubNode, changes: Sequence[Change]) -> Outcome | None:
    """Apply what the service answered after `node`, the node's row, was read.

    Returns None, and changes nothing, when notifications or a synchronisation may have brought what is newer.
    """
    as_read = {"revision": node.revision, "next_position": node.next_position, "sync_owner": ""}
    if not PubsubNode.objects.select_for_update().filter(pk=node.pk, **as_read).exists():
        return None
    return apply_changes(node.pk, changes)
