"""Query methods of the models."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from django.db import models
from django.utils import timezone

from pubsubcache.conf import settings

if TYPE_CHECKING:
    from pubsubcache.models import Account, PubsubItem, PubsubNode  # noqa: F401  (named in strings below)


class AccountQuerySet(models.QuerySet["Account"]):
    """Accounts."""

    def enabled(self) -> Self:
        """Accounts of which workers keep a session."""
        return self.filter(enabled=True)

    def free_or_of(self, worker: str, now: datetime | None = None) -> Self:
        """Accounts held by `worker`, or by nobody who is alive."""
        silent = (now or timezone.now()) - timedelta(seconds=settings.LEASE_TIMEOUT)
        return self.filter(
            models.Q(worker__in=["", worker]) | models.Q(heartbeat__isnull=True) | models.Q(heartbeat__lt=silent)
        )

    def with_progress(self) -> Self:
        """Accounts with `number_of_nodes`, and `number_waiting` of them for their first or a new comparison."""
        nodes = models.Count("nodes")
        unchecked = models.Q(nodes__checked_at__isnull=True) | models.Q(
            nodes__checked_at__lt=models.F("session_started")
        )
        waiting = models.Q(nodes__sync_state__isnull=True) | models.Q(nodes__sync_state="IN_PROGRESS")
        waiting |= models.Q(nodes__sync_state="COMPLETED") & unchecked
        return self.annotate(number_of_nodes=nodes, number_waiting=models.Count("nodes", filter=waiting))


class PubsubNodeQuerySet(models.QuerySet["PubsubNode"]):
    """Nodes."""

    def matching(
        self,
        *,
        accounts: Iterable[str] = (),
        services: Iterable[str] = (),
        nodes: Iterable[str] = (),
        types: Iterable[str] = (),
        subtypes: Iterable[str] = (),
    ) -> Self:
        """Nodes that fulfil every filter given; a filter is fulfilled by any one of its values."""
        filters: dict[str, Any] = {
            "account__jid__in": list(accounts),
            "service__in": list(services),
            "name__in": list(nodes),
            "type__in": list(types),
            "subtype__in": list(subtypes),
        }
        return self.filter(**{lookup: values for lookup, values in filters.items() if values})

    def unclaimed(self, now: datetime | None = None) -> Self:
        """Nodes that nobody who is alive synchronises."""
        silent = (now or timezone.now()) - timedelta(seconds=settings.SYNC_CLAIM_TIMEOUT)
        free = models.Q(sync_owner="") | models.Q(sync_heartbeat__isnull=True) | models.Q(sync_heartbeat__lt=silent)
        return self.filter(free)

    def doubt(self) -> int:
        """Stop vouching for the nodes; those that are just being synchronised are to be once more."""
        again = models.Case(models.When(sync_owner="", then="sync_requested"), default=timezone.now())
        return self.update(checked_at=None, sync_requested=again)


class PubsubItemQuerySet(models.QuerySet["PubsubItem"]):
    """Items."""

    def in_order(self) -> Self:
        """Items oldest first, as the service lists them."""
        return self.order_by("position", "pk")
