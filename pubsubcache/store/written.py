"""Writes of what this site itself changed at a service, before the notification of it comes."""

from collections.abc import Sequence

from django.db import transaction

from pubsubcache.models import PubsubNode
from pubsubcache.store.changes import Change, Outcome, apply_changes


@transaction.atomic
def apply_at(node_pk: int, revision: int, changes: Sequence[Change]) -> Outcome | None:
    """Apply what the service answered when the node was at `revision`.

    Returns None, and changes nothing, when notifications changed the node meanwhile: they may be newer.
    """
    node = PubsubNode.objects.select_for_update().only("revision").filter(pk=node_pk).first()
    if node is None or node.revision != revision:
        return None
    return apply_changes(node_pk, changes)
