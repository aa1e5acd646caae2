"""Admin of items, which is read-only."""

from datetime import datetime
from typing import Any, cast
from urllib.parse import quote, urlencode

from django.contrib import admin, messages
from django.contrib.admin.options import ShowFacets
from django.contrib.admin.views.main import ERROR_FLAG, ORDER_VAR, PAGE_VAR, SEARCH_VAR, ChangeList
from django.core.exceptions import PermissionDenied
from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import Left
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pubsubcache.admin import display, paginator, readable, trying
from pubsubcache.admin.base import CacheAdmin, CacheChangeList
from pubsubcache.admin.calendar import MEDIA_TYPE as CALENDAR
from pubsubcache.admin.calendar import calendar_of
from pubsubcache.admin.filters import (
    PUBLISHED,
    AccountOfNodeFilter,
    AuthorFilter,
    ParseErrorFilter,
    PublishedFilter,
    TagFilter,
    ValuesFilter,
    have_many_items,
    is_walked,
)
from pubsubcache.admin.paginator import TwoStepPaginator
from pubsubcache.admin.payloads import highlighted, json_tree
from pubsubcache.exceptions import InvalidRequest, ParseError, TooLarge
from pubsubcache.lookups.hotkeys import KeyText
from pubsubcache.models import PubsubItem, PubsubItemQuerySet, PubsubNode
from pubsubcache.models.account import ALL_ACCOUNTS
from pubsubcache.parsers.uris import XmppUri, parse_xmpp
from pubsubcache.utils import xmlform
from pubsubcache.utils.cleaning import label

OF_NODE = "node__id__exact"
OF_ANALYSER = "node__analyser"
ACCOUNT = frozenset({f"{AccountOfNodeFilter.path}__id__exact", "account_jid"})
MAX_COLUMN = 500  # characters of a text that are read for a list
MAX_COMBINED = 1000  # matches of several filters that are counted, because no index has them together
MAX_NODES = 1000  # nodes that a URI can name
MAX_SCANNED = 20_000  # items whose ids are searched for a part
NOT_LISTED = ("data", "parsed", "text", "node__extra", "node__sync_error")
NOT_LISTED_OF_ACCOUNT = ("node__account__password", "node__account__status_detail")


class ItemChangeList(CacheChangeList):
    """Defers the payloads, and shows no total that was not counted exactly."""

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[PubsubItem]:
        found: QuerySet[PubsubItem] = super().get_queryset(request, *args, **kwargs)
        hot = {f"of_{key}": Left(f"parsed_{key}", MAX_COLUMN) for key in ("title", "author", "author_jid", "published")}
        other = {"of_name": KeyText("parsed", key="name", length=MAX_COLUMN), "beginning": Left("text", MAX_COLUMN)}
        return found.defer(*NOT_LISTED, *NOT_LISTED_OF_ACCOUNT).annotate(**hot, **other)

    def get_ordering(self, request: HttpRequest, queryset: QuerySet[PubsubItem]) -> list[Any]:
        """Sort by the date of publication if that is filtered, along its index."""
        if ORDER_VAR not in self.params and not PUBLISHED.isdisjoint(self.params):
            return ["-parsed_published", "-pk"]
        return super().get_ordering(request, queryset)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        if self.paginator.about or not self.query:
            self.full_result_count = self.result_count  # hides the total in the search bar


