"""The node of notes that tests synchronise."""

from typing import Any

from pubsubcache.analysers import registry
from pubsubcache.models import Account, PubsubNode
from pubsubcache.store import in_thread
from tests.fakes import ADDRESS

ALICE = "alice@example.org"


@in_thread
def make_node(**fields: Any) -> int:
    """Create the node for alice's account; return its primary key."""
    account, _ = Account.objects.get_or_create(jid=ALICE)
    judgement = {"registry_fingerprint": registry.fingerprint(), "to_sync": True}
    node = PubsubNode.objects.create(
        account=account, service=ADDRESS.service, name=ADDRESS.name, analyser="note", **(judgement | fields)
    )
    return node.pk


@in_thread
def row(pk: int) -> PubsubNode:
    """Return the node as stored now."""
    return PubsubNode.objects.get(pk=pk)
