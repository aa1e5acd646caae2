"""List filters of the admin. A filter without a choice to make is not shown; one that is in use stands open."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple, cast

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ERROR_FLAG, PAGE_VAR, ChangeList
from django.db.models import QuerySet, Sum
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from pubsubcache.models import Account, PubsubItem, PubsubItemQuerySet, PubsubNode
from pubsubcache.models.item import IsUnparsed
from pubsubcache.states import Word, word_in_database
from pubsubcache.utils.cleaning import label

MAX_CHOICES = 20  # accounts that are listed; if there are more, a form asks for the JID
MAX_LABEL = 60  # characters of a choice
MAX_INPUT = 3100
MANY_ITEMS = 50_000
PUBLISHED = frozenset({"published_from", "published_to"})


class ValuesFilter(admin.AllValuesFieldListFilter):
    """Filters by the values that occur in rows that the user may see, and labels the empty one."""

    def __init__(
        self, field: Any, request: HttpRequest, params: Any, model: Any, model_admin: Any, field_path: str
    ) -> None:
        super().__init__(field, request, params, model, model_admin, field_path)
        rows = field.model.objects.visible_to(request.user)
        self.lookup_choices = rows.distinct().order_by(field.name).values_list(field.name, flat=True)

    def has_output(self) -> bool:
        return len(self.lookup_choices) > 1 or bool(self.used_parameters)

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        for choice in super().choices(changelist):
            yield {**choice, "display": label(choice["display"] or _("(none)"), MAX_LABEL)}


class Input(NamedTuple):
    """An input of a form.

    Attributes:
        name: The parameter of the URL.
        label: What it is for.
        value: The value in use, or "".
        type: The type of the `<input>`.
    """

    name: str
    label: Any
    value: str
    type: str = "text"


class InputFilter(admin.ListFilter):
    """Filters by what users enter in a form. Subclasses define the inputs and the query."""

    template = "admin/pubsubcache/input_filter.html"
    inputs: tuple[Input, ...]  # with empty values

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self.parameters:
            if name in params and (value := params.pop(name)[-1].replace("\0", "").strip()[:MAX_INPUT]):
                self.used_parameters[name] = value

    @property
    def parameters(self) -> list[str]:
        """The parameters of the URL."""
        return [one.name for one in self.inputs]

    def expected_parameters(self) -> list[str | None]:
        return [*self.parameters]

    def has_output(self) -> bool:
        return True

    def value(self, name: str) -> str:
        """Return the value of an input, or ""."""
        return str(self.used_parameters.get(name, ""))

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """Yield what the form needs: its inputs, the other parameters of the list, and a link without this filter."""
        ignored = {*self.parameters, PAGE_VAR, ERROR_FLAG}
        yield {
            "selected": bool(self.used_parameters),
            "inputs": [one._replace(value=self.value(one.name)) for one in self.inputs],
            "others": [(name, value) for name, value in changelist.params.items() if name not in ignored],
            "query_string": changelist.get_query_string(remove=self.parameters),
        }

    def filtered(self, queryset: Any) -> Any:
        """Return the rows that match; called only if the filter is in use."""
        raise NotImplementedError

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return cast("QuerySet[Any]", self.filtered(queryset)) if self.used_parameters else queryset


class AccountFilter(InputFilter):
    """Filters by an account that the user may see: by links, or by a form if there are too many."""

    title = _("account")
    template = "admin/pubsubcache/account_filter.html"
    inputs = (Input("account_jid", _("JID"), ""),)
    path = "account"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        accounts = Account.objects.visible_to(request.user).order_by("jid").values_list("pk", "jid")
        self.accounts = list(accounts[: MAX_CHOICES + 1])

    @property
    def by_pk(self) -> str:
        """The parameter with the primary key of the account."""
        return f"{self.path}__id__exact"

    @property
    def parameters(self) -> list[str]:
        return [self.by_pk, *super().parameters]

    def has_output(self) -> bool:
        return len(self.accounts) > 1 or bool(self.used_parameters)

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        if len(self.accounts) > MAX_CHOICES:
            yield from super().choices(changelist)
            return
        chosen = self.value(self.by_pk)
        everything = changelist.get_query_string(remove=self.parameters)
        yield {"selected": not self.used_parameters, "query_string": everything, "display": _("All")}
        for pk, jid in self.accounts:
            url = changelist.get_query_string({self.by_pk: pk}, remove=self.parameters)
            yield {"selected": chosen == str(pk), "query_string": url, "display": label(jid, MAX_LABEL)}

    def filtered(self, queryset: Any) -> Any:
        return queryset.filter(**self.conditions(self.path))

    def conditions(self, path: str) -> dict[str, Any]:
        """Return the conditions on the account at a path. Raises `IncorrectLookupParameters`."""
        if (pk := self.value(self.by_pk)) and not pk.isdecimal():
            raise IncorrectLookupParameters
        found: dict[str, Any] = {path: int(pk[:18])} if pk else {}
        if jid := self.value("account_jid"):
            found[f"{path}__jid"] = jid
        return found


class AccountOfNodeFilter(AccountFilter):
    """Filters items by the account of their node."""

    path = "node__account"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.used_parameters and is_walked(request):
            nodes = PubsubNode.objects.visible_to(request.user).filter(**self.conditions("account"))
            many = have_many_items(nodes)
            return cast(PubsubItemQuerySet, queryset).of_many(nodes) if many else queryset.filter(node__in=nodes)
        return super().queryset(request, queryset)


def is_walked(request: HttpRequest) -> bool:
    """Whether the list of items follows an index that has no nodes, past items that match no other filter."""
    return not PUBLISHED.isdisjoint(request.GET) or request.GET.get("parse_error") == "no"


def have_many_items(nodes: QuerySet[PubsubNode]) -> bool:
    """Whether nodes have so many items that reading them all takes longer than finding some of them in an index."""
    return (nodes.order_by().aggregate(sum=Sum("item_count"))["sum"] or 0) > MANY_ITEMS


class TagFilter(InputFilter):
    """Filters items by a tag, compared exactly."""

    title = _("tag")
    inputs = (Input("tag", _("Tag"), ""),)

    def filtered(self, queryset: PubsubItemQuerySet) -> PubsubItemQuerySet:
        return queryset.tagged(self.value("tag"))


class AuthorFilter(InputFilter):
    """Filters items by the JID or the name of their author, compared exactly."""

    title = _("author")
    inputs = (Input("author", _("JID or name"), ""),)

    def filtered(self, queryset: PubsubItemQuerySet) -> PubsubItemQuerySet:
        author = self.value("author")
        return queryset.filter(**{"parsed_author_jid" if "@" in author else "parsed_author": author})


class PublishedFilter(InputFilter):
    """Filters items by the days on which their authors published them, in the current time zone."""

    title = _("date of publication")
    inputs = (Input("published_from", _("From"), "", "date"), Input("published_to", _("To"), "", "date"))

    def filtered(self, queryset: PubsubItemQuerySet) -> PubsubItemQuerySet:
        conditions = {}
        try:
            if first := self.value("published_from"):
                conditions["parsed_published__gte"] = _midnight(date.fromisoformat(first))
            if last := self.value("published_to"):
                conditions["parsed_published__lt"] = _midnight(date.fromisoformat(last) + timedelta(days=1))
        except (ValueError, OverflowError) as error:
            raise IncorrectLookupParameters from error
        return queryset.filter(**conditions)


def _midnight(day: date) -> str:
    """Return the beginning of a day in the form of dates in parsed data."""
    start = timezone.make_aware(datetime.combine(day, time()))
    return start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


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