@admin.register(PubsubItem)
class ItemAdmin(CacheAdmin[PubsubItem]):
    """Read-only admin of items. Deleting one would make answers of the cache wrong; nodes can be purged instead."""

    list_display = ("heading", "author", "published", "place", "made", "changed")
    list_display_links = None
    list_filter = (
        AccountOfNodeFilter,
        ("node__type", ValuesFilter),
        ("node__analyser", ValuesFilter),
        TagFilter,
        AuthorFilter,
        PublishedFilter,
        ParseErrorFilter,
    )
    list_select_related = ("node__account",)
    search_fields = ("name",)  # enables the search box; get_search_results implements the search
    search_help_text = gettext_lazy(
        'Searches the content: all words, "a phrase", prefi*, one OR another, -without. Or an xmpp: URI of an item or '
        "node, or an item id."
    )
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    paginator = TwoStepPaginator
    fieldsets = [
        (None, {
            "fields": (
                "account_link", "service", "node_link", "whole_id", "uri", "whole_publisher", "times", "problem_whole",
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
        "account_link", "service", "node_link", "whole_id", "uri", "whole_publisher", "times", "problem_whole",
        "json", "xml", "words",
    )  # fmt: skip

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: PubsubItem | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: PubsubItem | None = None) -> bool:
        return False

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return ItemChangeList

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Allow the parameter of the filter by account, and the links of the dashboard to the items of an analyser."""
        allowed = (OF_ANALYSER, f"{AccountOfNodeFilter.path}__id__exact")
        return lookup in allowed or super().lookup_allowed(lookup, value, request)

    def get_list_filter(self, request: HttpRequest) -> Any:
        """Leave out the account and the type in the list of one node, which has only one of each."""
        return self.list_filter[2:] if OF_NODE in request.GET else self.list_filter

    def get_queryset(self, request: HttpRequest) -> QuerySet[PubsubItem]:
        return super().get_queryset(request).select_related("node__account")

    def visible(self, request: HttpRequest, rows: QuerySet[PubsubItem]) -> QuerySet[PubsubItem]:
        """Look up whose node each item is if the list follows an index and the user owns many items."""
        if OF_NODE not in request.GET and is_walked(request) and not request.user.has_perm(ALL_ACCOUNTS):
            nodes = PubsubNode.objects.visible_to(request.user)
            # The filter by account looks at the size of the account.
            if not ACCOUNT.isdisjoint(request.GET) or have_many_items(nodes):
                return cast(PubsubItemQuerySet, rows).of_many(nodes)
        return super().visible(request, rows)

    def get_list_display(self, request: HttpRequest) -> Any:
        """Hide the node in the list of one node. Other lists hide the time of change, to save space."""
        left_out = "place" if OF_NODE in request.GET else "changed"
        return [name for name in self.list_display if name != left_out]

    def get_ordering(self, request: HttpRequest) -> tuple[str, ...]:
        """Sort newest first, in both cases along an index."""
        return ("-created", "-position") if OF_NODE in request.GET else ("-pk",)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[PubsubItem], search_term: str
    ) -> tuple[QuerySet[PubsubItem], bool]:
        """Search the full text, or ids if nothing matches. Results are ranked unless there are too many."""
        if not search_term.strip():
            return queryset, False
        if (uri := parse_xmpp(search_term)) is not None:
            nodes = list(nodes_of_uri(request, uri).values_list("pk", flat=True)[:MAX_NODES])
            found = queryset.filter(node__in=nodes)
            return (found if uri.item is None else found.filter(name=uri.item)), False
        try:
            found = cast(PubsubItemQuerySet, queryset).full_text(search_term).with_snippets()
        except InvalidRequest as error:
            self.message_user(request, str(error), messages.WARNING)
            return queryset.none(), False
        number = found.order_by().values("pk")[: paginator.CAP + 1].count()
        if not number:
            return self._with_id(request, queryset, search_term.strip()), False
        request.number_found = number  # type: ignore[attr-defined]
        if number > paginator.CAP or ORDER_VAR in request.GET:
            return found, False
        return found.order_by(F("rank").desc(), "-pk"), False

    def _with_id(self, request: HttpRequest, queryset: QuerySet[PubsubItem], item_id: str) -> QuerySet[PubsubItem]:
        """Return the items with this id; if there are few items, those whose id contains it."""
        nodes = PubsubNode.objects.visible_to(request.user)
        if (pk := _node_pk(request)) is not None:
            nodes = nodes.filter(pk=pk)
        if (nodes.aggregate(sum=Sum("item_count"))["sum"] or 0) <= MAX_SCANNED:
            return queryset.filter(name__icontains=item_id)
        # The only index on ids is that of each node.
        pks = PubsubItem.objects.filter(node__in=nodes.values("pk"), name=item_id).values_list("pk", flat=True)
        return queryset.filter(pk__in=list(pks[: self.list_per_page]))

    def get_paginator(self, request: HttpRequest, *args: Any, **kwargs: Any) -> TwoStepPaginator:
        """Return the paginator, with the number of matches if a search has counted them."""
        filters = request.GET.keys() - {ORDER_VAR, PAGE_VAR, SEARCH_VAR, ERROR_FLAG}
        number_of = len(filters) + (not request.user.has_perm(ALL_ACCOUNTS))
        cap = paginator.CAP if number_of < 2 or SEARCH_VAR in request.GET else min(paginator.CAP, MAX_COMBINED)
        made = TwoStepPaginator(*args, cap=cap, **kwargs)
        if (number := getattr(request, "number_found", None)) is not None:
            made.take_count(number)
        return made

    def get_sortable_by(self, request: HttpRequest) -> tuple[str, ...]:
        """Allow sorting for the items of one node only, because the whole table may be too large."""
        return ("made", "changed") if OF_NODE in request.GET else ()

    def get_urls(self) -> list[URLPattern]:
        raw = path("<int:pk>/raw/", self.admin_site.admin_view(self.raw_xml), name="pubsubcache_pubsubitem_raw")
        json = path("<int:pk>/json/", self.admin_site.admin_view(self.raw_json), name="pubsubcache_pubsubitem_json")
        page = self.admin_site.admin_view(self.calendar)
        return [
            raw,
            json,
            path("<int:pk>/calendar/", page, name="pubsubcache_pubsubitem_calendar"),
            *super().get_urls(),
        ]

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
            is_event = calendar_of(obj) is not None
            shown = {"subtitle": label(obj.name, 200), "readable": readable.readable(obj), "is_event": is_event}
            if trying.may_try(request.user):
                shown["explain_url"] = trying.url_of(obj.node_id, obj.name)
            context = {**context, **shown, "previous": previous, "next": following}
        return super().render_change_form(request, context, add, change, form_url, obj)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        context = dict(extra_context or {})
        if (pk := _node_pk(request)) is not None:
            node = PubsubNode.objects.visible_to(request.user).filter(pk=pk).only("service", "name").first()
            if node is not None:
                context |= {"title": _("Items of %(node)s") % {"node": node}, "of_node": node}
        if query := request.GET.get(SEARCH_VAR, "").strip():
            uri = parse_xmpp(query)
            if uri is not None and uri.node is not None and uri.item is None:
                nodes = nodes_of_uri(request, uri).values_list("pk", flat=True)[:2]
                if len(nodes) == 1:
                    return HttpResponseRedirect(f"{request.path}?{urlencode({OF_NODE: nodes[0]})}")
            context["help"] = help_without_hits(request, query)
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

    def calendar(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Return the event of an item as a calendar file."""
        if (text := calendar_of(self._viewable(request, pk))) is None:
            raise Http404("The item is no event.")
        return as_download(text, CALENDAR, f"item-{pk}.ics")

    def _viewable(self, request: HttpRequest, pk: int) -> PubsubItem:
        item = get_object_or_404(self.get_queryset(request), pk=pk)
        if not self.has_view_permission(request, item):
            raise PermissionDenied
        return item

    # Columns and fields

    @admin.display(description=gettext_lazy("title"))
    def heading(self, item: PubsubItem) -> str:
        """Title with a link to the item, the item id, and the snippet of a search."""
        url = reverse("admin:pubsubcache_pubsubitem_change", args=[item.pk])
        snippet = getattr(item, "snippet", "")
        title = display.short(title_of(item), 80)
        link = format_html('<a href="{}">{}</a>', url, title)
        below: list[str] = [display.snippet(snippet)] if snippet else []
        below.append(display.short(item.name, 60))
        if item.parse_error:
            below.append(self.problem(item))
        return display.stacked(link, format_html_join("", "<div>{}</div>", ((part,) for part in below)))

    @admin.display(description=gettext_lazy("author"))
    def author(self, item: PubsubItem) -> str:
        """Author that the item names, or else its publisher, with a link to the items of that author."""
        name, jid = getattr(item, "of_author", None) or "", getattr(item, "of_author_jid", None) or ""
        if not (name or jid):
            return display.labelled(_("Publisher"), display.short(item.publisher, 40))
        url = reverse("admin:pubsubcache_pubsubitem_changelist", query={"author": jid or name})
        link = format_html('<a href="{}">{}</a>', url, display.short(name or jid, 40))
        return display.labelled(_("Author"), display.stacked(link, display.short(jid, 40)) if name and jid else link)

    @admin.display(description=gettext_lazy("published"))
    def published(self, item: PubsubItem) -> str:
        """When the item was published, as it says itself."""
        return display.labelled(_("Published"), readable.moment(getattr(item, "of_published", None)) or display.EMPTY)

    @admin.display(description=gettext_lazy("node"))
    def node_link(self, item: PubsubItem) -> str:
        """Link to the node."""
        return self._link_to_node(item, 3000)

    def _link_to_node(self, item: PubsubItem, length: int) -> str:
        url = reverse("admin:pubsubcache_pubsubnode_change", args=[item.node_id])
        return format_html('<a href="{}">{}</a>', url, display.short(item.node.name, length))

    @admin.display(description=gettext_lazy("node"))
    def place(self, item: PubsubItem) -> str:
        """Link to the node, and its account."""
        return display.stacked(self._link_to_node(item, 40), display.short(item.node.account.jid, 40))

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
        return label(item.name, 3000)

    @admin.display(description=gettext_lazy("publisher"))
    def whole_publisher(self, item: PubsubItem) -> str:
        """The whole JID of the publisher, with visible control characters."""
        return label(item.publisher, 3100) or display.EMPTY

    @admin.display(description=gettext_lazy("cached"), ordering="created")
    def made(self, item: PubsubItem) -> str:
        """When the cache first stored the item."""
        return display.labelled(_("Cached"), display.moment(item.created))

    @admin.display(description=gettext_lazy("changed"), ordering="updated")
    def changed(self, item: PubsubItem) -> str:
        """When the cache last changed the item."""
        return display.labelled(_("Changed"), display.moment(item.updated))

    @admin.display(description=gettext_lazy("times"))
    def times(self, item: PubsubItem) -> str:
        """What happened to the item, oldest first: at its author, in the cache, and at the last check of its node."""
        parsed = item.parsed if isinstance(item.parsed, dict) else {}
        happened = [
            (_("published, as the item says"), time_of(parsed.get("published"))),
            (_("edited, as the item says"), time_of(parsed.get("updated"))),
            (_("stored in the cache"), item.created),
            (_("changed in the cache"), item.updated),
            (_("node found to agree with the service"), item.node.checked_at),
        ]
        known = sorted((time, text) for text, time in dict(happened).items() if time is not None)
        rows = ((display.moment(time), text) for time, text in known)
        return format_html('<ol class="psc-times">{}</ol>', format_html_join("", "<li>{} {}</li>", rows))

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
        return (json_tree(item.parsed) or display.cut(display.pretty_json(item.parsed))) + download

    @admin.display(description=gettext_lazy("item"))
    def xml(self, item: PubsubItem) -> str:
        """The whole item as indented XML."""
        url = reverse("admin:pubsubcache_pubsubitem_raw", args=[item.pk])
        download = format_html('<p><a href="{}">{}</a></p>', url, _("Download the stored XML"))
        text = readable_xml(item.data)
        return (highlighted(text) or display.cut(text)) + download

    @admin.display(description=gettext_lazy("words"))
    def words(self, item: PubsubItem) -> str:
        """Text for full text search."""
        return display.cut(item.text) if item.text else display.EMPTY


def title_of(item: PubsubItem) -> str:
    """Return the title or name of a listed item, or else the beginning of its text, or else its id."""
    parts = (getattr(item, name, None) for name in ("of_title", "of_name", "beginning"))
    return next((part for part in parts if part and part.strip()), item.name)


def nodes_of_uri(request: HttpRequest, uri: XmppUri) -> QuerySet[PubsubNode]:
    """Return the nodes that an XMPP URI names, or all of the service if it names no node."""
    nodes = PubsubNode.objects.visible_to(request.user).filter(service=uri.service)
    return nodes if uri.node is None else nodes.filter(name=uri.node)


def help_without_hits(request: HttpRequest, query: str) -> dict[str, Any]:
    """Return what a page without hits tells and offers: the query, and other searches by their parameters."""
    others = {name: value for name, value in request.GET.items() if name not in (PAGE_VAR, ORDER_VAR, ERROR_FLAG)}
    word = query.split()[-1].rstrip("*")
    offers = {"prefix": {**others, SEARCH_VAR: f"{query.rstrip('*')}*"}} if word and word[-1].isalnum() else {}
    if " " in query and not set('"()') & set(query) and len(query.split()) <= 20:
        offers["any"] = {**others, SEARCH_VAR: " OR ".join(query.split())}
    if others.keys() - {SEARCH_VAR}:
        offers["everywhere"] = {SEARCH_VAR: query}
    return {
        "query": label(query, 200),
        "is_uri": parse_xmpp(query) is not None,
        "offers": {name: urlencode(parameters) for name, parameters in offers.items()},
    }


def _node_pk(request: HttpRequest) -> int | None:
    """Return the primary key of the node whose items are listed, or None."""
    pk = request.GET.get(OF_NODE, "")
    return int(pk[:18]) if pk.isdecimal() else None


def time_of(text: Any) -> datetime | None:
    """Return a date of parsed data as a time, or None."""
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else None


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
