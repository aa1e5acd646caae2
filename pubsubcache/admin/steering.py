"""Actions of staff on nodes: synchronise, purge, set the policy, forget. Callers must check permissions."""

from typing import Any

from django.contrib import messages
from django.contrib.admin import helpers
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from pubsubcache import store
from pubsubcache.admin.base import MAX_NAMES, bare, log_changes, wake_workers
from pubsubcache.models import PubsubNode

Nodes = QuerySet[PubsubNode]


def sync(model_admin: Any, request: HttpRequest, queryset: Nodes) -> None:
    """Request the synchronisation of nodes, and report their number to the user."""
    nodes = bare(queryset)
    log_changes(request, nodes, _("Synchronisation requested."))
    number = store.request_sync(nodes)
    wake_workers()
    text = ngettext("%(count)d node will be synchronised now.", "%(count)d nodes will be synchronised now.", number)
    model_admin.message_user(request, text % {"count": number}, messages.SUCCESS if number else messages.WARNING)


def apply_policy(queryset: Nodes, policy: str) -> int:
    """Set the policy of nodes, and return their number."""
    number = store.set_policy(queryset, policy)
    wake_workers()
    return number


def forget(queryset: Nodes) -> None:
    """Remove nodes and their items from the cache; workers end their subscriptions."""
    store.forget_nodes(bare(queryset), unsubscribe=True)
    wake_workers()


def set_policy(model_admin: Any, request: HttpRequest, queryset: Nodes, policy: PubsubNode.Policy) -> None:
    """Set the policy of nodes, and report their number to the user."""
    nodes = bare(queryset)
    log_changes(request, nodes, _("Policy set: %(policy)s.") % {"policy": policy.label})
    number = apply_policy(nodes, policy.value)
    text = ngettext(
        "The policy of %(count)d node is now: %(policy)s.", "The policy of %(count)d nodes is now: %(policy)s.", number
    )
    model_admin.message_user(request, text % {"count": number, "policy": policy.label})


def purge(model_admin: Any, request: HttpRequest, queryset: Nodes, back: str = "") -> HttpResponse | None:
    """Evict the items of nodes and report their number to the user.

    Args:
        model_admin: The admin of nodes.
        request: The request.
        queryset: The nodes.
        back: URL to return to when the user cancels; the current one by default.

    Returns:
        The confirmation page if the user has not confirmed yet, else None.
    """
    nodes = bare(queryset)
    if request.method != "POST" or request.POST.get("confirmed") != "yes":
        return _confirmation(model_admin, request, nodes, back)
    log_changes(request, nodes, _("Purged from the cache."))
    number = store.evict(nodes=nodes)
    text = ngettext(
        "%(count)d item was removed from the cache.", "%(count)d items were removed from the cache.", number
    )
    model_admin.message_user(request, text % {"count": number})
    return None


def _confirmation(model_admin: Any, request: HttpRequest, nodes: Nodes, back: str) -> HttpResponse:
    items = store.evictable(nodes).count()
    count = nodes.count()
    question = ngettext(
        "Remove %(items)s of %(nodes)d node from the cache?",
        "Remove %(items)s of %(nodes)d nodes from the cache?",
        count,
    )
    context = {
        **model_admin.admin_site.each_context(request),
        "title": _("Purge from the cache"),
        "question": question % {"items": ngettext("%d item", "%d items", items) % items, "nodes": count},
        "nodes": nodes.order_by("service", "name")[:MAX_NAMES],
        "more": max(0, count - MAX_NAMES),
        "opts": model_admin.opts,
        "media": model_admin.media,
        "selected_name": helpers.ACTION_CHECKBOX_NAME,
        "selected": request.POST.getlist(helpers.ACTION_CHECKBOX_NAME),
        "select_across": request.POST.get("select_across", "0"),
        "back": back or request.get_full_path(),
    }
    request.current_app = model_admin.admin_site.name
    return TemplateResponse(request, "admin/pubsubcache/pubsubnode/purge_confirmation.html", context)
