"""Receivers of Django's signals: wake workers, register SQLite functions, repair indexes after migrations."""

from typing import Any

from django.apps import AppConfig
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models.signals import post_delete, post_migrate, post_save
from django.dispatch import receiver

from pubsubcache.lookups.conditions import sqlite
from pubsubcache.lookups.fulltext import schema
from pubsubcache.models import Account
from pubsubcache.services import remote


@receiver([post_save, post_delete], sender=Account, dispatch_uid="pubsubcache_account_changed")
def account_changed(sender: type[Account], **named: Any) -> None:
    """Wake the workers, so that they start, change or end the session of an account at once."""
    transaction.on_commit(remote.wake, using=named["using"])


@receiver(connection_created, dispatch_uid="pubsubcache_sqlite_functions")
def connected(connection: BaseDatabaseWrapper, **named: Any) -> None:
    """Register the functions that searches call on new SQLite connections."""
    sqlite.register(connection)


@receiver(post_migrate, dispatch_uid="pubsubcache_migrated")
def migrated(app_config: AppConfig, using: str, **named: Any) -> None:
    """Restore the search indexes on SQLite after a migration of the table of items."""
    if app_config.name == "pubsubcache":
        schema.repair(using)
