"""The configuration of the Django app."""

from typing import TYPE_CHECKING

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from pubsubcache.bots import CacheOfAccount
    from pubsubcache.services.protocol import PubsubService


class PubsubCacheConfig(AppConfig):
    """Registers the analysers of all installed apps, the system checks and the signal receivers."""

    name = "pubsubcache"
    verbose_name = _("Pubsub cache")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register everything. Runs no database query."""
        from pubsubcache import checks, receivers  # noqa: F401

        autodiscover_modules("pubsub_analysers")

    def prepare_database(self) -> None:
        """Migrate the tables of pubsubcache before a command writes, if the site opted in.

        A project may override this method, for example to migrate all apps.

        Raises:
            MigrationsPending: The database is not up to date, and commands may not migrate it.
        """
        from pubsubcache import database

        database.prepare()

    def cache_of(self, account: str, service: "PubsubService") -> "CacheOfAccount":
        """Return the cache of an account for an XMPP client.

        Args:
            account: The bare JID of the account.
            service: Sends requests through the client.
        """
        from pubsubcache.bots import CacheOfAccount

        return CacheOfAccount(account, service)
