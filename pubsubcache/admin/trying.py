"""The page to try analysers: its form, and an explanation in words. Stores nothing."""

from collections import Counter
from typing import Any

from asgiref.sync import async_to_sync
from django import forms
from django.contrib.admin import AdminSite
from django.contrib.admin.widgets import AdminTextareaWidget, AdminTextInputWidget, ForeignKeyRawIdWidget
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from pubsubcache import store
from pubsubcache.admin import display
from pubsubcache.analysers import Analyser
from pubsubcache.exceptions import PubsubCacheError
from pubsubcache.explaining import Explanation, Step, Subject, as_data, explain, from_cache, from_xml
from pubsubcache.models import PubsubItem, PubsubNode, PubsubNodeQuerySet
from pubsubcache.syncing.analysis import namespaces_of
from pubsubcache.types import NodeAddress
from pubsubcache.utils import jid
from pubsubcache.utils.cleaning import one_line

MAX_PASTED = 500_000  # characters; parsing more would hold up other pages for seconds
MAX_NAME = 2048
SHOWN = 50  # elements that the JSON leaves out


class NodeWidget(ForeignKeyRawIdWidget):
    """Input for the primary key of a node, with a link to search for it. Names only nodes that the user may see."""

    nodes: PubsubNodeQuerySet

    def label_and_url_for_value(self, value: Any) -> tuple[str, str]:
        """Return the name of the chosen node and the address of its page."""
        try:
            is_visible = self.nodes.filter(pk=value).exists()
        except (ValueError, OverflowError):
            is_visible = False
        return super().label_and_url_for_value(value) if is_visible else ("", "")


class TryForm(forms.Form):
    """An item to explain: XML, or an item of the cache. `subject` is set if the form is valid."""

    xml = forms.CharField(
        label=gettext_lazy("XML"),
        required=False,
        max_length=MAX_PASTED,
        widget=AdminTextareaWidget(attrs={"rows": 12, "spellcheck": "false"}),
        help_text=gettext_lazy("A payload, or a whole <item/>. It is not stored."),
    )
    node_name = forms.CharField(
        label=gettext_lazy("Node name"),
        required=False,
        max_length=MAX_NAME,
        widget=AdminTextInputWidget,
        help_text=gettext_lazy("Optional: some analysers match by the beginning of the name."),
    )
    service = forms.CharField(
        label=gettext_lazy("Service"),
        required=False,
        max_length=MAX_NAME,
        widget=AdminTextInputWidget,
        help_text=gettext_lazy("Optional: the JID of the service, for parsers and functions that use it."),
    )
    node = forms.ModelChoiceField(label=gettext_lazy("Node"), required=False, queryset=PubsubNode.objects.none())
    item_id = forms.CharField(
        label=gettext_lazy("Item id"),
        required=False,
        strip=False,
        max_length=MAX_NAME,
        widget=AdminTextInputWidget,
        help_text=gettext_lazy("If it is empty, the newest item of the node is used."),
    )
    subject: Subject

    def __init__(self, user: Any, site: AdminSite, data: Any = None) -> None:
        super().__init__(data)
        nodes = PubsubNode.objects.visible_to(user).select_related("account")
        widget = NodeWidget(PubsubItem._meta.get_field("node").remote_field, site)
        widget.nodes = nodes
        field: Any = self.fields["node"]
        field.widget, field.queryset = widget, nodes

    def pasted(self) -> list[forms.BoundField]:
        """Return the fields for XML."""
        return [self["xml"], self["node_name"], self["service"]]

    def cached(self) -> list[forms.BoundField]:
        """Return the fields for an item of the cache."""
        return [self["node"], self["item_id"]]

    def clean_service(self) -> str:
        """Normalise the JID of the service."""
        service: str = self.cleaned_data["service"]
        try:
            return jid.normalise(service) if service else ""
        except PubsubCacheError as error:
            raise forms.ValidationError(str(error)) from error

    def clean(self) -> dict[str, Any] | None:
        """Read the item."""
        cleaned = super().clean()
        if self.errors:
            return cleaned
        xml, node = self.cleaned_data["xml"], self.cleaned_data["node"]
        if bool(xml) == bool(node):
            raise forms.ValidationError(_("Paste XML, or choose a node of the cache."))
        try:
            if node:
                self.subject = from_cache(node, self.cleaned_data["item_id"] or None)
            else:
                address = NodeAddress(self.cleaned_data["service"], self.cleaned_data["node_name"])
                self.subject = from_xml(xml.encode(errors="surrogatepass"), address, payload_allowed=True)
        except PubsubCacheError as error:
            self.add_error("xml", one_line(error))
        else:
            if self.subject.item is None and self.cleaned_data["item_id"]:
                self.add_error("item_id", _("The cache has no item with this id."))
        return cleaned


