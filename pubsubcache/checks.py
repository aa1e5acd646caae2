"""System checks of the application.

- `pubsubcache.E001`: A `PUBSUBCACHE_*` setting has the wrong type or is too small.
- `pubsubcache.E002`: SQLite was built without FTS5.
- `pubsubcache.E003`: The encryption key is too short.
- `pubsubcache.E004`: A channel layer cannot be imported.
- `pubsubcache.W001`: SQLite does not use IMMEDIATE transactions.
- `pubsubcache.W002`: Nodes refer to an analyser that no app registers (only with `--database`).
- `pubsubcache.W003`: The language of the full text index differs from the setting (only with `--database`).
- `pubsubcache.W004`: The site sets a `PUBSUBCACHE_*` setting that was removed.
"""

from collections.abc import Sequence
from typing import Any

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections
from django.utils.module_loading import import_string

from pubsubcache.analysers import registry
from pubsubcache.conf import PREFIX, SHORT_KEY, Defaults, is_too_short, least, names, removed, settings
from pubsubcache.lookups.fulltext import postgresql, sqlite
from pubsubcache.models import PubsubNode


@register("pubsubcache")
def check_settings(app_configs: Sequence[Any] | None, **options: Any) -> list[CheckMessage]:
    """Check the types and the minimum values of the settings."""
    messages: list[CheckMessage] = []
    for name in names():
        default, value = getattr(Defaults, name), getattr(settings, name)
        kinds = (int, float) if isinstance(default, float) else type(default)
        if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(default, bool)):
            reason = f"must be of type {type(default).__name__}, got {type(value).__name__}."
        elif _is_number(value) and value < least(name):
            reason = f"must be >= {least(name)}, got {value!r}."
        elif isinstance(value, list) and not all(isinstance(member, str) for member in value):
            reason = "must be a list of strings."
        else:
            continue
        messages.append(Error(f"{PREFIX}{name} {reason}", hint=f"The default is {default!r}.", id="pubsubcache.E001"))
    return messages


@register("pubsubcache")
def check_encryption_key(app_configs: Sequence[Any] | None, **options: Any) -> list[CheckMessage]:
    """Check that the encryption key of passwords is long enough."""
    key = settings.ENCRYPTION_KEY
    if not isinstance(key, str) or not is_too_short(key):
        return []
    hint = "Then encrypt the passwords again: docs/security.md shows how."
    return [Error(SHORT_KEY, hint=hint, id="pubsubcache.E003")]


@register("pubsubcache")
def check_removed_settings(app_configs: Sequence[Any] | None, **options: Any) -> list[CheckMessage]:
    """Warn of settings that no longer exist."""
    return [
        Warning(
            f"{PREFIX}{name} has no effect: this setting was removed.",
            hint="Delete it from the settings and from the environment. docs/settings.md lists the settings there are.",
            id="pubsubcache.W004",
        )
        for name in removed()
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


@register("pubsubcache")
def check_sqlite(app_configs: Sequence[Any] | None, **options: Any) -> list[CheckMessage]:
    """Check that SQLite uses IMMEDIATE transactions, so that concurrent writers wait instead of failing."""
    return [
        Warning(
            f"The SQLite database {alias!r} does not use IMMEDIATE transactions: concurrent writes fail at once.",
            hint='Set "OPTIONS": {"transaction_mode": "IMMEDIATE"}.',
            id="pubsubcache.W001",
        )
        for alias in connections
        if connections[alias].vendor == "sqlite"
        and connections[alias].settings_dict["OPTIONS"].get("transaction_mode") != "IMMEDIATE"
    ]


@register("pubsubcache")
def check_fts5(app_configs: Sequence[Any] | None, **options: Any) -> list[CheckMessage]:
    """Check that SQLite was built with FTS5."""
    if all(connections[alias].vendor != "sqlite" for alias in connections) or sqlite.is_available():
        return []
    return [
        Error(
            "The SQLite of this Python was built without FTS5, which full text search needs.",
            hint="Use SQLite with FTS5, or PostgreSQL.",
            id="pubsubcache.E002",
        )
    ]


@register("pubsubcache")
def check_channel_layers(app_configs: Sequence[Any] | None, **options: Any) -> list[CheckMessage]:
    """Check that the channel layers are installed."""
    messages: list[CheckMessage] = []
    for alias, layer in getattr(django_settings, "CHANNEL_LAYERS", {}).items():
        backend = str(layer.get("BACKEND", ""))
        try:
            import_string(backend)
        except ImportError as error:
            hint = "pip install 'pubsubcache[redis]'" if backend.startswith("channels_redis.") else None
            message = f"The channel layer {alias!r} cannot be imported: {error}."
            messages.append(Error(message, hint=hint, id="pubsubcache.E004"))
    return messages


@register(Tags.database)
def check_language(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **options: Any
) -> list[CheckMessage]:
    """Check that the full text index has the language of the settings."""
    return [
        Warning(
            f"The language of the full text index is {language!r}, but the setting is {settings.SEARCH_LANGUAGE!r}.",
            hint="Run manage.py pubsub_reindex.",
            id="pubsubcache.W003",
        )
        for alias in databases or ()
        if connections[alias].vendor == "postgresql"
        and (language := postgresql.language_of(connections[alias])) not in (None, settings.SEARCH_LANGUAGE)
    ]


@register(Tags.database)
def check_analysers(
    app_configs: Sequence[Any] | None, databases: Sequence[str] | None = None, **options: Any
) -> list[CheckMessage]:
    """Check that the analysers of all nodes are registered."""
    messages: list[CheckMessage] = []
    for alias in databases or ():
        if PubsubNode._meta.db_table not in connections[alias].introspection.table_names():
            continue
        kept = PubsubNode.objects.using(alias).exclude(analyser="").values_list("analyser", flat=True).distinct()
        messages += [
            Warning(
                f"Nodes were matched by the analyser {name!r}, which no installed app registers.",
                hint="Install the app again, or synchronise the nodes to analyse them again.",
                id="pubsubcache.W002",
            )
            for name in kept.order_by("analyser")
            if registry.get(name) is None
        ]
    return messages
