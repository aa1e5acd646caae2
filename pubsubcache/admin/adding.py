"""The form that adds a node to the cache, and what happens then."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pubsubcache import store
from pubsubcache.admin import asking
from pubsubcache.admin.base import wake_workers
from pubsubcache.exceptions import InvalidRequest, PubsubCacheError, TooLarge
from pubsubcache.models import Account, PubsubNode
from pubsubcache.parsers.uris import MAX_LENGTH, parse_xmpp
from pubsubcache.store import nodes
from pubsubcache.types import NodeAddress
from pubsubcache.utils import jid
from pubsubcache.utils.cleaning import one_line


class AddNodeForm(forms.Form):
    """The address of a node, as a URI or as a service and a name, and the account that reads it."""

    account = forms.ModelChoiceField(label=gettext_lazy("Account"), queryset=Account.objects.none())
    uri = forms.CharField(
        label=gettext_lazy("URI"),
        required=False,
        max_length=MAX_LENGTH,
        help_text=gettext_lazy("Such as xmpp:pubsub.example.org?;node=news. Or enter the service and the node."),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )
    service = forms.CharField(
        label=gettext_lazy("Service"),
        required=False,
        max_length=3000,
        help_text=gettext_lazy("The JID of the service. Empty: the account's own nodes (PEP)."),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )
    name = forms.CharField(
        label=gettext_lazy("Node"),
        required=False,
        strip=False,
        max_length=3000,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )

    def __init__(self, user: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        chosen: Any = self.fields["account"]
        chosen.queryset = Account.objects.visible_to(user).filter(leaving=False).with_time()
        if chosen.initial is None and len(accounts := list(chosen.queryset[:2])) == 1:
            chosen.initial = accounts[0]

    def clean_service(self) -> str:
        """Normalise the JID of the service."""
        service: str = self.cleaned_data["service"]
        try:
            return jid.normalise(service) if service else ""
        except InvalidRequest as error:
            raise ValidationError(str(error)) from error

    def clean_uri(self) -> NodeAddress | None:
        """Parse the URI."""
        if not (uri := self.cleaned_data["uri"]):
            return None
        found = parse_xmpp(uri)
        if found is None or not found.node:
            raise ValidationError(_("This is not the URI of a node, such as xmpp:pubsub.example.org?;node=news."))
        return NodeAddress(found.service, found.node)

    def clean(self) -> dict[str, Any]:
        """Set the address."""
        cleaned = self.cleaned_data
        if self.errors:
            return cleaned
        if cleaned["uri"] and (cleaned["service"] or cleaned["name"]):
            raise ValidationError(_("Enter either a URI, or a service and a node."))
        address = cleaned["uri"] or NodeAddress(cleaned["service"] or cleaned["account"].jid, cleaned["name"])
        try:
            nodes.check_address(address)
        except InvalidRequest as error:
            raise ValidationError(str(error)) from error
        return {**cleaned, "address": address}


def add(request: HttpRequest, account: Account, address: NodeAddress) -> tuple[PubsubNode, bool]:
    """Add a node to the cache and ask the worker to synchronise it, unless it is there already. Tells the user.

    Args:
        request: The request of a user who may add nodes for the account.
        account: The account.
        address: The node.

    Returns:
        The node, and whether it is new.

    Raises:
        ServiceError: The service refused to show the node to the account. Nothing is added.
    """
    known = PubsubNode.objects.filter(account=account, service=address.service, name=address.name).first()
    shown = {"node": one_line(f"{address.service} {address.name}", 300)}
    if known is not None:
        messages.info(request, _("%(node)s is in the cache already.") % shown)
        return known, False
    try:
        problem = asking.can_read(account, address)
    except TooLarge:
        problem = ""  # the item does not matter, the service shows it
    node = nodes.get_or_create_node(account.jid, address, by_hand=True)
    store.request_sync(PubsubNode.objects.filter(pk=node.pk))
    wake_workers()
    if problem:
        text = _("%(node)s was added, but could not be read yet: %(problem)s It will be read as soon as possible.")
        messages.warning(request, text % {**shown, "problem": problem})
    else:
        messages.success(request, _("%(node)s was added. Its items are being read.") % shown)
    return node, True


def refusal(error: PubsubCacheError, address: NodeAddress) -> str:
    """Say why a node was not added."""
    shown = {"node": one_line(f"{address.service} {address.name}", 300), "reason": str(error)}
    return _("%(node)s was not added. %(reason)s") % shown
