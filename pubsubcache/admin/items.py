"""Admin of items, which is read-only."""

from typing import Any, cast
from urllib.parse import quote

from django.contrib import admin, messages
from django.contrib.admin.options import ShowFacets
from django.contrib.admin.views.main import ORDER_VAR, SEARCH_VAR, ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import F, Q, QuerySet
from django.db.models.fields.json import KT
from django.db.models.functions import Left
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pubsubcache.admin import display, paginator, readable, trying
from pubsubcache.admin.base import CacheAdmin
from pubsubcache.admin.filters import AccountFilter, ParseErrorFilter, ValuesFilter
from pubsubcache.admin.paginator import LargeTablePaginator
from pubsubcache.exceptions import InvalidRequest, ParseError, TooLarge
from pubsubcache.models import PubsubItem, PubsubItemQuerySet, PubsubNode
from pubsubcache.utils import xmlform
from pubsubcache.utils.cleaning import one_line

OF_NODE = "node__id__exact"
OF_ANALYSER = "node__analyser"
NOT_LISTED = ("data", "parsed", "text", "node__extra", "node__sync_error")
NOT_LISTED_OF_ACCOUNT = ("node__account__password", "node__account__status_detail")


class ItemChangeList(ChangeList):
    """Defers the payloads, and shows no total that was not counted exactly."""

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[PubsubItem]:
        found: QuerySet[PubsubItem] = super().get_queryset(request, *args, **kwargs)
        title, beginning = Left(KT("parsed__title"), 200), Left("text", 120)
        return found.defer(*NOT_LISTED, *NOT_LISTED_OF_ACCOUNT).annotate(title=title, beginning=beginning)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if self.paginator.about or not self.query:
            self.full_result_count = self.result_count  # hides the total in the search bar


