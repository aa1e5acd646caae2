"""Template tags for the admin."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django import template
from django.contrib.admin.views.main import ChangeList
from django.db.models import Q
from django.template import Context

from pubsubcache import live as live_pages
from pubsubcache.models import PubsubItem

register = template.Library()

DASHBOARD = ("accounts", "nodes", "items", "runs", "jobs")
SINCE = "X-Pubsubcache-Since"
MAX_NEW = 100  # new items to count


@register.inclusion_tag("admin/pubsubcache/dashboard.html", takes_context=True)
def pubsubcache_dashboard(context: Context) -> dict[str, Any]:
    """Render the dashboard, limited to what the current user may view."""
    from pubsubcache.admin import dashboard

    return dashboard.dashboard(context["request"].user)


@register.inclusion_tag("admin/pubsubcache/summary.html", takes_context=True)
def pubsubcache_summary(context: Context) -> dict[str, Any]:
    """Render a summary of the dashboard for the index page, limited to what the current user may view."""
    from pubsubcache.admin import dashboard

    return dashboard.summary(context["request"].user)


@register.inclusion_tag("admin/pubsubcache/live.html", takes_context=True)
def live(context: Context, name: str, shown: Any = None) -> dict[str, Any]:
    """Make a page current whenever a topic changes: its elements with an `id` and the attribute `data-psc-live`.

    Args:
        context: The context of the page.
        name: A topic of `pubsubcache.live`, or "dashboard".
        shown: The objects that the page shows, or one of them, or a primary key; None for all.
    """
    request = context["request"]
    pks: tuple[int, ...] = ()
    if shown is not None:
        chosen: Iterable[Any] = shown if isinstance(shown, Iterable) else [shown]
        pks = tuple(getattr(one, "pk", one) for one in chosen)[: live_pages.MAX_OBJECTS]
    is_live = request.method == "GET" and (shown is None or pks)
    names = DASHBOARD if name == "dashboard" else (name,)
    topics = [live_pages.Topic(one, pks) for one in names if is_live and live_pages.may_view(request.user, one)]
    return {"topics": " ".join(map(str, topics)), "request": request}


@register.inclusion_tag("admin/pubsubcache/new_items.html", takes_context=True)
def new_items(context: Context, changes: ChangeList) -> dict[str, Any]:
    """Render a link to the items that are new since the page was opened, on the first page of a list without a search.

    The script of live pages sends what `since` was when the page was opened.
    """
    request = context["request"]
    if changes.query or changes.page_num != 1 or request.method != "GET":
        return {}
    node = context.get("of_node")
    since = request.headers.get(SINCE, "")
    newer, newest = _newer_in(node.pk, since) if node else _newer(since, changes)
    number = 0 if newer is None else changes.queryset.order_by().filter(newer).values("pk")[: MAX_NEW + 1].count()
    return {
        "since": newest,
        "number": min(number, MAX_NEW),
        "more": number > MAX_NEW,
        "url": request.get_full_path(),
    }


def _newer_in(pk: int, since: str) -> tuple[Q | None, str]:
    """Return the condition of items newer than `since`, and what `since` is now, for the items of a node."""
    try:
        newer = Q(created__gt=datetime.fromisoformat(since)) if since else None
    except ValueError:
        newer = None
    found = PubsubItem.objects.filter(node=pk).order_by("-created", "-position").values_list("created", flat=True)
    newest = found.first()
    return newer, (newest or datetime.min.replace(tzinfo=UTC)).isoformat()


def _newer(since: str, changes: ChangeList) -> tuple[Q | None, str]:
    """Return the same for the list of all items, whose newest stand first."""
    newer = Q(pk__gt=int(since)) if since.isdecimal() and len(since) < 19 else None
    return newer, str(max((item.pk for item in changes.result_list), default=0))


@register.filter
def is_chosen(choices: list[dict[str, Any]]) -> bool:
    """Return whether a choice of a list filter other than the first, which stands for no filter, is selected."""
    return any(choice["selected"] for choice in choices[1:])