def may_try(user: Any) -> bool:
    """Return whether a user may open the page, which shows the content of items."""
    return user.has_perms(["pubsubcache.view_pubsubnode", "pubsubcache.view_pubsubitem"])  # type: ignore[no-any-return]


def url_of(node_pk: int, item_id: str) -> str:
    """Return the address of the page for an item of the cache."""
    return reverse("admin:pubsubcache_analysers_try", query={"node": node_pk, "item_id": item_id})


def form_of(request: HttpRequest, site: AdminSite) -> TryForm:
    """Return the form: bound to what was posted, or to the item of the cache that the address names."""
    if request.method == "POST":
        return TryForm(request.user, site, request.POST)
    return TryForm(request.user, site, request.GET if "node" in request.GET else None)


def shown(form: TryForm) -> dict[str, Any]:
    """Explain the item of a valid form, as the context of a template."""
    subject = form.subject
    found = async_to_sync(explain)(subject)
    data = as_data(subject, found)
    rest = data["parsed"].get("rest", []) if data["schema"] else []
    left_out = [(one_line(one["path"]), one_line(one["reason"])) for one in data["left_out"]]
    return {
        "facts": [(label, value) for label, value in _facts(subject, found, data) if value],
        "tried": [(number, step.analyser.name, _why_not(step)) for number, step in enumerate(found.steps, 1)][
            : -1 if found.steps and found.steps[-1].matched_by else None
        ],
        "json": "" if data["parsed"] is None else display.cut(display.pretty_json(data["parsed"])),
        "unread": len(rest),
        "left_out": left_out[:SHOWN],
        "more_left_out": max(0, len(left_out) - SHOWN),
    }


def _facts(subject: Subject, found: Explanation, data: dict[str, Any]) -> list[tuple[str, Any]]:
    analyser = found.analyser
    return [
        (_("Node"), _node(subject)),
        (_("Item"), _item(subject)),
        (_("Payloads"), _payloads(subject, found)),
        (_("Analyser"), _matched(found)),
        (_("Type"), " / ".join(filter(None, (data["type"], data["subtype"])))),
        (_("match_cb"), _outcome(found)),
        (_("Synchronised"), _synchronised(subject, found)),
        (_("Why"), analyser.why if analyser else ""),
        (_("Parser"), _parser(found, data)),
        (_("Schema"), data["schema"]),
        (_("Error"), display.badge("bad", one_line(found.error)) if found.error else ""),
        (_("In the cache"), _stored(subject, analyser)),
    ]


def _node(subject: Subject) -> Any:
    if subject.row is None:
        return one_line(f"{subject.address.service} {subject.address.name}").strip()
    url = reverse("admin:pubsubcache_pubsubnode_change", args=[subject.row.pk])
    node = display.linked(url, one_line(subject.row))
    return display.stacked(node, one_line(subject.row.account))


def _item(subject: Subject) -> str:
    if subject.item is None:
        return _("The cache has no item of this node, so only its name was looked at.")
    return one_line(subject.item.id) or _("without an id")


