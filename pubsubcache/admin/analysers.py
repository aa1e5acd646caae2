"""Admin of analysers: those registered, the choices of staff, statistics of their nodes, and a page to try them.

The page is the list of the model of choices, so that the app's list of models has an entry for it.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from django import forms
from django.apps import apps
from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import BadRequest, PermissionDenied
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from pubsubcache import store
from pubsubcache.admin import display, trying
from pubsubcache.admin.base import STYLES, log_changes
from pubsubcache.admin.jobs import start
from pubsubcache.analysers import Analyser, registry
from pubsubcache.analysers.base import dotted
from pubsubcache.models import AnalyserChoice, Job, PubsubItem, PubsubNode
from pubsubcache.models.account import ALL_ACCOUNTS
from pubsubcache.states import KINDS, Word, word_in_database

PAGE = "admin:pubsubcache_analysers"
MAX_ERRORS = 10_000  # items with parse errors to count
CHOICES: dict[str, tuple[bool | None, Any]] = {
    "default": (None, gettext_lazy("as registered")),
    "sync": (True, gettext_lazy("yes")),
    "no-sync": (False, gettext_lazy("no")),
}
NAMES = {to_sync: name for name, (to_sync, _label) in CHOICES.items()}


@dataclass
class Tally:
    """Statistics of one analyser: nodes by state, items and parse errors."""

    nodes: Counter[str] = field(default_factory=Counter)
    items: int = 0
    parse_errors: int = 0


def tallies(user: Any) -> dict[str, Tally]:
    """Return the tallies of the nodes that a user may see, by name of the analyser; "" is for nodes without one."""
    found: dict[str, Tally] = defaultdict(Tally)
    nodes = PubsubNode.objects.visible_to(user).order_by()
    by_state = nodes.annotate(word=word_in_database()).values("analyser", "word")
    for row in by_state.annotate(number=Count("pk"), size=Sum("item_count")):
        tally = found[row["analyser"]]
        tally.nodes[row["word"]] += row["number"]
        tally.items += row["size"] or 0
    failed = PubsubItem.objects.visible_to(user).exclude(parse_error="").order_by("pk")
    for name in failed.values_list("node__analyser", flat=True)[: MAX_ERRORS + 1]:
        found[name].parse_errors += 1
    return found


def app_of(analyser: Analyser) -> str:
    """Return the label of the app that defines the functions of an analyser, or their module."""
    config = apps.get_containing_app_config(analyser.module) if analyser.module else None
    return config.label if config else analyser.module


def _states(name: str, tally: Tally) -> list[dict[str, Any]]:
    return [
        {
            "kind": KINDS[word],
            "label": word.label,
            "number": display.number(tally.nodes[word]),
            "url": _nodes(analyser=name, state=word.value),
        }
        for word in Word
        if tally.nodes[word]
    ]


def _nodes(**query: str) -> str:
    return reverse("admin:pubsubcache_pubsubnode_changelist", query=query)


def _row(name: str, tally: Tally, **more: Any) -> dict[str, Any]:
    errors = {"node__analyser": name, "parse_error": "yes"}
    shown = {
        "name": name,
        "tally": tally,
        "states": _states(name, tally),
        "nodes": display.number(tally.nodes.total()),
        "nodes_url": _nodes(analyser=name),
        "items": display.number(tally.items),
        "parse_errors": display.number(tally.parse_errors),
        "errors_url": reverse("admin:pubsubcache_pubsubitem_changelist", query=errors),
    }
    return shown | more


def rows(user: Any) -> list[dict[str, Any]]:
    """Return the rows of the page: registered analysers in order, then unknown ones, then nodes without analyser."""
    found = tallies(user)
    choices, changes = store.choices(), _last_changes()
    shown = []
    for position, analyser in enumerate(registry.all(), 1):
        functions = {"parser": dotted(analyser.parser), "match_cb": dotted(analyser.match_cb)}
        choice = choices.get(analyser.name)
        known = {
            "position": position,
            "analyser": analyser,
            "app": app_of(analyser),
            "to_sync": analyser.to_sync if choice is None else choice,
            **functions,
        }
        shown.append(_row(analyser.name, found.pop(analyser.name, Tally()), **known))
    without = found.pop("", Tally())
    shown += [_row(name, found[name], unknown=True) for name in sorted(found)]
    for row in shown:
        made = NAMES[choices.get(row["name"])]
        row |= {"choice": made, "label": CHOICES[made][1], "changed": changes.get(row["name"])}
    return [*shown, _row("", without)]


def _last_changes() -> dict[str, LogEntry]:
    """Return the last history entry of each choice by name of the analyser."""
    names = {str(pk): name for pk, name in AnalyserChoice.objects.values_list("pk", "analyser")}
    kind = ContentType.objects.get_for_model(AnalyserChoice)
    history = LogEntry.objects.filter(content_type=kind, object_id__in=names).select_related("user")
    return {names[entry.object_id or ""]: entry for entry in history.order_by("action_time", "pk")}


class ChoicesForm(forms.Form):
    """The choices for all analysers.

    Each field has a hidden copy of its value when the page was shown: only what the user changed is saved, so that two
    people who use the page do not undo each other's choices.

    Args:
        names: The analysers.
        data: The posted data; analysers that are missing there are left as they are.
    """

    def __init__(self, names: list[str], data: Any = None) -> None:
        super().__init__(data, prefix="choice", auto_id=False)
        choices = store.choices()
        for name in names:
            if data is not None and self.add_prefix(name) not in data:
                continue
            label = _("Staff's choice for %(name)s") % {"name": name}
            self.fields[name] = forms.ChoiceField(
                choices=[(value, label) for value, (_to_sync, label) in CHOICES.items()],
                initial=NAMES[choices.get(name)],
                show_hidden_initial=True,
                widget=forms.Select(attrs={"aria-label": label}),
            )

    def chosen(self) -> dict[str, bool | None]:
        """Return what the user changed, by name of the analyser. The form must be valid."""
        return {name: CHOICES[self.cleaned_data[name]][0] for name in self.changed_data}

    def hidden(self) -> list[tuple[str, str]]:
        """Return what the user changed as the names and values of hidden fields, to be posted again."""
        pairs = []
        for name in self.changed_data:
            field = self[name]
            before = self.data.get(field.html_initial_name, "")
            pairs += [(field.html_name, self.cleaned_data[name]), (field.html_initial_name, before)]
        return pairs


@admin.register(AnalyserChoice)
class AnalyserAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Admin of analysers for users who may view nodes."""

    class Media:
        css = {"all": [STYLES]}

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("", wrap(self.changelist_view), name="pubsubcache_analyserchoice_changelist"),
            path("", wrap(self.changelist_view), name="pubsubcache_analysers"),
            path("try/", wrap(self.try_view), name="pubsubcache_analysers_try"),
        ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: AnalyserChoice | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: AnalyserChoice | None = None) -> bool:
        return request.user.has_perm("pubsubcache.view_pubsubnode")

    def has_change_permission(self, request: HttpRequest, obj: AnalyserChoice | None = None) -> bool:
        """Return whether the user may change the choices, which apply to the nodes of all accounts."""
        may_change = request.user.has_perms(["pubsubcache.change_analyserchoice", ALL_ACCOUNTS])
        return may_change and self.has_view_permission(request)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the analysers, or save the choices (POST)."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            return self._save(request)
        shown = rows(request.user)
        if self.has_change_permission(request):
            form = ChoicesForm([row["name"] for row in shown if row["name"]])
            for row in shown:
                row["field"] = form[row["name"]] if row["name"] else None
        failed = sum(row["tally"].parse_errors for row in shown)
        more = {
            "rows": shown,
            "may_try": trying.may_try(request.user),
            "too_many_errors": display.number(MAX_ERRORS) if failed > MAX_ERRORS else "",
        }
        return self._render(request, "analysers", _("Analysers"), **more, **(extra_context or {}))

    def try_view(self, request: HttpRequest) -> HttpResponse:
        """Show which analyser matches a pasted or cached item, and why, and its JSON. Stores nothing."""
        if not trying.may_try(request.user):
            raise PermissionDenied
        form = trying.form_of(request, self.admin_site)
        shown = trying.shown(form) if form.is_bound and form.is_valid() else None
        more = {"form": form, "shown": shown, "media": self.media + form.media}
        return self._render(request, "try_analysers", _("Try the analysers"), **more)

    def _render(self, request: HttpRequest, template: str, title: str, **context: Any) -> HttpResponse:
        request.current_app = self.admin_site.name
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "media": self.media,
            "may_choose": self.has_change_permission(request),
            **context,
        }
        return TemplateResponse(request, f"admin/pubsubcache/{template}.html", context)

    def _save(self, request: HttpRequest) -> HttpResponse:
        """Save the choices of a posted form, after a confirmation if nodes lose their items."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        if name := request.POST.get("reparse"):
            return self._parse_again(request, name)
        form = ChoicesForm([row["name"] for row in rows(request.user) if row["name"]], request.POST)
        if not form.is_valid():
            raise BadRequest("Unknown choice.")
        chosen = form.chosen()
        emptied = [found for found in (self._emptied(name, to_sync) for name, to_sync in chosen.items()) if found]
        if emptied and request.POST.get("confirmed") != "yes":
            return self._render(
                request, "analysers_confirmation", _("Empty nodes"), emptied=emptied, hidden=form.hidden()
            )
        pages = [page for name, to_sync in chosen.items() if (page := self._choose(request, name, to_sync))]
        if not chosen:
            messages.info(request, _("No choice was changed."))
        return pages[0] if len(pages) == 1 else HttpResponseRedirect(reverse(PAGE))

    def _parse_again(self, request: HttpRequest, name: str) -> HttpResponse:
        """Parse the items of the nodes of an analyser again, after its parser has changed."""
        if registry.get(name) is None:
            raise BadRequest("Unknown analyser.")
        page = start(request, Job.Kind.REPARSE, {"nodes": {"analyser": name}})
        return page or HttpResponseRedirect(reverse(PAGE))

    def _emptied(self, name: str, to_sync: bool | None) -> str:
        """Return what a choice removes from the cache, as a sentence, or ""."""
        found = store.emptied_by_choice(name, to_sync).aggregate(nodes=Count("pk"), items=Sum("item_count"))
        if not found["items"]:
            return ""
        text = ngettext(
            "%(analyser)s: %(items)s items of %(count)d node",
            "%(analyser)s: %(items)s items of %(count)d nodes",
            found["nodes"],
        )
        return text % {"analyser": name, "items": display.number(found["items"]), "count": found["nodes"]}

    def _choose(self, request: HttpRequest, name: str, to_sync: bool | None) -> HttpResponse | None:
        """Save a choice and apply it; return a redirect to the page of the job that does so, or None if it is done."""
        choice = store.save_choice(name, to_sync)
        label = CHOICES[NAMES[to_sync]][1]
        log_changes(request, [choice], _("Synchronised: %(choice)s.") % {"choice": label})
        text = _("Nodes of %(analyser)s are synchronised: %(choice)s.")
        messages.success(request, text % {"analyser": name, "choice": label})
        return start(request, Job.Kind.ANALYSER, {"analyser": name})
