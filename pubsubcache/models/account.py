"""Accounts: XMPP logins and the state of their sessions."""

from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.translation import gettext_lazy as _

from pubsubcache.conf import settings
from pubsubcache.exceptions import InvalidRequest
from pubsubcache.models.fields import EncryptedTextField
from pubsubcache.models.timed import TimedQuerySet, heartbeat_expired
from pubsubcache.utils import clock, jid

MAX_PORT = 65535
ALL_ACCOUNTS = "pubsubcache.all_accounts"  # the permission


def is_visible_to(user: Any, owner: str) -> models.Q:
    """Return the condition that a user of the site may see an account.

    Args:
        user: The user, who sees their own accounts, or all with the permission `all_accounts`.
        owner: The lookup of the owner of the account, such as "account__owner".
    """
    if user.has_perm(ALL_ACCOUNTS):
        return models.Q()
    return models.Q(**{f"{owner}__in": [user.pk]})  # matches nothing if the user is not logged in


class AccountQuerySet(TimedQuerySet["Account"]):
    """Queries for accounts."""

    def visible_to(self, user: Any) -> Self:
        """Return the accounts that a user of the site may see; see `is_visible_to`."""
        return self.filter(is_visible_to(user, "owner"))

    def enabled(self) -> Self:
        """Return the accounts for which workers keep a session."""
        return self.filter(enabled=True)

    def available_to(self, worker: str, now: datetime | None = None) -> Self:
        """Return the accounts that `worker` holds and those without a live worker."""
        return self.filter(
            models.Q(worker__in=["", worker]) | heartbeat_expired("heartbeat", settings.LEASE_TIMEOUT, now)
        )

    def with_progress(self) -> Self:
        """Annotate the accounts with their progress.

        `as_of` is the current time, `number_of_nodes` the number of nodes, and `number_waiting` the number of those
        that wait for their first full sync or for a revalidation.
        """
        nodes = models.Count("nodes")
        unchecked = models.Q(nodes__checked_at__isnull=True) | ~models.Q(nodes__checked_token=models.F("fencing_token"))
        waiting = models.Q(nodes__sync_state__isnull=True) | models.Q(nodes__sync_state="IN_PROGRESS")
        waiting |= models.Q(nodes__sync_state="COMPLETED") & unchecked
        return self.with_time().annotate(number_of_nodes=nodes, number_waiting=models.Count("nodes", filter=waiting))


def validate_account_jid(value: str) -> None:
    """Raise `ValidationError` unless `value` is the bare JID of an account."""
    try:
        jid.account(value)
    except InvalidRequest as error:
        raise ValidationError(str(error)) from error


if TYPE_CHECKING:
    _CharField = models.CharField[str, str]
else:
    _CharField = models.CharField


class AccountJIDField(_CharField):
    """The bare JID of an account. Migrations see a `CharField`, so they do not depend on our validators."""

    default_validators = [validate_account_jid]

    def deconstruct(self) -> Any:
        """Describe the field to migrations as a `CharField`."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.CharField", args, kwargs


class Account(models.Model):
    """An XMPP login and the state of its session."""

    class Status(models.TextChoices):
        """The state of the account's session."""

        OFFLINE = "offline", _("offline")
        CONNECTING = "connecting", _("connecting")
        ONLINE = "online", _("online")
        AUTH_FAILED = "auth_failed", _("login refused")
        ERROR = "error", _("cannot connect")

    jid = AccountJIDField(
        _("JID"),
        max_length=2047,
        unique=True,
        help_text=_("The bare JID to log in with, such as alice@example.org."),
    )
    password = EncryptedTextField(_("password"), blank=True, default="", editable=False)
    host = models.CharField(
        _("host"), max_length=255, blank=True, help_text=_("Only if the domain has no DNS records for XMPP.")
    )
    port = models.PositiveIntegerField(_("port"), null=True, blank=True)
    tls_verify = models.BooleanField(
        _("verify TLS"), default=True, help_text=_("Refuse servers whose certificate is not trusted.")
    )
    ca_file = models.CharField(
        _("CA file"), max_length=1000, blank=True, help_text=_("A file of certificates to trust, beside the system's.")
    )
    enabled = models.BooleanField(_("enabled"), default=True, help_text=_("Workers keep a session for it."))
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
    # Incremented when a worker takes over the account, and when a session starts that may have missed something.
    fencing_token = models.BigIntegerField(_("fencing token"), default=0, editable=False)

    objects = AccountQuerySet.as_manager()
    #: When the row was read, by the database's clock; set by queries that ask for it.
    as_of: datetime | None = None

    class Meta:
        verbose_name = _("account")
        verbose_name_plural = _("accounts")
        ordering = ["jid"]
        permissions = [("all_accounts", "Can see and steer the accounts of all owners")]

    def __str__(self) -> str:
        return self.jid

    def clean(self) -> None:
        """Normalise the JID and validate host and port.

        Raises:
            ValidationError: The host or port is invalid, or there is a port without a host.
        """
        with suppress(InvalidRequest):  # the field's validator reports it
            self.jid = jid.account(self.jid)
        errors: dict[str, ValidationError] = {}
        if self.host and not jid.is_host(self.host):
            errors["host"] = ValidationError(
                _("%(host)s is neither a host name nor an IP address."), params={"host": repr(self.host[:100])}
            )
        if isinstance(self.port, int):  # the field reports other values
            if not 1 <= self.port <= MAX_PORT:
                text = _("A port is a number from 1 to %(most)d.")
                errors["port"] = ValidationError(text, params={"most": MAX_PORT})
            elif not self.host:
                errors["port"] = ValidationError(_("A port needs a host."))
        if errors:
            raise ValidationError(errors)

    def is_held(self, now: datetime | None = None) -> bool:
        """Whether a live worker holds this account.

        Args:
            now: The time by the database's clock. The default is `as_of`, or else the current time.
        """
        now = now or self.as_of or clock.now()
        return bool(self.worker) and clock.is_recent(self.heartbeat, now, settings.LEASE_TIMEOUT)

    def is_online(self, now: datetime | None = None) -> bool:
        """Whether a live worker has an open session for this account; see `is_held` for `now`."""
        return self.status == self.Status.ONLINE and self.is_held(now)


class PendingUnsubscription(models.Model):
    """A subscription that a worker will end at the service as soon as it can."""

    account = models.ForeignKey(Account, on_delete=models.CASCADE, related_name="pending_unsubscriptions")
    service = models.CharField(max_length=2047)
    name = models.TextField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["account", "service", "name"], name="pubsubcache_pending_unique")
        ]

    def __str__(self) -> str:
        return f"{self.service} {self.name}"
