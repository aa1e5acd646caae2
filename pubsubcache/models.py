"""The schema of the cache: accounts, their nodes, the nodes' items."""

from contextlib import suppress
from datetime import datetime, timedelta

from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_jsonfield_backport.models import JSONField

from pubsubcache import clock, jid
from pubsubcache.conf import settings
from pubsubcache.exceptions import InvalidRequest
from pubsubcache.fields import EncryptedTextField
from pubsubcache.lookups.hotkeys import KEYS, hot_key, hot_key_index
from pubsubcache.querysets import AccountQuerySet, PubsubItemManager, PubsubNodeQuerySet
from pubsubcache.types import Item, NodeAddress

MAX_PORT = 65535


def validate_account_jid(value: str) -> None:
    """Raise `ValidationError` when `value` is not the bare JID of an account."""
    try:
        jid.account(value)
    except InvalidRequest as error:
        raise ValidationError(str(error)) from error


class Account(models.Model):
    """An XMPP login, with the state of its session."""

    class Status(models.TextChoices):
        """What became of the account's session."""

        OFFLINE = "offline", _("offline")
        CONNECTING = "connecting", _("connecting")
        ONLINE = "online", _("online")
        AUTH_FAILED = "auth_failed", _("login refused")
        ERROR = "error", _("cannot connect")

    jid = models.CharField(
        _("JID"),
        max_length=2047,
        unique=True,
        validators=[validate_account_jid],
        help_text=_("The bare JID to log in with, such as alice@example.org."),
    )
    password = EncryptedTextField(_("password"), blank=True, default="", editable=False)
    host = models.CharField(
        _("host"), max_length=255, blank=True, help_text=_("Only if the domain's DNS records don't tell.")
    )
    port = models.PositiveIntegerField(_("port"), null=True, blank=True)
    tls_verify = models.BooleanField(
        _("verify TLS"), default=True, help_text=_("Refuse servers whose certificate is not trusted.")
    )
    ca_file = models.CharField(
        _("CA file"), max_length=1000, blank=True, help_text=_("A file of certificates to trust, beside the system's.")
    )
    enabled = models.BooleanField(_("enabled"), default=True, help_text=_("Workers keep a session of it."))
    owner = models.ForeignKey(
        django_settings.AUTH_USER_MODEL,
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="pubsub_accounts",
        verbose_name=_("owner"),
    )
    status = models.CharField(
        _("status"), max_length=20, choices=Status.choices, default=Status.OFFLINE, editable=False
    )
    status_detail = models.TextField(_("detail"), blank=True, default="", editable=False)
    session_started = models.DateTimeField(_("session started"), null=True, editable=False)
    heartbeat = models.DateTimeField(_("heartbeat"), null=True, editable=False)
    worker = models.CharField(_("worker"), max_length=100, blank=True, default="", editable=False)
    leaving = models.BooleanField(_("being removed"), default=False, editable=False)
    # Grows whenever a worker takes the account over, and whenever a session begins that has missed something.
    fencing_token = models.BigIntegerField(_("fencing token"), default=0, editable=False)

    objects = AccountQuerySet.as_manager()
    #: When the row was read, by the database's clock, where the query asked for that.
    as_of: datetime | None = None

    class Meta:
        verbose_name = _("account")
        verbose_name_plural = _("accounts")
        ordering = ["jid"]

    def __str__(self) -> str:
        return self.jid

    def clean(self) -> None:
        """Normalise the JID. Raises `ValidationError` unless host and port name a place to connect to."""
        with suppress(InvalidRequest):  # the field's validator reports it
            self.jid = jid.account(self.jid)
        errors: dict[str, ValidationError] = {}
        if self.host and not jid.is_host(self.host):
            errors["host"] = ValidationError(
                _("%(host)s is neither a host name nor an IP address."), params={"host": repr(self.host[:100])}
            )
        if isinstance(self.port, int):  # another value is reported by the field
            if not 1 <= self.port <= MAX_PORT:
                text = _("A port is a number from 1 to %(most)d.")
                errors["port"] = ValidationError(text, params={"most": MAX_PORT})
            elif not self.host:
                errors["port"] = ValidationError(_("A port needs a host."))
        if errors:
            raise ValidationError(errors)

    def is_held(self, now: datetime | None = None) -> bool:
        """Whether a worker that is alive holds this account at `now`, by the database's clock (`as_of`, or now)."""
        now = now or self.as_of or clock.now()
        return bool(self.worker) and clock.is_recent(self.heartbeat, now, settings.LEASE_TIMEOUT)

    def is_online(self, now: datetime | None = None) -> bool:
        """Whether a worker that is alive has a session of this account."""
        return self.status == self.Status.ONLINE and self.is_held(now)


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
    extra = JSONField(_("extra"), default=dict, blank=True)
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


