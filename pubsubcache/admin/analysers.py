"""Admin page of analysers: those registered, the choices of staff, and statistics of their nodes."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import BadRequest, PermissionDenied
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pubsubcache import store
from pubsubcache.admin import display
from pubsubcache.admin.base import log_changes
from pubsubcache.admin.jobs import start
from pubsubcache.analysers import Analyser, registry
from pubsubcache.analysers.base import dotted
from pubsubcache.models import AnalyserChoice, Job, PubsubItem, PubsubNode
from pubsubcache.models.account import ALL_ACCOUNTS
from pubsubcache.states import KINDS, Word, word_in_database

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
    failed = PubsubItem.objects.visible_to(user).exclude(parse_error="").order_by().values("node__analyser")
    for name, number in failed.annotate(number=Count("pk")).values_list("node__analyser", "number"):
        found[name].parse_errors = number
    return found


def app_of(analyser: Analyser) -> str:
    """Return the label of the app that defines the functions of an analyser, or their module."""
    config = apps.get_containing_app_config(analyser.module) if analyser.module else None
    return config.label if config else analyser.module


def _states(name: str, tally: Tally) -> list[dict[str, Any]]:
    url = "admin:pubsubcache_pubsubnode_changelist"
    return [
        {
            "kind": KINDS[word],
            "label": word.label,
            "number": display.number(tally.nodes[word]),
            "url": reverse(url, query={"analyser": name, "state": word.value}),
        }
        for word in Word
        if tally.nodes[word]
    ]


def _row(name: str, tally: Tally, **more: Any) -> dict[str, Any]:
    items, failed = display.number(tally.items), display.number(tally.parse_errors)
    shown = {"name": name, "tally": tally, "states": _states(name, tally), "items": items, "parse_errors": failed}
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
        row |= {"choice": NAMES[choices.get(row["name"])], "changed": changes.get(row["name"])}
    return [*shown, _row("", without)]


def _last_changes() -> dict[str, LogEntry]:
    """Return the last history entry of each choice by name of the analyser."""
    names = {str(pk): name for pk, name in AnalyserChoice.objects.values_list("pk", "analyser")}
    kind = ContentType.objects.get_for_model(AnalyserChoice)
    history = LogEntry.objects.filter(content_type=kind, object_id__in=names).select_related("user")
    return {names[entry.object_id or ""]: entry for entry in history.order_by("action_time", "pk")}


def may_choose(request: HttpRequest) -> bool:
    """Return whether the user may change the choices for analysers, which apply to the nodes of all accounts."""
    return request.user.has_perms(["pubsubcache.change_analyserchoice", ALL_ACCOUNTS])


def choose(request: HttpRequest) -> HttpResponse:
    """Save the choice for an analyser from a posted form.

    Raises:
        PermissionDenied: The user may not change choices.
        BadRequest: The analyser or the choice is unknown.
    """
    if not may_choose(request):
        raise PermissionDenied
    name, chosen = request.POST.get("analyser", ""), request.POST.get("choice", "")
    if chosen not in CHOICES or not any(row["name"] == name for row in rows(request.user) if row["name"]):
        raise BadRequest("Unknown analyser or choice.")
    to_sync, label = CHOICES[chosen]
    choice = store.save_choice(name, to_sync)
    log_changes(request, [choice], _("Synchronised: %(choice)s.") % {"choice": label})
    text = _("Nodes of %(analyser)s are synchronised: %(choice)s.")
    messages.success(request, text % {"analyser": name, "choice": label})
    if (page := start(request, Job.Kind.ANALYSER, {"analyser": name})) is not None:
        return page
    return HttpResponseRedirect(reverse("admin:pubsubcache_analysers"))


def analysers_view(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """Render the page, or save its form. The caller must check the permission to view it."""
    if request.method == "POST":
        return choose(request)
    context = {
        **site.each_context(request),
        "title": _("Analysers"),
        "opts": PubsubNode._meta,
        "rows": rows(request.user),
        "choices": [(name, label) for name, (_to_sync, label) in CHOICES.items()],
        "may_choose": may_choose(request),
    }
    request.current_app = site.name
    return TemplateResponse(request, "admin/pubsubcache/analysers.html", context)
