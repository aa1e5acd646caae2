"""Base class and helpers for the admin classes."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.views.main import ChangeList
from django.db.models import Model, QuerySet, Sum
from django.db.models.constants import LOOKUP_SEP
from django.db.transaction import on_commit
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from pubsubcache.models import PubsubItem, PubsubNode
from pubsubcache.services import remote

M = TypeVar("M", bound=Model)
STYLES = "pubsubcache/admin.css"
SECRETS = frozenset({"password"})  # fields of any model that a list can reach
MAX_NAMES = 50  # objects listed on a confirmation page

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin
else:

    class _ModelAdmin(admin.ModelAdmin):
        """Makes `ModelAdmin` subscriptable at runtime too."""

        def __class_getitem__(cls, model: Any) -> Any:
            return cls


class CacheChangeList(ChangeList):
    """Shows list filters closed, unless they are in use."""

    def get_filters(self, request: HttpRequest) -> Any:
        specs, *rest = super().get_filters(request)
        for spec in specs:
            if spec.template == "admin/filter.html":
                spec.template = "admin/pubsubcache/filter.html"
        return specs, *rest


class CacheAdmin(_ModelAdmin[M]):
    """Base admin class that shows the rows of accounts the user may see, with a hint for empty lists.

    Deletions count related objects in the database.
    """

    list_per_page = 50

    class Media:
        css = {"all": [STYLES]}

    def get_queryset(self, request: HttpRequest) -> "QuerySet[M]":
        """Return the rows that the user may see. Every view and action begins with them."""
        return self.visible(request, super().get_queryset(request))

    def visible(self, request: HttpRequest, rows: "QuerySet[M]") -> "QuerySet[M]":
        """Return those of `rows` that the user may see."""
        return rows.visible_to(request.user)  # type: ignore[attr-defined,no-any-return]

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Reject filters on secrets, because their results would reveal them bit by bit."""
        if not SECRETS.isdisjoint(lookup.split(LOOKUP_SEP)):
            return False
        return super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return CacheChangeList

    def empty_note(self, request: HttpRequest) -> str:
        """Return a hint (text or HTML) to show if the table is empty, or ""."""
        return ""

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        title = capfirst(self.opts.verbose_name_plural)
        context = {"title": title, "empty_note": self.empty_note(request), **(extra_context or {})}
        return super().changelist_view(request, context)

    def nodes_of(self, objects: Iterable[M]) -> "QuerySet[PubsubNode]":
        """Return the nodes that are deleted together with `objects`."""
        raise NotImplementedError

    def remove(self, request: HttpRequest, queryset: "QuerySet[M]") -> HttpResponse | None:
        """Delete rows, and tell the user; return a redirect to the page of the job, or None if it is done."""
        raise NotImplementedError

    def delete_model(self, request: HttpRequest, obj: M) -> None:
        self.note_job(request, self.remove(request, self.model._default_manager.filter(pk=obj.pk)))

    def note_job(self, request: HttpRequest, page: HttpResponse | None) -> None:
        """Answer the request with the page of the job that it started, if it did."""
        request.pubsubcache_job = page  # type: ignore[attr-defined]

    def response_change(self, request: HttpRequest, obj: M) -> HttpResponse:
        return getattr(request, "pubsubcache_job", None) or super().response_change(request, obj)

    def response_delete(self, request: HttpRequest, obj_display: str, obj_id: int) -> HttpResponse:
        """Return to the list. `remove` has told the user what was done."""
        page: HttpResponse | None = getattr(request, "pubsubcache_job", None)
        return page or HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))

    def get_deleted_objects(
        self, objs: Any, request: HttpRequest
    ) -> tuple[list[Any], dict[str, int], set[str], list[str]]:
        """Count the objects that a deletion affects. Django would load and list every item."""
        nodes = self.nodes_of(objs)
        counts = {
            str(self.opts.verbose_name_plural): len(objs),
            str(PubsubNode._meta.verbose_name_plural): nodes.count(),
            str(PubsubItem._meta.verbose_name_plural): nodes.aggregate(sum=Sum("item_count"))["sum"] or 0,
        }
        names = [str(one) for one in objs[:MAX_NAMES]]
        if len(objs) > MAX_NAMES:
            names.append(_("and %(count)d more") % {"count": len(objs) - MAX_NAMES})
        missing = {
            str(model._meta.verbose_name) for model in (self.model, PubsubNode) if not self._may_delete(request, model)
        }
        return names, counts, missing, []

    def _may_delete(self, request: HttpRequest, model: type[Model]) -> bool:
        return request.user.has_perm(f"{model._meta.app_label}.delete_{model._meta.model_name}")


def bare(queryset: "QuerySet[M]") -> "QuerySet[M]":
    """Return the same rows without joins, annotations and ordering, as needed for an UPDATE or DELETE."""
    return queryset.model._default_manager.filter(pk__in=queryset.order_by().values("pk"))


def log_changes(request: HttpRequest, objects: "QuerySet[Any] | list[Any]", message: str) -> None:
    """Add `message` to the history of each object, on behalf of the user of the request."""
    LogEntry.objects.log_actions(request.user.pk, objects, CHANGE, message)  # type: ignore[arg-type]


def wake_workers() -> None:
    """Wake the workers after the current transaction is committed."""
    on_commit(remote.wake)
