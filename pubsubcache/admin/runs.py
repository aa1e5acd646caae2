"""Admin of sync runs: their list, and the section "Last runs" on the pages of nodes and accounts.

Those who may view nodes may view their runs. Nobody may change them.
"""

from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin import ShowFacets
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext

from pubsubcache.admin import display
from pubsubcache.admin.base import CacheAdmin
from pubsubcache.admin.filters import AccountFilter
from pubsubcache.admin.paginator import LargeTablePaginator
from pubsubcache.models import Account, PubsubNode, SyncRun, SyncRunQuerySet

NEWEST = 10  # runs in a section
OF_NODE = "node__id__exact"
OF_ACCOUNT = "account__id__exact"
COLUMNS = (
    "kind", "reason", "outcome", "started", "finished", "added", "updated", "removed", "requests", "error",
    "account__jid", "node__service", "node__name", "node__sync_owner", "node__sync_heartbeat", "node__sync_done",
    "node__sync_total",
)  # fmt: skip
OUTCOME_KINDS: dict[str, str] = {
    SyncRun.Outcome.RUNNING: "busy",
    SyncRun.Outcome.DONE: "good",
    SyncRun.Outcome.FAILED: "bad",
    SyncRun.Outcome.REFUSED: "bad",
    SyncRun.Outcome.ABANDONED: "warn",
}


def may_view_runs(request: HttpRequest) -> bool:
    """Return whether the user may view sync runs: those who may view nodes may."""
    return any(request.user.has_perm(f"pubsubcache.{right}_pubsubnode") for right in ("view", "change"))


def visible_runs(request: HttpRequest) -> SyncRunQuerySet:
    """Return the runs that the user may see, newest first, with what the pages show of them."""
    runs = SyncRun.objects.visible_to(request.user).with_time().select_related("account", "node")
    return runs.only(*COLUMNS).order_by("-pk")


def last_runs(request: HttpRequest, of: Account | PubsubNode) -> dict[str, Any]:
    """Return the template context of the section of an account or node; empty if the user may not view runs."""
    if not may_view_runs(request):
        return {}
    is_node = isinstance(of, PubsubNode)
    runs = visible_runs(request).filter(**{"node" if is_node else "account": of.pk})[:NEWEST]
    lookup = {OF_NODE if is_node else OF_ACCOUNT: of.pk}
    return {
        "runs": [_row(run) for run in runs],
        "runs_url": reverse("admin:pubsubcache_syncrun_changelist", query=lookup),
        "runs_of_node": is_node,
    }


def _row(run: SyncRun) -> dict[str, Any]:
    return {
        "url": reverse("admin:pubsubcache_syncrun_change", args=[run.pk]),
        "started": display.ago(run.started),
        "node": node_link(run),
        "reason": reason(run),
        "outcome": outcome(run),
        "changes": changes(run),
        "duration": duration(run),
        "error": display.short(run.error, 200) if run.error else "",
    }


def node_link(run: SyncRun) -> str:
    """Return the name of the node as a link to its page."""
    url = reverse("admin:pubsubcache_pubsubnode_change", args=[run.node_id])
    return format_html('<a href="{}">{}</a>', url, display.short(run.node.name, 60))


def reason(run: SyncRun) -> str:
    """Return why the run started, and its kind unless it was a full sync."""
    why = run.get_reason_display()
    return why if run.kind == SyncRun.Kind.FULL else display.stacked(why, run.get_kind_display())


def outcome(run: SyncRun) -> str:
    """Return the outcome as a badge, and the progress of a run that has not ended."""
    current = run.current_outcome
    label = SyncRun.Outcome(current).label if current in SyncRun.Outcome.values else current
    shown = display.badge(OUTCOME_KINDS.get(current, "quiet"), str(label))
    if current != SyncRun.Outcome.RUNNING:
        return shown
    total = "?" if run.node.sync_total is None else display.number(run.node.sync_total)
    return display.stacked(shown, f"{display.number(run.node.sync_done)} / {total}")


