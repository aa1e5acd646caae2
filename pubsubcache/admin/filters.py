"""List filters of the admin."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from pubsubcache.models import Account, PubsubItem
from pubsubcache.models.item import IsUnparsed
from pubsubcache.states import Word, word_in_database


class AccountFilter(admin.RelatedFieldListFilter):
    """Filters by the accounts that the user may see."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[Any]:
        return list(Account.objects.visible_to(request.user).values_list("pk", "jid"))


class ValuesFilter(admin.AllValuesFieldListFilter):
    """Filters by the values that occur in rows that the user may see, and labels the empty one."""

    def __init__(
        self, field: Any, request: HttpRequest, params: Any, model: Any, model_admin: Any, field_path: str
    ) -> None:
        super().__init__(field, request, params, model, model_admin, field_path)
        rows = field.model.objects.visible_to(request.user)
        self.lookup_choices = rows.distinct().order_by(field.name).values_list(field.name, flat=True)

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        for choice in super().choices(changelist):
            yield {**choice, "display": choice["display"] or _("(none)")}


class WorkerFilter(admin.SimpleListFilter):
    """Filters accounts by whether a running worker holds them."""

    title = _("worker")
    parameter_name = "worker"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("held by a worker")), ("no", _("no worker"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        free = Account.objects.available_to("").values("pk")
        if self.value() == "no":
            return queryset.filter(pk__in=free)
        return queryset.exclude(pk__in=free) if self.value() == "yes" else queryset


class StateFilter(admin.SimpleListFilter):
    """Filters nodes by the word for their state. Links may also name a sync state, or "none"."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [*Word.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() in Word.values:
            in_words: QuerySet[Any] = queryset.alias(word=word_in_database())
            return in_words.filter(word=self.value())
        if self.value() == "none":
            return queryset.filter(sync_state__isnull=True)
        return queryset.filter(sync_state=self.value()) if self.value() else queryset


class ParseErrorFilter(admin.SimpleListFilter):
    """Filters items by whether their parser failed."""

    title = _("parse error")
    parameter_name = "parse_error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("yes")), ("no", _("no"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[PubsubItem]) -> QuerySet[PubsubItem]:
        if self.value() == "yes":
            return queryset.filter(IsUnparsed("parse_error"))
        return queryset.filter(parse_error="") if self.value() == "no" else queryset