@admin.register(PubsubItem)
class ItemAdmin(CacheAdmin[PubsubItem]):
    """Read-only admin of items. Deleting one would make answers of the cache wrong; nodes can be purged instead."""

    list_display = ("short_id", "heading", "place", "short_publisher", "made", "changed")
    list_filter = (
        ("node__account", AccountFilter),
        ("node__type", ValuesFilter),
        ("node__analyser", ValuesFilter),
        ParseErrorFilter,
    )
    list_select_related = ("node__account",)
    search_fields = ("name",)  # enables the search box; get_search_results implements the search
    search_help_text = gettext_lazy(
        'Searches the content: all words, "a phrase", prefi*, one OR another, -without. If nothing matches, searches '
        "item ids for the text."
    )
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    paginator = LargeTablePaginator
    fieldsets = [
        (None, {
            "fields": (
                "account_link", "service", "node_link", "whole_id", "uri", "whole_publisher", "created", "updated",
                "problem_whole",
            ),
            "description": gettext_lazy(
                "Items cannot be changed or deleted here, because the answers of the cache would then differ from "
                "those of the service. To free space, purge the node."
            ),
        }),
        (gettext_lazy("Parsed JSON"), {"fields": ("json",)}),
        (gettext_lazy("XML"), {"fields": ("xml",)}),
        (gettext_lazy("Words"), {"fields": ("words",), "classes": ("collapse",)}),
    ]  # fmt: skip
    readonly_fields = (
        "account_link", "service", "node_link", "whole_id", "uri", "whole_publisher", "created", "updated",
        "problem_whole", "json", "xml", "words",
    )  # fmt: skip

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Allow the links of the dashboard to the items of an analyser."""
        return lookup == OF_ANALYSER or super().lookup_allowed(lookup, value, request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: PubsubItem | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: PubsubItem | None = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ItemChangeList

    def get_queryset(self, request: HttpRequest) -> QuerySet[PubsubItem]:
        return super().get_queryset(request).select_related("node__account")

    def get_list_display(self, request: HttpRequest) -> Any:
        """Hide columns: the node in the list of one node, and the time of change in search results, to save space."""
        left_out = {"place"} if OF_NODE in request.GET else set()
        if request.GET.get(SEARCH_VAR, "").strip():
            left_out.add("changed")
        return [name for name in self.list_display if name not in left_out]

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Sort newest first, in both cases along an index."""
        return ("-created", "-position") if OF_NODE in request.GET else ("-pk",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[PubsubItem], search_term: str
    ) -> tuple[QuerySet[PubsubItem], bool]:
        """Search the full text, and item ids if nothing matches. Results are ranked unless there are too many."""
        if not search_term.strip():
            return queryset, False
        try:
            found = cast(PubsubItemQuerySet, queryset).full_text(search_term).with_snippets()
        except InvalidRequest as error:
            self.message_user(request, str(error), messages.WARNING)
            return queryset.none(), False
        number = found.order_by().values("pk")[: paginator.CAP + 1].count()
        if not number:
            return queryset.filter(name__icontains=search_term.strip()), False
        if number > paginator.CAP or ORDER_VAR in request.GET:
            return found, False
        return found.order_by(F("rank").desc(), "-pk"), False

    def get_sortable_by(self, request: HttpRequest) -> tuple[str, ...]:
        """Allow sorting for the items of one node only, because the whole table may be too large."""
        return ("short_id", "made", "changed") if OF_NODE in request.GET else ()

    def get_urls(self) -> list[URLPattern]:
        raw = path("<int:pk>/raw/", self.admin_site.admin_view(self.raw_xml), name="pubsubcache_pubsubitem_raw")
        json = path("<int:pk>/json/", self.admin_site.admin_view(self.raw_json), name="pubsubcache_pubsubitem_json")
        return [raw, json, *super().get_urls()]

    def get_fieldsets(self, request: HttpRequest, obj: PubsubItem | None = None) -> Any:
        """Close the JSON and the XML if a template shows the item."""
        fieldsets = super().get_fieldsets(request, obj)
        if obj is None or readable.template_of(obj) is None:
            return fieldsets
        return [(name, {**options, "classes": ("collapse",)} if name else options) for name, options in fieldsets]

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: PubsubItem | None = None,
    ) -> HttpResponse:
        if obj is not None:
            previous, following = neighbours(obj)
            shown = {"subtitle": one_line(obj.name, 200), "readable": readable.readable(obj)}
            if trying.may_try(request.user):
                shown["explain_url"] = trying.url_of(obj.node_id, obj.name)
            context = {**context, **shown, "previous": previous, "next": following}
        return super().render_change_form(request, context, add, change, form_url, obj)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = dict(extra_context or {})
        pk = request.GET.get(OF_NODE, "")
        nodes = PubsubNode.objects.visible_to(request.user).only("service", "name")
        if pk.isdecimal() and (node := nodes.filter(pk=int(pk[:18])).first()):
            context["title"] = _("Items of %(node)s") % {"node": str(node)[:200]}
            context["of_node"] = node
        return super().changelist_view(request, context)

    def empty_note(self, request: HttpRequest) -> str:
        if PubsubItem.objects.visible_to(request.user).exists():
            return ""
        return _(
            "There are no items yet. Items are stored when a node is synchronised, after it was read for the first "
            "time."
        )

    def raw_xml(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Return the stored XML of an item as a download, so that browsers do not render it."""
        item = self._viewable(request, pk)
        return as_download(item.data, "application/xml", f"item-{pk}.xml")

    def raw_json(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Return the parsed data of an item as a download."""
        item = self._viewable(request, pk)
        if item.parsed is None:
            raise Http404("The item is not parsed.")
        return as_download(display.pretty_json(item.parsed), "application/json", f"item-{pk}.json")

    def _viewable(self, request: HttpRequest, pk: int) -> PubsubItem:
        item = get_object_or_404(self.get_queryset(request), pk=pk)
        if not self.has_view_permission(request, item):
            raise PermissionDenied
        return item

    # Columns and fields

    @admin.display(description=gettext_lazy("item id"), ordering="name")
    def short_id(self, item: PubsubItem) -> str:
        """Truncated item id."""
        return display.short(item.name, 40)

    @admin.display(description=gettext_lazy("title"))
    def heading(self, item: PubsubItem) -> str:
        """Title from the parser, or else the beginning of the text; and the snippet of a search."""
        title = getattr(item, "title", None)
        snippet = getattr(item, "snippet", "")
        beginning = display.short("" if snippet else getattr(item, "beginning", ""), 70)
        shown = display.short(title, 70) if title else format_html('<span class="psc-dim">{}</span>', beginning)
        if snippet:
            shown = display.stacked(shown, display.snippet(snippet))
        return display.stacked(shown, self.problem(item)) if item.parse_error else shown

    @admin.display(description=gettext_lazy("node"))
    def node_link(self, item: PubsubItem) -> str:
        """Link to the node."""
        return self._link_to_node(item, 3000)

    def _link_to_node(self, item: PubsubItem, length: int) -> str:
        url = reverse("admin:pubsubcache_pubsubnode_change", args=[item.node_id])
        return format_html('<a href="{}">{}</a>', url, display.short(one_line(item.node.name, 3000), length))

    @admin.display(description=gettext_lazy("node"))
    def place(self, item: PubsubItem) -> str:
        """Link to the node, and its account."""
        return display.stacked(self._link_to_node(item, 50), display.short(item.node.account.jid, 40))

    @admin.display(description=gettext_lazy("account"))
    def account_link(self, item: PubsubItem) -> str:
        """Link to the account."""
        url = reverse("admin:pubsubcache_account_change", args=[item.node.account_id])
        return format_html('<a href="{}">{}</a>', url, item.node.account.jid)

    @admin.display(description=gettext_lazy("service"))
    def service(self, item: PubsubItem) -> str:
        """JID of the service."""
        return item.node.service

    @admin.display(description=gettext_lazy("item id"))
    def whole_id(self, item: PubsubItem) -> str:
        """The whole item id, with visible control characters."""
        return one_line(item.name, 3000)

    @admin.display(description=gettext_lazy("publisher"))
    def whole_publisher(self, item: PubsubItem) -> str:
        """The whole JID of the publisher, with visible control characters."""
        return one_line(item.publisher, 3100) or display.EMPTY

    @admin.display(description=gettext_lazy("publisher"))
    def short_publisher(self, item: PubsubItem) -> str:
        """Truncated JID of the publisher."""
        return display.short(item.publisher, 40)

    @admin.display(description=gettext_lazy("created"), ordering="created")
    def made(self, item: PubsubItem) -> str:
        """When the cache first stored the item."""
        return display.moment(item.created)

    @admin.display(description=gettext_lazy("updated"), ordering="updated")
    def changed(self, item: PubsubItem) -> str:
        """When the cache last changed the item."""
        return display.moment(item.updated)

    def problem(self, item: PubsubItem) -> str:
        """Badge with the parse error as tooltip."""
        return display.badge("bad", _("not parsed"), item.parse_error[:300])

    @admin.display(description=gettext_lazy("parse error"))
    def problem_whole(self, item: PubsubItem) -> str:
        """Full parse error."""
        return display.preformatted(item.parse_error) if item.parse_error else display.EMPTY

    @admin.display(description=gettext_lazy("URI"))
    def uri(self, item: PubsubItem) -> str:
        """XMPP URI of the item (XEP-0060, 12.22)."""
        return f"{item.node.address.uri};item={quote(item.name, safe='')}"

    @admin.display(description=gettext_lazy("JSON"))
    def json(self, item: PubsubItem) -> str:
        """Parsed data as indented JSON."""
        if item.parsed is None:
            return display.EMPTY
        url = reverse("admin:pubsubcache_pubsubitem_json", args=[item.pk])
        download = format_html('<p><a href="{}">{}</a></p>', url, _("Download the JSON"))
        return display.cut(display.pretty_json(item.parsed)) + download

    @admin.display(description=gettext_lazy("item"))
    def xml(self, item: PubsubItem) -> str:
        """The whole item as indented XML."""
        url = reverse("admin:pubsubcache_pubsubitem_raw", args=[item.pk])
        download = format_html('<p><a href="{}">{}</a></p>', url, _("Download the stored XML"))
        return display.cut(readable_xml(item.data)) + download

    @admin.display(description=gettext_lazy("words"))
    def words(self, item: PubsubItem) -> str:
        """Text for full text search."""
        return display.cut(item.text) if item.text else display.EMPTY


def neighbours(item: PubsubItem) -> tuple[int | None, int | None]:
    """Return the primary keys of the previous and the next item of the node, in the order of the service."""
    others = PubsubItem.objects.filter(node=item.node_id)
    # The first condition is a range of the index on node and position; the second only separates equal positions.
    before = others.filter(position__lte=item.position).exclude(Q(position=item.position, pk__gte=item.pk))
    after = others.filter(position__gte=item.position).exclude(Q(position=item.position, pk__lte=item.pk))
    return (
        before.order_by("-position", "-pk").values_list("pk", flat=True).first(),
        after.order_by("position", "pk").values_list("pk", flat=True).first(),
    )


def as_download(text: str, media_type: str, filename: str) -> HttpResponse:
    """Return a response that browsers save instead of showing it."""
    headers = {
        "Content-Disposition": f'attachment; filename="{filename}"',
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }
    return HttpResponse(text, content_type=f"{media_type}; charset=utf-8", headers=headers)


def readable_xml(text: str) -> str:
    """Return indented XML; unchanged if it is too long or cannot be parsed."""
    if len(text) > display.MAX_SHOWN:
        return text
    try:
        return xmlform.indented(text)
    except (ParseError, TooLarge):
        return text
