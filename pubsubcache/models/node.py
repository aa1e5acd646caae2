"""Nodes: each one of a service, as one account sees it."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Self

from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_jsonfield_backport.models import JSONField

from pubsubcache.conf import settings
from pubsubcache.models.account import Account
from pubsubcache.models.timed import TimedQuerySet, silent
from pubsubcache.models.traits import TRAITS, NodeTraits
from pubsubcache.types import NodeAddress
from pubsubcache.utils import clock


class PubsubNodeQuerySet(TimedQuerySet["PubsubNode"]):
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
        return self.filter(models.Q(sync_owner="") | silent("sync_heartbeat", settings.SYNC_CLAIM_TIMEOUT, now))

    def invalidate(self) -> int:
        """Stop vouching for the nodes; those that are just being synchronised are to be once more."""
        again = models.Case(models.When(sync_owner="", then="sync_requested"), default=clock.now())
        return self.update(checked_at=None, sync_requested=again)


class PubsubNode(models.Model):
    """A node of a service, as one account sees it."""

    class SyncState(models.TextChoices):
        """How far the cache and the service agree; null: not yet synchronised."""

        IN_PROGRESS = "IN_PROGRESS", _("in progress")
        COMPLETED = "COMPLETED", _("completed")
        ERROR = "ERROR", _("error")
        NO_SYNC = "NO_SYNC", _("not synchronised")

    class Policy(models.TextChoices):
        """What staff want of a node."""

        AUTO = "auto", _("as the analysers decide")
        ALWAYS = "always", _("always synchronise")
        NEVER = "never", _("never synchronise")

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="nodes", verbose_name=_("account"))
    service = models.CharField(_("service"), max_length=2047)
    name = models.TextField(_("name"))
    subscribed = models.BooleanField(_("subscribed"), default=False)
    analyser = models.CharField(_("analyser"), max_length=100, blank=True, default="", db_index=True)
    sync_state = models.CharField(
        _("state"), max_length=20, choices=SyncState.choices, null=True, blank=True, default=None, db_index=True
    )
    sync_state_updated = models.DateTimeField(_("state since"), default=timezone.now)
    type = models.CharField(_("type"), max_length=100, blank=True, default="", db_index=True)
    subtype = models.CharField(_("subtype"), max_length=100, blank=True, default="")
    # What the analysers said, and what staff and users made of it; null where nobody said anything.
    to_sync = models.BooleanField(null=True, default=None, editable=False)
    by_analyser = models.BooleanField(null=True, default=None, editable=False)
    by_hand = models.BooleanField(default=False, editable=False)
    registry_fingerprint = models.TextField(null=True, default=None, editable=False)
    analysis_reason = models.TextField(null=True, default=None, editable=False)
    # Whether the service moves edited items to the end; null: unknown.
    moves = models.BooleanField(null=True, default=None, editable=False)
    # Not null: the order is unknown. If it has two ids, of an edited item and the next, their order will tell `moves`.
    probe: list[str] | None = JSONField(null=True, default=None, editable=False)
    # Up to here, positions are the service's own order.
    confirmed_position = models.BigIntegerField(default=0, editable=False)
    extra: dict[str, Any] = JSONField(_("extra"), default=dict, blank=True)
    policy = models.CharField(_("policy"), max_length=10, choices=Policy.choices, default=Policy.AUTO)
    sync_error = models.TextField(_("reason"), blank=True, default="")
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    next_attempt = models.DateTimeField(_("next attempt"), null=True, blank=True)
    unavailable_count = models.PositiveIntegerField(_("answers service-unavailable in a row"), default=0)
    unavailable_since = models.DateTimeField(_("the first of them"), null=True, blank=True)
    sync_requested = models.DateTimeField(_("synchronisation asked for"), null=True, blank=True)
    bring_back = models.BooleanField(_("fetch what was purged"), default=False)
    sync_owner = models.CharField(_("synchronised by"), max_length=100, blank=True, default="")
    sync_heartbeat = models.DateTimeField(_("synchronisation heartbeat"), null=True, blank=True)
    sync_done = models.PositiveIntegerField(_("items read so far"), default=0)
    sync_total = models.PositiveIntegerField(_("items to read"), null=True, blank=True)
    checked_at = models.DateTimeField(_("checked"), null=True, blank=True)
    # The account's fencing token when the check began: the session that has brought every change since.
    checked_token = models.BigIntegerField(default=0, editable=False)
    compared_at = models.DateTimeField(_("contents compared"), null=True, blank=True)
    reconcile_interval = models.DurationField(
        _("compare every"),
        null=True,
        blank=True,
        validators=[MinValueValidator(timedelta(seconds=1))],
        help_text=_("Hours, minutes and seconds, such as 00:10:00. Empty: as the settings of the site say."),
    )
    access_model = models.CharField(_("access model"), max_length=20, blank=True, default="")
    last_read = models.DateTimeField(_("last read"), default=timezone.now)
    pinned = models.BooleanField(
        _("pinned"), default=False, help_text=_("Kept though nobody reads it: chosen by hand, imported, or one's own.")
    )
    item_count = models.PositiveIntegerField(_("items"), default=0)
    partial = models.BooleanField(_("partial"), default=False)
    evicted_count = models.PositiveIntegerField(_("items purged from the cache"), default=0)
    next_position = models.BigIntegerField(_("next position"), default=1)
    # Counts what notifications changed; items and tombstones carry it, so that a page asked for before
    # a change does not undo it.
    revision = models.BigIntegerField(_("revision"), default=0)
    purged_revision = models.BigIntegerField(_("revision of the last purge"), default=0)

    objects = PubsubNodeQuerySet.as_manager()
    #: As for accounts.
    as_of: datetime | None = None

    class Meta:
        verbose_name = _("node")
        verbose_name_plural = _("nodes")
        ordering = ["account", "service", "name"]
        constraints = [
            models.UniqueConstraint(fields=["account", "service", "name"], name="pubsubcache_node_unique"),
        ]
        indexes = [
            models.Index(
                fields=["account", "last_read"],
                condition=models.Q(pinned=False, policy="auto"),
                name="pubsubcache_node_unread",
            )
        ]
        permissions = [
            ("sync_pubsubnode", "Can synchronise nodes"),
            ("purge_pubsubnode", "Can purge nodes from the cache"),
        ]

    def __str__(self) -> str:
        return f"{self.service} {self.name}"

    @property
    def address(self) -> NodeAddress:
        """Where the node is."""
        return NodeAddress(self.service, self.name)

    @property
    def traits(self) -> NodeTraits:
        """How the service handles the node, as kept in `extra`; assign a changed copy to keep it."""
        return NodeTraits.from_json(self.extra)

    @traits.setter
    def traits(self, traits: NodeTraits) -> None:
        self.extra = {key: value for key, value in self.extra.items() if key not in TRAITS} | traits.to_json()

    @property
    def is_order_unknown(self) -> bool:
        """Whether the service may have the items in another order than the cache."""
        return self.probe is not None

    def is_followed(self, now: datetime | None = None) -> bool:
        """Whether every change since `checked_at` reached the cache: subscribed, session up without a break."""
        return (
            self.subscribed
            and self.checked_at is not None
            and self.checked_token == self.account.fencing_token
            and self.account.is_online(now)
        )


class AnalyserChoice(models.Model):
    """What staff want of the nodes of one analyser, whatever the analyser says."""

    analyser = models.CharField(_("analyser"), max_length=100, unique=True)
    to_sync = models.BooleanField(
        _("synchronise"), null=True, default=None, help_text=_("Unknown: as the analyser was registered.")
    )

    class Meta:
        verbose_name = _("choice for an analyser")
        verbose_name_plural = _("choices for analysers")

    def __str__(self) -> str:
        return self.analyser
