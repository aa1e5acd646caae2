"""Nodes: a row is one node of a service as one account sees it."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Self

from django.core.validators import MinValueValidator
from django.db import models, transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from pubsubcache.conf import settings
from pubsubcache.models.account import Account, is_visible_to
from pubsubcache.models.fields import JSONField
from pubsubcache.models.timed import TimedQuerySet, heartbeat_expired
from pubsubcache.models.traits import TRAITS, NodeTraits
from pubsubcache.types import NodeAddress
from pubsubcache.utils import clock
from pubsubcache.utils.cleaning import label

MAX_LABEL = 200  # characters of a node or item as text
CLAIM_LEASES = 5  # a claim lasts this many leases, because fetching and storing a large page takes long


def claim_timeout() -> float:
    """Return the number of seconds after its last heartbeat at which a claim expires."""
    return float(CLAIM_LEASES * settings.LEASE_TIMEOUT)


def is_any_of(**values: Iterable[str]) -> models.Q:
    """Return the condition that each field has one of its values. Fields without values are ignored."""
    lists = {field: list(allowed) for field, allowed in values.items()}
    return models.Q(**{f"{field}__in": allowed for field, allowed in lists.items() if allowed})


class PubsubNodeQuerySet(TimedQuerySet["PubsubNode"]):
    """Queries for nodes."""

    def matching(
        self,
        *,
        accounts: Iterable[str] = (),
        services: Iterable[str] = (),
        nodes: Iterable[str] = (),
        types: Iterable[str] = (),
        subtypes: Iterable[str] = (),
    ) -> Self:
        """Return the nodes that match all filters; a node matches a filter if it has any of its values.

        Empty filters are ignored.
        """
        return self.filter(is_any_of(account__jid=accounts, service=services, name=nodes, type=types, subtype=subtypes))

    def visible_to(self, user: Any) -> Self:
        """Return the nodes of the accounts that a user of the site may see; see `is_visible_to`."""
        return self.filter(is_visible_to(user, "account__owner"))

    def unclaimed(self, now: datetime | None = None) -> Self:
        """Return the nodes without a valid claim."""
        return self.filter(models.Q(sync_owner="") | heartbeat_expired("sync_heartbeat", claim_timeout(), now))

    def for_update(self) -> Self:
        """Return the nodes, locked until the transaction ends, in the order of their primary keys.

        Without an order of its own, a query would join the accounts for the default order, and lock them too.
        """
        return self.order_by("pk").select_for_update(of=("self",))

    def lock(self) -> None:
        """Lock the nodes until the transaction ends. Waits for writers, which lock a node before they change it."""
        list(self.for_update().values_list("pk"))

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete the nodes and their items, under locks: otherwise a writer could add an item meanwhile."""
        with transaction.atomic(using=self.db):
            self.lock()
            return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def invalidate(self) -> int:
        """Invalidate the nodes, and request another sync of those that a process has claimed; return their number."""
        again = models.Case(models.When(sync_owner="", then="sync_requested"), default=clock.now())
        return self.update(checked_at=None, sync_requested=again)