def changes(run: SyncRun) -> str:
    """Return the numbers of added, changed and removed items."""
    counts = [
        ("+", pgettext("items", "added"), run.added),
        ("~", pgettext("items", "changed"), run.updated),
        ("-", pgettext("items", "removed"), run.removed),
    ]
    shown = " ".join(f"{sign}{display.number(count)}" for sign, _label, count in counts if count)
    if not shown:
        return display.EMPTY
    words = ", ".join(f"{label}: {display.number(count)}" for _sign, label, count in counts)
    return format_html('<span class="psc-number" title="{}">{}</span>', words, shown)


def duration(run: SyncRun) -> str:
    """Return how long the run took."""
    return display.EMPTY if run.duration is None else display.seconds(max(run.duration, timedelta()))


STARTED, FINISHED = (display.moment_of(SyncRun, name) for name in ("started", "finished"))


@admin.register(SyncRun)
class SyncRunAdmin(CacheAdmin[SyncRun]):
    """Read-only admin of sync runs. Those who may view nodes may view their runs."""

    list_display = ("begin", "result", "place", "why", "numbers", "requests", "took")
    list_filter = ("outcome", "reason", "kind", AccountFilter)
    sortable_by = ()  # newest first, along an index
    actions = None
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    paginator = LargeTablePaginator
    fields = (
        "account_jid", "linked_node", "kind", "reason", "result", STARTED, FINISHED, "took", "numbers", "requests",
        "whole_error",
    )  # fmt: skip
    readonly_fields = fields

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: SyncRun | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: SyncRun | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: SyncRun | None = None) -> bool:
        return may_view_runs(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return may_view_runs(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[SyncRun]:
        return visible_runs(request)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        pk = request.GET.get(OF_NODE, "")
        of_node = None
        if pk.isdecimal() and len(pk) < 19:
            of_node = PubsubNode.objects.visible_to(request.user).filter(pk=int(pk)).only("service", "name").first()
        return super().changelist_view(request, {"of_node": of_node, **(extra_context or {})})

    def empty_note(self, request: HttpRequest) -> str:
        if SyncRun.objects.visible_to(request.user).exists():
            return ""
        return _("There are no sync runs yet. Each synchronisation of a node is recorded here.")

    @admin.display(description=gettext_lazy("started"))
    def begin(self, run: SyncRun) -> str:
        """When the run started."""
        return display.ago(run.started)

    @admin.display(description=gettext_lazy("node"))
    def place(self, run: SyncRun) -> str:
        """Node, linked to its page, and the account."""
        return display.stacked(node_link(run), display.short(run.account.jid, 50))

    @admin.display(description=gettext_lazy("reason"))
    def why(self, run: SyncRun) -> str:
        """Why the run started."""
        return reason(run)

    @admin.display(description=gettext_lazy("outcome"))
    def result(self, run: SyncRun) -> str:
        """Outcome, and the truncated error."""
        return display.stacked(outcome(run), display.short(run.error, 120)) if run.error else outcome(run)

    @admin.display(description=gettext_lazy("changes"))
    def numbers(self, run: SyncRun) -> str:
        """Numbers of added, changed and removed items."""
        return changes(run)

    @admin.display(description=gettext_lazy("duration"))
    def took(self, run: SyncRun) -> str:
        """How long the run took."""
        return duration(run)

    @admin.display(description=gettext_lazy("account"))
    def account_jid(self, run: SyncRun) -> str:
        """JID of the account."""
        return run.account.jid

    @admin.display(description=gettext_lazy("node"))
    def linked_node(self, run: SyncRun) -> str:
        """Node, linked to its page, and its service."""
        return display.stacked(node_link(run), display.short(run.node.service, 80))

    @admin.display(description=gettext_lazy("error"))
    def whole_error(self, run: SyncRun) -> str:
        """Why the run failed."""
        return display.preformatted(run.error) if run.error else display.EMPTY
