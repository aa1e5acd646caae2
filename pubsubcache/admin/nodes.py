"""Admin of nodes: their state, and actions to synchronise, purge and configure them."""

from collections.abc import Iterable
from functools import partial
from typing import Any, cast

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import DurationField, QuerySet
from django.db.transaction import non_atomic_requests
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from pubsubcache.admin import display, services, steering, trying
from pubsubcache.admin.base import CacheAdmin, wake_workers
from pubsubcache.admin.durations import UnitDurationField, in_words
from pubsubcache.admin.filters import AccountFilter, StateFilter, ValuesFilter
from pubsubcache.admin.live import live_view
from pubsubcache.admin.paginator import LargeTablePaginator
from pubsubcache.admin.runs import last_runs
from pubsubcache.models import Account, PubsubNode, PubsubNodeQuerySet
from pubsubcache.parsers.uris import parse_xmpp
from pubsubcache.states import notes_of, state_of, with_state
from pubsubcache.store.extra import extra_of
from pubsubcache.store.reading import left_out
from pubsubcache.utils.cleaning import label

MOMENTS = {
    name: display.moment_of(PubsubNode, name)
    for name in (
        "sync_state_updated", "checked_at", "compared_at", "sync_requested", "next_attempt", "sync_heartbeat",
        "last_read",
    )
}  # fmt: skip
SHOWN = {
    None: ("account", "service", "whole_name", "uri", "content"),
    gettext_lazy("Synchronisation"): (
        "policy", "reconcile_interval", "state", "reason", "sync_state_updated", "checked_at", "compared_at",
        "subscribed", "sync_requested", "failures", "next_attempt", "sync_owner", "sync_heartbeat",
    ),
    gettext_lazy("Keeping"): ("left_out", "purged", "partial", "last_read", "pinned"),
    gettext_lazy("Kind"): ("analyser", "type", "subtype", "access_model", "extra_data"),
}  # fmt: skip

LEFT_OUT_SHOWN = 20
MAX_NAME = 3000  # characters of a name
EDITABLE = ("policy", "reconcile_interval")
POLICY_WORDS: dict[str, Any] = {
    PubsubNode.Policy.ALWAYS: gettext_lazy("always"),
    PubsubNode.Policy.NEVER: gettext_lazy("never"),
}


