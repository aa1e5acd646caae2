"""The application's entry in INSTALLED_APPS."""

from typing import TYPE_CHECKING

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from pubsubcache.bots import CacheOfAccount
    from pubsubcache.services.protocol import PubsubService


class PubsubCacheConfig(AppConfig):
    """Finds the analysers of every installed app, and connects checks and receivers."""

    name = "pubsubcache"
    verbose_name = _("Pubsub cache")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Runs no query."""
        from pubsubcache import checks, receivers  # noqa: F401

        autodiscover_modules("pubsub_analysers")

    def prepare_database(self) -> None:
        """Migrate the tables of pubsubcache before a command writes, if the site opted in; a project may do more.

        Raises:
            MigrationsPending: The database is not up to date, and is not to be migrated by a command.
        """
        from pubsubcache import database

        database.prepare()

    def cache_of(self, account: str, service: "PubsubService") -> "CacheOfAccount":
        """Return the cache of the account `account` (a bare JID) for a client that reaches services by `service`."""
        from pubsubcache.bots import CacheOfAccount

        return CacheOfAccount(account, service)
