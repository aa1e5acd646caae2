"""Statistics for the index page of the admin."""

from typing import Any

from django.db.models import Count, Sum
from django.urls import reverse
from django.utils.translation import gettext as _

from pubsubcache.admin.display import STATE_KINDS, number
from pubsubcache.models import Account, PubsubItem, PubsubNode

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
    found = nodes.order_by().values_list("sync_state").annotate(number=Count("pk"))
    by_state: dict[str | None, int] = dict(found)
    url = "admin:pubsubcache_pubsubnode_changelist"
    states = [
        {
            "kind": STATE_KINDS.get(state, "quiet"),
            "label": label,
            "number": number(by_state[state]),
            "url": reverse(url, query={"state": state or "none"}),
        }
        for state, label in [(None, _("not yet")), *PubsubNode.SyncState.choices]
        if state in by_state
    ]
    failed = nodes.filter(sync_state=PubsubNode.SyncState.ERROR).only("service", "name", "sync_error")
    total = number(sum(by_state.values()))
    return {"total": total, "states": states, "failed": failed.order_by("-sync_state_updated")[:NEWEST]}
