"""Actions of staff on nodes: synchronise, purge, set the policy, forget. Callers must check permissions."""

from typing import Any

from django.contrib import messages
from django.contrib.admin import helpers
from django.contrib.admin.actions import delete_selected
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from pubsubcache import store
from pubsubcache.admin.base import MAX_NAMES, bare, log_changes, wake_workers
from pubsubcache.admin.jobs import has_worker, start
from pubsubcache.models import Job, PubsubNode
from pubsubcache.store.jobs import chosen

Nodes = QuerySet[PubsubNode]
BATCH = 500  # nodes whose synchronisation is requested in one transaction
FORM_FIELDS = ("policy", "reconcile_interval", "_save", "_continue")


def sync(model_admin: Any, request: HttpRequest, queryset: Nodes) -> None:
    """Request the synchronisation of nodes, and tell the user when it happens."""
    pks = chosen(queryset)
    waiting = 0
    for begin in range(0, len(pks), BATCH):
        nodes = PubsubNode.objects.filter(pk__in=pks[begin : begin + BATCH])
        log_changes(request, nodes, _("Synchronisation requested."))
        store.request_sync(nodes)
        waiting += nodes.filter(Q(account__enabled=False) | Q(account__leaving=True)).count()
    wake_workers()
    _say_when(model_admin, request, len(pks) - waiting, waiting)


def _say_when(model_admin: Any, request: HttpRequest, number: int, waiting: int) -> None:
    """Tell the user when nodes are synchronised.

    Args:
        model_admin: The admin of nodes.
        request: The request.
        number: The number of nodes of enabled accounts.
        waiting: The number of other nodes.
    """
    if not has_worker():
        text = ngettext(
            "%(count)d node will be synchronised as soon as a worker is running.",
            "%(count)d nodes will be synchronised as soon as a worker is running.",
            number,
        )
    else:
        text = ngettext("%(count)d node will be synchronised now.", "%(count)d nodes will be synchronised now.", number)
    if number or not waiting:
        level = messages.SUCCESS if number and has_worker() else messages.WARNING
        model_admin.message_user(request, text % {"count": number}, level)
    if waiting:
        text = ngettext(
            "%(count)d node will be synchronised when its account is enabled.",
            "%(count)d nodes will be synchronised when their accounts are enabled.",
            waiting,
        )
        model_admin.message_user(request, text % {"count": waiting}, messages.WARNING)


def forget(request: HttpRequest, queryset: Nodes) -> HttpResponse | None:
    """Remove nodes and their items from the cache; workers end their subscriptions.

    Returns:
        A redirect to the page of the job, or None if it is done.
    """
    return start(request, Job.Kind.FORGET, {"nodes": chosen(queryset), "unsubscribe": True})