class PubsubNode(models.Model):
    """A node of a service, as one account sees it."""

    class SyncState(models.TextChoices):
        """The progress of synchronisation; null means not yet synchronised."""

        IN_PROGRESS = "IN_PROGRESS", _("in progress")
        COMPLETED = "COMPLETED", _("completed")
        ERROR = "ERROR", _("error")
        NO_SYNC = "NO_SYNC", _("not synchronised")

    class Policy(models.TextChoices):
        """The decision of staff on a node."""

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
    # The decisions of the analysers, staff and users; null means no decision.
    to_sync = models.BooleanField(null=True, default=None, editable=False)
    by_analyser = models.BooleanField(null=True, default=None, editable=False)
    by_hand = models.BooleanField(default=False, editable=False)
    registry_fingerprint = models.TextField(null=True, default=None, editable=False)
    analysis_reason = models.TextField(null=True, default=None, editable=False)
    # The namespace that prevailed among the items when the node was analysed, "" if none did; null means that no item
    # was looked at.
    sample_namespace = models.TextField(null=True, default=None, editable=False)
    # Whether stored items were parsed when the node had another analyser.
    parse_anew = models.BooleanField(default=False, editable=False)
    # Whether the service moves edited items to the end; null means unknown.
    moves = models.BooleanField(null=True, default=None, editable=False)
    # Not null means the order is unknown. Two ids are those of an edited item and its successor: the order in which the
    # service lists them next determines `moves`.
    probe: "models.JSONField[list[str] | None, list[str] | None]" = JSONField(null=True, default=None, editable=False)
    # Positions up to this one follow the order of the service.
    confirmed_position = models.BigIntegerField(default=0, editable=False)
    extra: "models.JSONField[dict[str, Any], dict[str, Any]]" = JSONField(_("extra"), default=dict, blank=True)
    policy = models.CharField(_("policy"), max_length=10, choices=Policy.choices, default=Policy.AUTO)
    sync_error = models.TextField(_("reason"), blank=True, default="")
    failures = models.PositiveIntegerField(_("failures in a row"), default=0)
    next_attempt = models.DateTimeField(_("next attempt"), null=True, blank=True)
    unavailable_count = models.PositiveIntegerField(_("service-unavailable answers in a row"), default=0)
    unavailable_since = models.DateTimeField(_("first service-unavailable answer"), null=True, blank=True)
    sync_requested = models.DateTimeField(_("synchronisation requested"), null=True, blank=True)
    bring_back = models.BooleanField(_("fetch evicted items again"), default=False)
    sync_owner = models.CharField(_("synchronised by"), max_length=100, blank=True, default="")
    sync_heartbeat = models.DateTimeField(_("heartbeat of the synchronisation"), null=True, blank=True)
    sync_done = models.PositiveIntegerField(_("items read"), default=0)
    sync_total = models.PositiveIntegerField(_("items to read"), null=True, blank=True)
    checked_at = models.DateTimeField(_("last revalidated"), null=True, blank=True)
    # The account's fencing token when the check started. It identifies the session that reports changes since then.
    checked_token = models.BigIntegerField(default=0, editable=False)
    compared_at = models.DateTimeField(_("last full sync"), null=True, blank=True)
    reconcile_interval = models.DurationField(
        _("revalidate every"),
        null=True,
        blank=True,
        validators=[MinValueValidator(timedelta(seconds=1))],
        help_text=_("For example 10 min, 2 h or 1 d 4 h. If empty, the setting of the site applies."),
    )
    access_model = models.CharField(_("access model"), max_length=20, blank=True, default="")
    last_read = models.DateTimeField(_("last read"), default=timezone.now)
    pinned = models.BooleanField(
        _("pinned"),
        default=False,
        help_text=_("Kept even if nobody reads it: chosen by hand, imported, or of the account itself."),
    )
    item_count = models.PositiveIntegerField(_("items"), default=0)
    partial = models.BooleanField(_("partial"), default=False)
    evicted_count = models.PositiveIntegerField(_("evicted items"), default=0)
    next_position = models.BigIntegerField(_("next position"), default=1)
    # Incremented by each batch of notifications. Items and tombstones record it, so that a page requested before a
    # change does not undo the change.
    revision = models.BigIntegerField(_("revision"), default=0)
    purged_revision = models.BigIntegerField(_("revision of the last purge"), default=0)

    objects = PubsubNodeQuerySet.as_manager()
    #: When the row was read, by the database's clock; set by queries that ask for it.
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
        return label(f"{label(self.service, MAX_LABEL)} {self.name}", MAX_LABEL)

    @property
    def address(self) -> NodeAddress:
        """The service and name of the node."""
        return NodeAddress(self.service, self.name)

    @property
    def traits(self) -> NodeTraits:
        """How the service handles the node, stored in `extra`. To change a trait, assign a changed copy."""
        return NodeTraits.from_json(self.extra)

    @traits.setter
    def traits(self, traits: NodeTraits) -> None:
        self.extra = {key: value for key, value in self.extra.items() if key not in TRAITS} | traits.to_json()

    @property
    def is_order_unknown(self) -> bool:
        """Whether the order of the items at the service may differ from that in the cache."""
        return self.probe is not None

    def is_claimed(self, now: datetime | None = None) -> bool:
        """Whether a live process synchronises the node."""
        return bool(self.sync_owner) and clock.is_recent(self.sync_heartbeat, now or clock.now(), claim_timeout())

    def is_followed(self, now: datetime | None = None) -> bool:
        """Whether notifications have reported every change since `checked_at`.

        This requires a subscription, and one unbroken session since then.
        """
        return (
            self.subscribed
            and self.checked_at is not None
            and self.checked_token == self.account.fencing_token
            and self.account.is_online(now)
        )


class AnalyserChoice(models.Model):
    """The decision of staff on the nodes of one analyser, which overrides the analyser's own."""

    analyser = models.CharField(_("analyser"), max_length=100, unique=True)
    to_sync = models.BooleanField(
        _("synchronise"), null=True, default=None, help_text=_("Unknown: as the analyser is registered.")
    )

    class Meta:
        verbose_name = _("analyser")
        verbose_name_plural = _("analysers")

    def __str__(self) -> str:
        return self.analyser