@admin.register(PubsubNode)
class NodeAdmin(CacheAdmin[PubsubNode]):
    """Admin of nodes. Only the policy and the interval can be changed. Nodes are added when they are first read."""

    list_display = ("short_name", "place", "state_and_reason", "kind", "content", "checked")
    list_filter = (
        AccountFilter,
        StateFilter,
        ("type", ValuesFilter),
        ("subtype", ValuesFilter),
        ("analyser", ValuesFilter),
        "policy",
        "subscribed",
        "partial",
        "checked_at",
    )
    paginator = LargeTablePaginator
    search_fields = ("name", "service")
    search_help_text = gettext_lazy("Searches the names of nodes and services. Or an xmpp: URI.")
    actions = ("sync", "purge", "policy_auto", "policy_always", "policy_never", "delete_selected")
    formfield_overrides = {DurationField: {"form_class": UnitDurationField}}
    fieldsets = [(title, {"fields": [MOMENTS.get(name, name) for name in names]}) for title, names in SHOWN.items()]
    readonly_fields = [
        *(MOMENTS.get(name, name) for names in SHOWN.values() for name in names if name not in EDITABLE),
        "interval",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[PubsubNode]:
        return with_state(cast(PubsubNodeQuerySet, super().get_queryset(request)))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[PubsubNode], search_term: str
    ) -> tuple[QuerySet[PubsubNode], bool]:
        """Search names and services; an XMPP URI finds its node, or the nodes of its service."""
        if (uri := parse_xmpp(search_term)) is None:
            return super().get_search_results(request, queryset, search_term)
        found = queryset.filter(service=uri.service)
        return (found if uri.node is None else found.filter(name=uri.node)), False

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            # It waits for a service.
            path("add/", non_atomic_requests(wrap(self.add_view)), name="pubsubcache_pubsubnode_add"),
            path("live/", partial(live_view, site=self.admin_site), name="pubsubcache_live"),
            path("<int:pk>/sync/", wrap(self.sync_page), name="pubsubcache_pubsubnode_sync"),
            path("<int:pk>/purge/", wrap(self.purge_page), name="pubsubcache_pubsubnode_purge"),
            *super().get_urls(),
        ]

    def has_sync_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may request synchronisations."""
        return request.user.has_perm("pubsubcache.sync_pubsubnode")

    def has_purge_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may evict items from the cache."""
        return request.user.has_perm("pubsubcache.purge_pubsubnode")

    def save_model(self, request: HttpRequest, obj: PubsubNode, form: Any, change: bool) -> None:
        """Save editable fields only, because a worker updates the other fields concurrently."""
        if "reconcile_interval" in form.changed_data:
            obj.save(update_fields=["reconcile_interval"])
            wake_workers()
        if "policy" in form.changed_data:
            self.note_job(request, steering.apply_policy(request, PubsubNode.objects.filter(pk=obj.pk), obj.policy))

    def add_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Add a node by its address."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        return services.add_view(request, self)

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        if (question := self._policy_question(request, object_id)) is not None:
            return question
        kwargs["extra_context"] = {
            **(kwargs.get("extra_context") or {}),
            "may_explain": trying.may_try(request.user),
            "may_sync": self.has_sync_permission(request),
            "may_purge": self.has_purge_permission(request),
            "show_save_and_add_another": False,
        }
        return super().change_view(request, object_id, *args, **kwargs)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if (node := kwargs.get("obj")) is not None:
            context |= last_runs(request, node)
        return super().render_change_form(request, context, *args, **kwargs)

    def _policy_question(self, request: HttpRequest, object_id: str) -> HttpResponse | None:
        """Return the page that asks before the posted form empties the node, or None."""
        policy = request.POST.get("policy")
        if request.method != "POST" or "confirmed" in request.POST or policy not in PubsubNode.Policy.values:
            return None
        node = self.get_object(request, object_id)
        if node is None or node.policy == policy or not self.has_change_permission(request, node):
            return None
        return steering.ask_policy(self, request, PubsubNode.objects.filter(pk=node.pk), policy)

    def get_fieldsets(self, request: HttpRequest, obj: PubsubNode | None = None) -> Any:
        """Show the interval with units to users who cannot change it."""
        if self.has_change_permission(request, obj):
            return super().get_fieldsets(request, obj)
        shown = {"reconcile_interval": "interval"}
        return [(title, {"fields": [shown.get(name, name) for name in fields]}) for title, fields in SHOWN.items()]

    def nodes_of(self, objects: Iterable[PubsubNode]) -> QuerySet[PubsubNode]:
        return PubsubNode.objects.filter(pk__in=[node.pk for node in objects])

    def empty_note(self, request: HttpRequest) -> str:
        if PubsubNode.objects.visible_to(request.user).exists():
            return ""
        if not Account.objects.visible_to(request.user).exists():
            url = reverse("admin:pubsubcache_account_changelist")
            text = _("There are no nodes yet, because there are no accounts. Add one under {}, then start the worker.")
            return format_html(text, format_html('<a href="{}">{}</a>', url, _("Accounts")))
        return _(
            "There are no nodes yet. A node is added when it is first read, for example with manage.py pubsub_get."
        )

    def remove(self, request: HttpRequest, queryset: QuerySet[PubsubNode]) -> HttpResponse | None:
        return steering.forget(request, queryset)

    # Pages of one node

    def _visible(self, request: HttpRequest, pk: int, permitted: bool) -> PubsubNode:
        node = self.get_object(request, str(pk))
        if not permitted or not self.has_view_or_change_permission(request, node):
            raise PermissionDenied
        return node  # type: ignore[return-value]

    def sync_page(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Request the synchronisation of one node (POST)."""
        node = self._visible(request, pk, self.has_sync_permission(request))
        if node is None:
            return self._gone(request, pk)
        if request.method == "POST":
            steering.sync(self, request, PubsubNode.objects.filter(pk=pk))
        return HttpResponseRedirect(reverse("admin:pubsubcache_pubsubnode_change", args=[pk]))

    def purge_page(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask for confirmation to purge one node, and purge it (POST)."""
        node = self._visible(request, pk, self.has_purge_permission(request))
        if node is None:
            return self._gone(request, pk)
        page = reverse("admin:pubsubcache_pubsubnode_change", args=[pk])
        question = steering.purge(self, request, PubsubNode.objects.filter(pk=pk), back=page)
        return question or HttpResponseRedirect(page)

    def _gone(self, request: HttpRequest, pk: int) -> HttpResponse:
        return self._get_obj_does_not_exist_redirect(request, self.opts, str(pk))  # type: ignore[no-any-return,attr-defined]

    # Actions

    @admin.action(permissions=["sync"], description=gettext_lazy("Synchronise now"))
    def sync(self, request: HttpRequest, queryset: QuerySet[PubsubNode]) -> None:
        """Request the synchronisation of nodes."""
        steering.sync(self, request, queryset)

    @admin.action(permissions=["purge"], description=gettext_lazy("Purge from the cache"))
    def purge(self, request: HttpRequest, queryset: QuerySet[PubsubNode]) -> HttpResponse | None:
        """Evict the items of nodes from the cache."""
        return steering.purge(self, request, queryset)

    @admin.action(permissions=["change"], description=gettext_lazy("Policy: as the analysers decide"))
    def policy_auto(self, request: HttpRequest, queryset: QuerySet[PubsubNode]) -> HttpResponse | None:
        """Let analysers decide whether to keep the nodes in sync."""
        return steering.set_policy(self, request, queryset, PubsubNode.Policy.AUTO)

    @admin.action(permissions=["change"], description=gettext_lazy("Policy: always synchronise"))
    def policy_always(self, request: HttpRequest, queryset: QuerySet[PubsubNode]) -> HttpResponse | None:
        """Keep the nodes in sync regardless of analysers."""
        return steering.set_policy(self, request, queryset, PubsubNode.Policy.ALWAYS)

    @admin.action(permissions=["change"], description=gettext_lazy("Policy: never synchronise"))
    def policy_never(self, request: HttpRequest, queryset: QuerySet[PubsubNode]) -> HttpResponse | None:
        """Never cache the nodes."""
        return steering.set_policy(self, request, queryset, PubsubNode.Policy.NEVER)

    @admin.action(permissions=["delete"], description=gettext_lazy("Forget selected nodes"))
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[PubsubNode]) -> HttpResponse | None:
        """Delete nodes and their items from the cache. They return when they are read again."""
        return steering.delete_many(self, request, queryset)

    # Columns and fields

    @admin.display(description=gettext_lazy("node"), ordering="name")
    def short_name(self, node: PubsubNode) -> str:
        """Truncated name of the node."""
        return display.short(node.name, 70)

    @admin.display(description=gettext_lazy("service"), ordering="service")
    def place(self, node: PubsubNode) -> str:
        """JID of the service, and the account."""
        return display.stacked(display.short(node.service, 50), display.short(node.account.jid, 50))

    @admin.display(description=gettext_lazy("state"))
    def state(self, node: PubsubNode) -> str:
        """State and progress, each badge with its explanation."""
        state = state_of(node)
        shown = [(state, display.progress(node, state) or state.explanation)]
        shown += [(note, note.explanation) for note in notes_of(node)]
        lines = ((display.badge(one.kind, one.label), text) for one, text in shown)
        return format_html_join("", '<div class="psc-state">{} <span>{}</span></div>', lines)

    @admin.display(description=gettext_lazy("state"), ordering="sync_state")
    def state_and_reason(self, node: PubsubNode) -> str:
        """State, policy, and the truncated reason unless all is well."""
        state = state_of(node)
        badges = display.state_badges([state, *notes_of(node)])
        if node.policy != PubsubNode.Policy.AUTO:
            policy = _("policy: %(policy)s") % {"policy": POLICY_WORDS.get(node.policy, node.policy)}
            badges = format_html("{} {}", badges, display.badge("quiet", policy, node.get_policy_display()))
        if progress := display.progress(node, state):
            return badges + progress
        has_reason = state.kind != "good" and state.explanation
        return display.stacked(badges, display.short(state.explanation, 80)) if has_reason else badges

    @admin.display(description=gettext_lazy("reason"))
    def reason(self, node: PubsubNode) -> str:
        """Full reason for the sync state."""
        return display.preformatted(node.sync_error) if node.sync_error else display.EMPTY

    @admin.display(description=gettext_lazy("type"), ordering="type")
    def kind(self, node: PubsubNode) -> str:
        """Type and subtype, and the analyser that set them."""
        if not (kind := " / ".join(filter(None, (node.type, node.subtype)))):
            return display.labelled(_("Type"), display.EMPTY)
        return display.labelled(_("Type"), display.stacked(display.short(kind), node.analyser))

    @admin.display(description=gettext_lazy("items"), ordering="item_count")
    def content(self, node: PubsubNode) -> str:
        """Number of items, linked to their list."""
        url = reverse("admin:pubsubcache_pubsubitem_changelist", query={"node__id__exact": node.pk})
        partial = display.badge("warn", _("partial"), _("Only the newest items are stored.")) if node.partial else ""
        number = display.number(node.item_count)
        link = format_html('<a class="psc-number" href="{}">{}</a> {}', url, number, partial)
        return display.labelled(_("Items"), link)

    @admin.display(description=gettext_lazy("checked"), ordering="checked_at")
    def checked(self, node: PubsubNode) -> str:
        """When the node was last known to equal that of the service, and whether the account is subscribed."""
        subscribed = _("subscribed") if node.subscribed else _("not subscribed")
        return display.labelled(_("Checked"), display.stacked(display.ago(node.checked_at), subscribed))

    @admin.display(description=gettext_lazy("name"))
    def whole_name(self, node: PubsubNode) -> str:
        """The whole name of the node, with visible control characters."""
        return label(node.name, MAX_NAME)

    @admin.display(description=gettext_lazy("URI"))
    def uri(self, node: PubsubNode) -> str:
        """XMPP URI of the node."""
        return node.address.uri

    @admin.display(description=gettext_lazy("items left out"))
    def left_out(self, node: PubsubNode) -> str:
        """Number of items that cannot be stored, with ids and reasons of the first."""
        first, count = left_out(node, LEFT_OUT_SHOWN)
        if not count:
            return display.EMPTY
        lines = format_html_join(
            "", "<li>{}: {}</li>", ((display.short(item_id, 80), reason[:300]) for item_id, reason in first)
        )
        total = ngettext("%(count)s item left out", "%(count)s items left out", count) % {
            "count": display.number(count)
        }
        return format_html("<div>{}</div><ul>{}</ul>", total, lines)

    @admin.display(description=gettext_lazy("evicted items"))
    def purged(self, node: PubsubNode) -> str:
        """Number of evicted items, for which reads ask the service."""
        return display.number(node.evicted_count - left_out(node, 0)[1])

    @admin.display(description=gettext_lazy("revalidate every"))
    def interval(self, node: PubsubNode) -> str:
        """The interval with units, for users who cannot change it."""
        return in_words(node.reconcile_interval) if node.reconcile_interval else display.EMPTY

    @admin.display(description=gettext_lazy("extra"))
    def extra_data(self, node: PubsubNode) -> str:
        """Additional data as JSON."""
        return display.preformatted(display.pretty_json(extra)) if (extra := extra_of(node)) else display.EMPTY
