"""A page without a table: the analysers that are registered, and what became of the nodes they matched."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.contrib.admin import AdminSite
from django.db.models import Count, Sum
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from pubsubcache.admin import display
from pubsubcache.analysers import Analyser, registry
from pubsubcache.models import PubsubItem, PubsubNode


@dataclass
class Tally:
    """What is in the cache of one analyser: nodes by state (None: not yet), items, and items not parsed."""

    nodes: Counter[str | None] = field(default_factory=Counter)
    items: int = 0
    parse_errors: int = 0


def tallies() -> dict[str, Tally]:
    """Return the tally of every analyser that a node names, and under "" that of the nodes without one."""
    found: dict[str, Tally] = defaultdict(Tally)
    by_state = PubsubNode.objects.order_by().values("analyser", "sync_state")
    for row in by_state.annotate(number=Count("pk"), size=Sum("item_count")):
        tally = found[row["analyser"]]
        tally.nodes[row["sync_state"]] += row["number"]
        tally.items += row["size"] or 0
    failed = PubsubItem.objects.exclude(parse_error="").order_by().values("node__analyser")
    for name, number in failed.annotate(number=Count("pk")).values_list("node__analyser", "number"):
        found[name].parse_errors = number
    return found


def dotted(function: Any) -> str:
    """Return where a function is defined, or an empty text for None."""
    if function is None:
        return ""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}.{name}"


def app_of(analyser: Analyser) -> str:
    """Return the label of the installed app that an analyser's functions belong to, or their module."""
    config = apps.get_containing_app_config(analyser.module) if analyser.module else None
    return config.label if config else analyser.module


def _states(name: str, tally: Tally) -> list[dict[str, Any]]:
    states = [(None, _("not yet")), *PubsubNode.SyncState.choices]
    url = "admin:pubsubcache_pubsubnode_changelist"
    return [
        {
            "kind": display.STATE_KINDS.get(state, "quiet"),
            "label": label,
            "number": display.number(tally.nodes[state]),
            "url": reverse(url, query={"analyser": name, "state": state or "none"}),
        }
        for state, label in states
        if tally.nodes[state]
    ]


def _row(name: str, tally: Tally, **more: Any) -> dict[str, Any]:
    items, failed = display.number(tally.items), display.number(tally.parse_errors)
    shown = {"name": name, "tally": tally, "states": _states(name, tally), "items": items, "parse_errors": failed}
    return shown | more


def rows() -> list[dict[str, Any]]:
    """Return the registered analysers in order, then names that only nodes know, last the nodes without any."""
    found = tallies()
    shown = []
    for position, analyser in enumerate(registry.all(), 1):
        functions = {"parser": dotted(analyser.parser), "match_cb": dotted(analyser.match_cb)}
        known = {"position": position, "analyser": analyser, "app": app_of(analyser), **functions}
        shown.append(_row(analyser.name, found.pop(analyser.name, Tally()), **known))
    without = found.pop("", Tally())
    shown += [_row(name, found[name], unknown=True) for name in sorted(found)]
    return [*shown, _row("", without)]


def analysers_view(request: HttpRequest, site: AdminSite) -> HttpResponse:
    """Render the page. Permissions are the caller's matter."""
    context = {
        **site.each_context(request),
        "title": _("Analysers"),
        "opts": PubsubNode._meta,
        "rows": rows(),
    }
    request.current_app = site.name
    return TemplateResponse(request, "admin/pubsubcache/analysers.html", context)
