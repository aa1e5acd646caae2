"""Settings of the application with typed defaults; the only module that reads `django.conf.settings`.

Each attribute of `Defaults` is a setting: `conf.settings.MAX_AGE` returns the Django setting `PUBSUBCACHE_MAX_AGE`, or
the default if it is not set. Settings are read at each use, so that `override_settings` works.
"""

from collections.abc import Callable
from typing import Any

from django.conf import settings as django_settings

PREFIX = "PUBSUBCACHE_"
#: Settings that earlier versions had, without the prefix. A system check names those that a site still sets.
REMOVED = (
    "EVENT_BATCH_SIZE",
    "EVENT_QUEUE_BYTES",
    "EVENT_QUEUE_SIZE",
    "HEARTBEAT_INTERVAL",
    "KEEPALIVE_INTERVAL",
    "MAX_ITEM_DEPTH",
    "MIGRATE_BACKUPS",
    "POLL_INTERVAL",
    "RECONNECT_DELAY",
    "SYNC_CLAIM_TIMEOUT",
    "UNAVAILABLE_ANSWERS",
    "UNAVAILABLE_PERIOD",
)
YES = ("1", "true", "yes", "on", "y", "t", "ok")
NO = ("0", "false", "no", "off", "n", "f")
MIN_KEY_LENGTH = 32  # characters of the encryption key
SHORT_KEY = (
    f"{PREFIX}ENCRYPTION_KEY has fewer than {MIN_KEY_LENGTH} characters. Move it to "
    f"{PREFIX}ENCRYPTION_KEY_FALLBACKS, which still decrypts, and set a longer one."
)


class Defaults:
    """Defaults of the PUBSUBCACHE_* settings. Times are in seconds, sizes in bytes."""

    # Start
    AUTO_MIGRATE: bool = False  # commands that write migrate pubsubcache's tables; False: they refuse to start
    # Reading
    MAX_AGE: float = 300.0  # how long a node that nobody follows is trusted after it was checked
    READ_TIMEOUT: float = 60.0  # how long a read of the service may take, whatever the number of requests
    # Synchronising
    PAGE_SIZE: int = 100  # items asked for in one page
    MAX_NODE_ITEMS: int = 100_000  # of a larger node only the newest are kept
    SYNC_CONCURRENCY: int = 4  # nodes synchronised at once by one worker
    SYNC_TIMEOUT: float = 3600.0  # how long one synchronisation may take, whatever progress it makes
    RETRY_DELAY: float = 30.0  # before a failed synchronisation is tried again; doubles each time
    RETRY_MAX_DELAY: float = 3600.0
    RECONCILE_INTERVAL: float = 3600.0  # the ids of a followed node are compared with the service's so often
    COMPARE_INTERVAL: float = 86_400.0  # and its contents so often
    # Keeping
    UNREAD_NODE_AGE: float = 30 * 86_400.0  # an unpinned node that nobody read for so long is forgotten
    MAX_UNPINNED_NODES: int = 10_000  # of one account; past it the least recently read are forgotten
    SYNC_RUN_AGE: float = 30 * 86_400.0  # records of synchronisations are kept for so long
    MAX_SYNC_RUNS: int = 20_000  # of one account; past it the oldest are removed
    # XMPP
    CONNECT_TIMEOUT: float = 20.0
    IQ_TIMEOUT: float = 30.0  # how long a service may take to answer one request
    RECONNECT_MAX_DELAY: float = 60.0  # longest wait before a lost session is opened again
    ALLOW_PLAINTEXT_AUTH: bool = False  # SASL PLAIN, inside TLS only
    MAX_STANZA_SIZE: int = 64 * 1024 * 1024
    MAX_ITEM_SIZE: int = 4 * 1024 * 1024
    # Search
    SEARCH_LANGUAGE: str = "simple"  # PostgreSQL's text search configuration; `pubsub_reindex` applies it
    # Workers
    CHANNEL: str = "pubsubcache"  # channel on which workers listen for requests
    LEASE_TIMEOUT: float = 12.0  # an account whose worker was silent for so long is taken by another
    RPC_TIMEOUT: float = 60.0  # how long a web process waits for a worker's answer
    # Safety
    CA_FOLDER: str = ""  # where staff may choose CA files of accounts; empty: only commands set any
    ENCRYPTION_KEY: str = ""  # for the accounts' passwords; empty: derived from SECRET_KEY
    ENCRYPTION_KEY_FALLBACKS: list[str] = []  # keys of before, which only decrypt


class Settings(Defaults):
    """Gives access to the settings as attributes, see the module docstring."""

    def __getattribute__(self, name: str) -> Any:
        default = super().__getattribute__(name)
        if name.isupper():
            return getattr(django_settings, PREFIX + name, default)
        return default


settings = Settings()


def names() -> list[str]:
    """Return the names of all settings, without the prefix, in the order of their definition."""
    return [name for name in vars(Defaults) if name.isupper()]


def removed() -> list[str]:
    """Return the removed settings that the site still sets, without the prefix."""
    return [name for name in REMOVED if hasattr(django_settings, PREFIX + name)]


def least(name: str) -> int:
    """Return the smallest value of a setting that is a number: whole numbers are counts of at least 1."""
    return 1 if isinstance(getattr(Defaults, name), int) else 0


def from_environment(env: Any) -> dict[str, Any]:
    """Read the settings that are set in the environment.

    Args:
        env: An `environ.Env`.

    Returns:
        The settings that the environment sets, with the prefix, each in the type of its default. Removed settings are
        among them as text, for the system check that warns of them.

    Raises:
        ImproperlyConfigured: A value has the wrong type.
    """
    from django.core.exceptions import ImproperlyConfigured

    found: dict[str, Any] = {
        PREFIX + name: env.get_value(PREFIX + name, cast=str) for name in REMOVED if PREFIX + name in env.ENVIRON
    }
    for name in names():
        if (variable := PREFIX + name) not in env.ENVIRON:
            continue
        kind = type(getattr(Defaults, name))
        text = env.get_value(variable, cast=str)
        try:
            found[variable] = _CASTS[kind](text)
            if kind in (int, float) and not least(name) <= found[variable] < float("inf"):
                raise ValueError
        except ValueError:
            raise ImproperlyConfigured(f"{variable} must be {_KINDS[kind]}, got {text!r:.50}.") from None
    return found


def _bool(text: str) -> bool:
    word = text.strip().lower()
    if word not in YES + NO:
        raise ValueError
    return word in YES


def _list(text: str) -> list[str]:
    return [member for member in text.split(",") if member]


def is_too_short(key: str) -> bool:
    """Return whether `key` is too short for an encryption key; an empty string means that there is no key."""
    return 0 < len(key) < MIN_KEY_LENGTH


# The casts of environ convert any word to False, and find a number in any text.
_CASTS: dict[type, Callable[[str], Any]] = {bool: _bool, int: int, float: float, str: str, list: _list}
_KINDS = {bool: "true or false", int: "an integer >= 1", float: "a number >= 0", str: "a string"}
