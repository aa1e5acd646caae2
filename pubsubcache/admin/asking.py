"""Requests of pages to services. A page waits for at most `SECONDS`, whatever the service does."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeVar

from asgiref.sync import async_to_sync
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from pubsubcache.admin.display import ADVICE
from pubsubcache.cache import service_of
from pubsubcache.exceptions import (
    AuthenticationFailed,
    PubsubCacheError,
    ServiceError,
    ServiceUnreachable,
    UntrustedServer,
)
from pubsubcache.models import Account
from pubsubcache.services.protocol import PubsubService
from pubsubcache.types import Directory, ItemsRequest, NodeAddress, Subscription
from pubsubcache.utils.bounds import deadline

T = TypeVar("T")

SECONDS = 10.0
PEP = "pubsub/pep"


class Outcome(NamedTuple):
    """The outcome of a test: good, warn or bad; one sentence that says it, and what to do, or ""."""

    kind: str
    text: str
    advice: str = ""


def test_login(account: Account) -> Outcome:
    """Log in with the data of an account, which may be unsaved, and say in words what happened."""
    from pubsubcache.management import logins  # slixmpp, which web processes do not need otherwise

    try:
        directory = logins.try_out(account, SECONDS)
    except AuthenticationFailed as error:
        return Outcome("bad", str(error), str(ADVICE[Account.Status.AUTH_FAILED]))
    except UntrustedServer as error:
        return Outcome("bad", str(error), str(ADVICE[Account.Status.ERROR]))
    except ServiceUnreachable as error:
        return Outcome("bad", str(error), str(ADVICE[Account.Status.OFFLINE]))
    except ServiceError:
        directory = Directory([], [])
    if PEP not in directory.identities:
        text = _(
            "%(jid)s can log in, but the server offers it no nodes of its own (PEP). Nodes of other services can be "
            "cached."
        )
        return Outcome("warn", text % {"jid": account.jid})
    number = len(directory.entries)
    text = ngettext(
        "%(jid)s can log in, and has %(count)d node of its own (PEP).",
        "%(jid)s can log in, and has %(count)d nodes of its own (PEP).",
        number,
    )
    return Outcome("good", text % {"jid": account.jid, "count": number})


def _ask(account: Account, work: Callable[[PubsubService], Coroutine[Any, Any, T]]) -> T:
    """Send requests through the session of an account that has `as_of`. Raises the errors of `PubsubService`.

    The caller may be in a transaction, so nothing here uses the database.
    """

    late = ServiceUnreachable(_("There was no answer within %(seconds)d seconds.") % {"seconds": SECONDS})

    async def ask() -> T:
        async with deadline(SECONDS, late):
            return await work(service_of(account))

    return async_to_sync(ask)()


def browse(account: Account, service: str) -> Directory:
    """Return what a service lists about itself. Raises the errors of `PubsubService`."""
    return _ask(account, lambda asked: asked.browse(service))


def can_read(account: Account, address: NodeAddress) -> str:
    """Ask a service for an item of a node.

    Returns:
        Why that is not known, as a sentence; "" if the account can read the node.

    Raises:
        ServiceError: The service refused.
    """
    try:
        _ask(account, lambda asked: asked.get_items(address, ItemsRequest(max_items=1)))
    except ServiceUnreachable as error:
        return str(error)
    return ""


def subscriptions(account: Account, addresses: list[NodeAddress]) -> list[list[Subscription] | PubsubCacheError]:
    """Return the subscriptions of an account to each node that its service reports, or the error.

    Raises:
        ServiceUnreachable: There is no session of the account.
    """

    async def work(service: PubsubService) -> list[list[Subscription] | PubsubCacheError]:
        return await asyncio.gather(*(_subscriptions(service, address) for address in addresses))

    return _ask(account, work)


async def _subscriptions(service: PubsubService, address: NodeAddress) -> list[Subscription] | PubsubCacheError:
    late = ServiceUnreachable(_("The service did not answer in time."))
    try:
        async with deadline(SECONDS * 0.9, late):
            return await service.get_subscriptions(address)
    except PubsubCacheError as error:
        return error