def _payloads(subject: Subject, found: Explanation) -> str:
    if found.finding.namespace is None:
        return ""  # the name of the node sufficed
    counts = Counter(namespace or _("no namespace") for namespace in namespaces_of(subject.samples))
    listed = ", ".join(f"{one_line(namespace, 200)} ({number})" for namespace, number in counts.most_common(5))
    if not found.finding.namespace:
        return _("%(namespaces)s. No analyser matches these namespaces.") % {"namespaces": listed or "-"}
    if len(counts) == 1:
        return listed
    prevails = {"namespaces": listed, "namespace": one_line(found.finding.namespace, 200)}
    return _("%(namespaces)s. %(namespace)s prevails among the newest items.") % prevails


def _matched(found: Explanation) -> str:
    step = found.steps[-1] if found.steps else None
    if step is None or not step.matched_by:
        number = len(found.steps)
        text = ngettext(
            "None: the %(count)d registered analyser does not match. Reads go to the service.",
            "None of the %(count)d registered analysers matches. Reads go to the service.",
            number,
        )
        return text % {"count": number}
    words = {"name": step.analyser.name, "node": step.analyser.node, "namespace": step.analyser.namespace}
    if step.matched_by == "node":
        return _("%(name)s, because the name of the node begins with %(node)s.") % words
    return _("%(name)s, because the payloads are in the namespace %(namespace)s.") % words


def _why_not(step: Step) -> str:
    words = {"node": step.analyser.node, "namespace": step.analyser.namespace}
    reasons = []
    if step.analyser.node:
        reasons.append(_("the name of the node does not begin with %(node)s") % words)
    if step.analyser.namespace:
        reasons.append(_("the payloads are not in %(namespace)s") % words)
    return "; ".join(reasons)


def _outcome(found: Explanation) -> str:
    analyser, analysis = found.analyser, found.finding.analysis
    if analyser is None or analysis is None or analyser.match_cb is None:
        return ""
    if analysis.to_sync != analyser.to_sync:
        return _("It changed whether the node is synchronised.")
    return _("It set the subtype %(subtype)s.") % {"subtype": analysis.subtype} if analysis.subtype else ""


def _synchronised(subject: Subject, found: Explanation) -> str:
    """Say whether the node is synchronised, and what decides it: the first rule that applies."""
    row, analyser, analysis = subject.row, found.analyser, found.finding.analysis
    if row is not None and row.policy == PubsubNode.Policy.ALWAYS:
        return _("Yes: the policy of the node is to always synchronise it.")
    if row is not None and row.policy == PubsubNode.Policy.NEVER:
        return _("No: the policy of the node is to never synchronise it.")
    if row is not None and row.by_hand:
        return _("Yes: somebody synchronised it by hand.")
    if analyser is None or analysis is None:
        return "" if found.error else _("No: no analyser matches.")
    choice = store.choices().get(analyser.name)
    if choice is not None:
        return _("Yes: staff chose so for the analyser.") if choice else _("No: staff chose so for the analyser.")
    if analysis.to_sync != analyser.to_sync:
        return _("Yes: match_cb decided so.") if analysis.to_sync else _("No: match_cb decided so.")
    return _("Yes, as the analyser is registered.") if analysis.to_sync else _("No, as the analyser is registered.")


def _parser(found: Explanation, data: dict[str, Any]) -> str:
    if found.reader is None or data["parser"] is None:
        return _("none") if found.analyser else ""
    if found.reader is found.analyser:
        return str(data["parser"])
    words = {"parser": data["parser"], "reader": found.reader.name}
    if found.analyser is None:
        return _("%(parser)s of the analyser %(reader)s, which fits the payload.") % words
    text = _(
        "%(parser)s of the analyser %(reader)s, because the payload is of another kind than those of %(analyser)s."
    )
    return text % {**words, "analyser": found.analyser.name}


def _stored(subject: Subject, analyser: Analyser | None) -> str:
    row = subject.row
    if row is None or row.analyser == (analyser.name if analyser else ""):
        return ""
    text = _("The cache has stored the analyser %(analyser)s. It analyses the node again at the next synchronisation.")
    return text % {"analyser": row.analyser or _("none")}