def delete_many(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
    """Ask for confirmation to delete the selected rows, then delete them.

    Returns:
        The confirmation page, a redirect to the page of the job, or None if it is done.
    """
    if not request.POST.get("post"):
        return delete_selected(model_admin, request, queryset)
    _names, _counts, missing, _protected = model_admin.get_deleted_objects(queryset, request)
    if missing:
        raise PermissionDenied
    model_admin.log_deletions(request, queryset[:MAX_NAMES])
    return model_admin.remove(request, queryset)  # type: ignore[no-any-return]


def set_policy(
    model_admin: Any, request: HttpRequest, queryset: Nodes, policy: PubsubNode.Policy
) -> HttpResponse | None:
    """Set the policy of nodes. If that empties any, ask first.

    Returns:
        The confirmation page, a redirect to the page of the job, or None if it is done.
    """
    nodes = bare(queryset)
    if not _is_confirmed(request) and (question := ask_policy(model_admin, request, nodes, policy)) is not None:
        return question
    return apply_policy(request, nodes, policy)


def apply_policy(request: HttpRequest, nodes: Nodes, policy: str) -> HttpResponse | None:
    """Set the policy of nodes; return a redirect to the page of the job, or None if it is done."""
    return start(request, Job.Kind.POLICY, {"nodes": chosen(nodes), "policy": policy})


def ask_policy(model_admin: Any, request: HttpRequest, nodes: Nodes, policy: str) -> HttpResponse | None:
    """Return a page that asks whether to empty nodes by setting their policy, or None if it empties none."""
    emptied = _emptied_by(nodes, policy)
    count = emptied.count()
    if not count:
        return None
    question = ngettext(
        "Remove %(items)s of %(nodes)d node from the cache, and keep it no longer?",
        "Remove %(items)s of %(nodes)d nodes from the cache, and keep them no longer?",
        count,
    )
    explanation = _("Their subscriptions end, and reads of them go to the services. Nothing is retracted there.")
    return confirmation(
        model_admin,
        request,
        emptied,
        title=_("Policy: %(policy)s") % {"policy": PubsubNode.Policy(policy).label},
        question=question % {"items": items_of(emptied), "nodes": count},
        explanation=explanation,
        button=_("Yes, remove them"),
    )


def _emptied_by(nodes: Nodes, policy: str) -> Nodes:
    """Return the nodes that lose their items if they get a policy."""
    kept = nodes.filter(Q(item_count__gt=0) | Q(evicted_count__gt=0) | Q(subscribed=True))
    if policy == PubsubNode.Policy.ALWAYS:
        return kept.none()
    if policy == PubsubNode.Policy.AUTO:
        kept = kept.exclude(policy=PubsubNode.Policy.AUTO).exclude(to_sync=True).exclude(by_hand=True)
    return kept


def items_of(nodes: Nodes) -> str:
    """Return the number of items that nodes count, in words."""
    number = nodes.order_by().aggregate(sum=Sum("item_count"))["sum"] or 0
    return ngettext("%d item", "%d items", number) % number


def purge(model_admin: Any, request: HttpRequest, queryset: Nodes, back: str = "") -> HttpResponse | None:
    """Evict the items of nodes. Asks first.

    Args:
        model_admin: The admin of nodes.
        request: The request.
        queryset: The nodes.
        back: URL to return to when the user cancels; the current one by default.

    Returns:
        The confirmation page, a redirect to the page of the job, or None if it is done.
    """
    nodes = bare(queryset)
    if _is_confirmed(request):
        return start(request, Job.Kind.PURGE, {"nodes": chosen(nodes)})
    count = nodes.count()
    question = ngettext(
        "Remove %(items)s of %(nodes)d node from the cache?",
        "Remove %(items)s of %(nodes)d nodes from the cache?",
        count,
    )
    return confirmation(
        model_admin,
        request,
        nodes,
        title=_("Purge from the cache"),
        question=question % {"items": items_of(nodes), "nodes": count},
        explanation=_(
            "This does not retract anything: the services keep their items, and answer reads that the cache no longer "
            "can."
        ),
        button=_("Yes, purge"),
        back=back,
    )


def _is_confirmed(request: HttpRequest) -> bool:
    return request.method == "POST" and request.POST.get("confirmed") == "yes"


def confirmation(
    model_admin: Any,
    request: HttpRequest,
    nodes: Nodes,
    *,
    title: str,
    question: str,
    explanation: str,
    button: str,
    back: str = "",
) -> HttpResponse:
    """Return a page that asks before nodes lose something. Its form repeats the request with `confirmed`.

    Args:
        model_admin: The admin.
        request: The request to repeat.
        nodes: The nodes.
        title: The title of the page.
        question: The question, with the counts.
        explanation: What will happen.
        button: The text of the button that confirms.
        back: URL to return to when the user cancels; the current one by default.
    """
    count = nodes.count()
    posted = {
        name: request.POST.getlist(name)
        for name in (helpers.ACTION_CHECKBOX_NAME, "action", "select_across", *FORM_FIELDS)
        if name in request.POST
    }
    context = {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "question": question,
        "explanation": explanation,
        "button": button,
        "nodes": nodes.order_by("pk").only("service", "name")[:MAX_NAMES],
        "more": max(0, count - MAX_NAMES),
        "opts": model_admin.opts,
        "media": model_admin.media,
        "posted": [(name, value) for name, values in posted.items() for value in values],
        "back": back or request.get_full_path(),
    }
    request.current_app = model_admin.admin_site.name
    return TemplateResponse(request, "admin/pubsubcache/confirmation.html", context)