class PubsubItem(models.Model):
    """An item of a node: its raw XML in normal form, and what the analyser's parser made of it."""

    # Without an index of its own: those below begin with it, and PostgreSQL would at times take the lesser one.
    node = models.ForeignKey(
        PubsubNode, on_delete=models.CASCADE, related_name="items", verbose_name=_("node"), db_index=False
    )
    name = models.TextField(_("item id"))
    data = models.TextField(_("XML"))
    parsed = JSONField(_("parsed"), null=True, blank=True, default=None)
    created = models.DateTimeField(_("created"), default=timezone.now)
    updated = models.DateTimeField(_("updated"), default=timezone.now)
    publisher = models.CharField(_("publisher"), max_length=3071, blank=True, default="")
    position = models.BigIntegerField(_("position"), default=0)
    parse_error = models.TextField(_("parse error"), blank=True, default="")
    text = models.TextField(_("text"), blank=True, default="")
    revision = models.BigIntegerField(_("revision"), default=0)
    # Kept by the database itself, see `lookups.hotkeys`.
    parsed_title = hot_key("title", _("title"))
    parsed_author = hot_key("author", _("author"))
    parsed_author_jid = hot_key("author_jid", _("author's JID"))
    parsed_published = hot_key("published", _("published"))
    parsed_updated = hot_key("updated", _("updated by its author"))
    parsed_start = hot_key("start", _("start"))

    objects = PubsubItemManager()

    class Meta:
        verbose_name = _("item")
        verbose_name_plural = _("items")
        constraints = [models.UniqueConstraint(fields=["node", "name"], name="pubsubcache_item_unique")]
        indexes = [
            models.Index(fields=["node", "position"], name="pubsubcache_item_position"),
            models.Index(fields=["node", "created", "position"], name="pubsubcache_item_created"),
            models.Index(fields=["node", "updated", "position"], name="pubsubcache_item_updated"),
            *(hot_key_index(key) for key in KEYS),
        ]

    def __str__(self) -> str:
        return self.name

    def as_item(self) -> Item:
        """Return the item as readers get it."""
        return Item(
            id=self.name,
            xml=self.data,
            parsed=self.parsed,
            publisher=self.publisher or None,
            created=self.created,
            updated=self.updated,
        )


class PubsubEvicted(models.Model):
    """An item that the service has and the cache does not: its id and place are known, so that pages stay exact.

    Without a `reason` it was purged or is over a limit, and reads ask the service for it. With a `reason` the item
    is left out: it cannot be kept, and no read asks for it.
    """

    node = models.ForeignKey(PubsubNode, on_delete=models.CASCADE, related_name="evicted")
    name = models.TextField()
    position = models.BigIntegerField()
    created = models.DateTimeField()
    updated = models.DateTimeField()
    reason = models.TextField(blank=True, default="")
    revision = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = _("purged item")
        verbose_name_plural = _("purged items")
        constraints = [models.UniqueConstraint(fields=["node", "name"], name="pubsubcache_evicted_unique")]
        indexes = [
            models.Index(fields=["node", "position"], name="pubsubcache_evicted_position"),
            models.Index(fields=["node", "position"], condition=~models.Q(reason=""), name="pubsubcache_left_out"),
        ]

    def __str__(self) -> str:
        return self.name


class PubsubTombstone(models.Model):
    """An item retracted while its node was being synchronised: a page asked for before must not bring it back."""

    node = models.ForeignKey(PubsubNode, on_delete=models.CASCADE, related_name="tombstones")
    name = models.TextField()
    revision = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["node", "name"], name="pubsubcache_tombstone_unique")]

    def __str__(self) -> str:
        return self.name


class PendingUnsubscription(models.Model):
    """A subscription that is to be given up at the service as soon as a worker can."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="pending_unsubscriptions")
    service = models.CharField(max_length=2047)
    name = models.TextField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "service", "name"], name="pubsubcache_pending_unique")
        ]

    def __str__(self) -> str:
        return f"{self.service} {self.name}"
