"""The application as this project installs it."""

from pubsubcache.apps import PubsubCacheConfig


class SiteCacheConfig(PubsubCacheConfig):
    """Migrates the whole site when a command starts: the database belongs to this project."""

    def prepare_database(self) -> None:
        """Create or migrate the database if needed. Raises `MigrationsPending`."""
        from pubsubcache import database

        database.prepare(whole_site=True)
