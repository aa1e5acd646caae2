"""Pages that ask services: browse, subscriptions, and the one that adds a node. Callers must check permissions."""

from typing import Any, NamedTuple

from django.contrib.admin import AdminSite
from django.contrib.admin.helpers import AdminForm
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from pubsubcache.admin import adding, asking
from pubsubcache.admin.asking import Outcome
from pubsubcache.exceptions import InvalidRequest, PubsubCacheError, ServiceError
from pubsubcache.models import Account, PubsubNode
from pubsubcache.types import Directory, Entry, Subscription
from pubsubcache.utils import jid
from pubsubcache.utils.cleaning import one_line

MAX_SHOWN = 300  # characters of a remote text
NODES_PER_PAGE = 25  # nodes whose subscriptions are requested at once
FOLDER = "admin/pubsubcache"


def _context(request: HttpRequest, site: AdminSite, account: Account, title: str) -> dict[str, Any]:
    request.current_app = site.name
    return {**site.each_context(request), "title": title, "opts": Account._meta, "account": account}


def errors_of(form: Any) -> Outcome:
    """Return the errors of a form as the outcome of a test that could not begin."""
    labels = {name: field.label for name, field in form.fields.items()}
    texts = [
        f"{labels[name]}: {text}" if name in labels else text for name in form.errors for text in form.errors[name]
    ]
    return Outcome("bad", _("Nothing was tested."), " ".join(texts))


# Browsing


class Listed(NamedTuple):
    """A row of the directory of a service: a node, or another service if `node` is empty."""

    service: str
    node: str
    name: str
    cached: PubsubNode | None

    @property
    def shown(self) -> str:
        """The node, or the service, on one line."""
        return one_line(self.node or self.service, MAX_SHOWN)


def browse_view(request: HttpRequest, account: Account, site: AdminSite) -> HttpResponse:
    """Show the nodes and services that a service lists.

    A GET request asks only the account's own server and services of cached nodes: a link from elsewhere must not make
    the account contact anybody.
    """
    given = request.POST if request.method == "POST" else request.GET
    entered = given.get("service", "").strip()
    context = _context(request, site, account, _("Browse services"))
    context |= {"service": entered, "own_domain": jid.domain(account.jid), "shown": one_line(entered, MAX_SHOWN)}
    try:
        service = jid.normalise(entered) if entered else jid.domain(account.jid)
    except InvalidRequest as error:
        return TemplateResponse(request, f"{FOLDER}/account/browse.html", {**context, "error": str(error)})
    context |= {"service": service, "shown": one_line(service, MAX_SHOWN)}
    if request.method == "POST" or _is_known(account, service):
        try:
            directory = asking.browse(account, service)
            context |= {"rows": _rows(account, service, directory), "directory": directory}
        except PubsubCacheError as error:
            context["error"] = str(error)
    context["may_add"] = request.user.has_perm("pubsubcache.add_pubsubnode")
    return TemplateResponse(request, f"{FOLDER}/account/browse.html", context)


def _is_known(account: Account, service: str) -> bool:
    own = service in (account.jid, jid.domain(account.jid))
    return own or PubsubNode.objects.filter(account=account, service=service).exists()


def _rows(account: Account, service: str, directory: Directory) -> list[Listed]:
    found = [(entry, where) for entry in directory.entries if (where := _service_of(entry, service))]
    names = {entry.node for entry, _where in found if entry.node}
    nodes = PubsubNode.objects.filter(account=account, name__in=names).only("service", "name")
    cached = {(node.service, node.name): node for node in nodes}
    rows = [
        Listed(where, entry.node, one_line(entry.name, MAX_SHOWN), cached.get((where, entry.node)))
        for entry, where in found
    ]
    return sorted(rows, key=lambda row: (not row.node, row.node or row.service))


def _service_of(entry: Entry, service: str) -> str:
    """Return the normalised JID of an entry, or "" if it is not valid."""
    try:
        return jid.normalise(entry.jid) if entry.jid else service
    except InvalidRequest:
        return ""


# Subscriptions


class Compared(NamedTuple):
    """What the cache believes about the subscription to a node, and what the service reports."""

    node: PubsubNode
    reported: str
    error: str
    differs: bool

    @property
    def shown(self) -> str:
        """The name of the node on one line."""
        return one_line(self.node.name, MAX_SHOWN)


def subscriptions_view(request: HttpRequest, account: Account, site: AdminSite) -> HttpResponse:
    """Compare the subscriptions to cached nodes with those that their services report, a page at a time."""
    found = PubsubNode.objects.filter(account=account).order_by("service", "name")
    page = Paginator(found.only("service", "name", "subscribed"), NODES_PER_PAGE).get_page(request.GET.get("page"))
    context = _context(request, site, account, _("Subscriptions"))
    try:
        nodes = list(page)
        answers = asking.subscriptions(account, [node.address for node in nodes]) if nodes else []
        rows = [_compared(node, answer) for node, answer in zip(nodes, answers, strict=True)]
        context |= {"rows": rows, "differing": sum(row.differs for row in rows)}
    except PubsubCacheError as error:
        context["error"] = str(error)
    return TemplateResponse(request, f"{FOLDER}/account/subscriptions.html", {**context, "page": page})


def _compared(node: PubsubNode, answer: list[Subscription] | PubsubCacheError) -> Compared:
    if isinstance(answer, PubsubCacheError):
        return Compared(node, "", str(answer), differs=False)
    states = sorted({one_line(found.state, 50) for found in answer if found.state != "none"})
    return Compared(node, ", ".join(states), "", differs=("subscribed" in states) != node.subscribed)


# Adding a node


def add_view(request: HttpRequest, model_admin: Any) -> HttpResponse:
    """Show the form that adds a node, or add it (POST)."""
    posted = request.method == "POST"
    initial = {name: request.GET[name] for name in ("account", "uri", "service", "name") if name in request.GET}
    form = adding.AddNodeForm(request.user, request.POST if posted else None, initial=initial)
    if posted and form.is_valid():
        account, address = form.cleaned_data["account"], form.cleaned_data["address"]
        try:
            node, is_new = adding.add(request, account, address)
        except ServiceError as error:
            form.add_error(None, adding.refusal(error, address))
        else:
            if is_new:
                model_admin.log_addition(request, node, _("Added by hand."))
            return HttpResponseRedirect(_page_after(request, account, node))
    context = {
        **model_admin.admin_site.each_context(request),
        "title": _("Add node"),
        "opts": PubsubNode._meta,
        "form": form,
        "adminform": AdminForm(form, [(None, {"fields": list(form.fields)})], {}),  # type: ignore[arg-type]
        "media": model_admin.media,
        "has_accounts": form.fields["account"].queryset.exists(),  # type: ignore[attr-defined]
    }
    request.current_app = model_admin.admin_site.name
    return TemplateResponse(request, f"{FOLDER}/pubsubnode/add_form.html", context)


def _page_after(request: HttpRequest, account: Account, node: PubsubNode) -> str:
    if "browse" in request.POST:
        query = {"service": node.service}
        return reverse("admin:pubsubcache_account_browse", args=[account.pk], query=query)
    return reverse("admin:pubsubcache_pubsubnode_change", args=[node.pk])
