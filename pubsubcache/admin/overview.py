"""Statistics for the index page of the admin."""

from typing import Any

from django.db.models import Sum
from django.urls import reverse

from pubsubcache.admin.display import number
from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.states import KINDS, counts

NEWEST = 3


def overview(user: Any) -> dict[str, Any]:
    """Return the template context of the overview, limited to what `user` may view."""
    shown: dict[str, Any] = {}
    if user.has_perm("pubsubcache.view_account"):
        shown["accounts"] = _accounts(user)
    if user.has_perm("pubsubcache.view_pubsubnode"):
        shown["nodes"] = _nodes(user)
    if user.has_perm("pubsubcache.view_pubsubitem"):
        # Sum up the counters of nodes, because counting the items may take long.
        items = PubsubNode.objects.visible_to(user).aggregate(sum=Sum("item_count"))["sum"] or 0
        newest = PubsubItem.objects.visible_to(user).select_related("node")
        newest = newest.only("name", "created", "node__service", "node__name")
        shown["items"] = {"total": number(items), "newest": newest.order_by("-pk")[:NEWEST]}
    return shown


def _accounts(user: Any) -> dict[str, Any]:
    enabled = Account.objects.visible_to(user).enabled().defer("password").with_time()
    online = sum(account.is_online() for account in enabled)
    return {"online": online, "enabled": len(enabled), "kind": "good" if online == len(enabled) else "warn"}


def _nodes(user: Any) -> dict[str, Any]:
    nodes = PubsubNode.objects.visible_to(user)
    by_state = counts(nodes)
    url = "admin:pubsubcache_pubsubnode_changelist"
    states = [
        {
            "kind": KINDS[word],
            "label": word.label,
            "number": number(count),
            "url": reverse(url, query={"state": word.value}),
        }
        for word, count in by_state.items()
    ]
    failed = nodes.filter(sync_state=PubsubNode.SyncState.ERROR).only("service", "name", "sync_error")
    total = number(sum(by_state.values()))
    return {"total": total, "states": states, "failed": failed.order_by("-sync_state_updated")[:NEWEST]}
