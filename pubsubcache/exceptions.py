"""The errors of the application, all under one base.

Commands turn them into the exit codes given by `exit_code`; their text is one sentence for people.
"""

from pubsubcache.utils.cleaning import one_line

MAX_CONDITION = 100
MAX_WORDS = 500  # characters of what a service says


class PubsubCacheError(Exception):
    """Base of all errors of the application.

    A text may quote a remote entity, so it is reduced to one clean line of bounded length.
    """

    exit_code = 1

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(one_line(given) if isinstance(given, str) else given for given in arguments))


class InvalidRequest(PubsubCacheError, ValueError):
    """A request that has no meaning, such as a malformed JID or a negative number of items."""


class NotInCache(PubsubCacheError):
    """What was asked is not in the cache, and asking the service was not allowed."""

    exit_code = 3


class ServiceError(PubsubCacheError):
    """The service refused: `condition` is the stanza error condition (RFC 6120, 8.3.3), `text` its words."""

    exit_code = 4

    def __init__(self, condition: str, text: str = "") -> None:
        self.condition = one_line(condition) if len(condition) <= MAX_CONDITION else "undefined-condition"
        self.text = one_line(text, MAX_WORDS)
        super().__init__(f"The service refused: {self.condition}" + (f" ({self.text})" if self.text else "") + ".")

    def __reduce__(self) -> tuple[type["ServiceError"], tuple[str, str]]:
        return type(self), (self.condition, self.text)


class ItemNotFound(ServiceError):
    """The node, or an item that a request refers to, does not exist (item-not-found, gone)."""

    def __init__(self, condition: str = "item-not-found", text: str = "") -> None:
        super().__init__(condition, text)


class Forbidden(ServiceError):
    """The account may not read the node (forbidden, not-authorized and their like)."""


class ServiceUnreachable(PubsubCacheError):
    """The service cannot be asked: no connection, no session, or no answer in time."""

    exit_code = 5


class AuthenticationFailed(ServiceUnreachable):
    """The server did not accept the account's JID and password."""


class UntrustedServer(ServiceUnreachable):
    """The server's certificate is not trusted, or it offers no TLS."""


class SyncInProgress(PubsubCacheError):
    """Another process is synchronising the node."""


class SyncFailed(PubsubCacheError):
    """The synchronisation did not come to its end; the text says why."""


class LeaseLost(PubsubCacheError):
    """This worker no longer acts for the account, so it may not write for it."""


class NoLongerKept(SyncFailed):
    """The analysers, asked again, do not synchronise the node any more."""


class ParseError(PubsubCacheError):
    """An item that cannot be parsed: raised by parsers, kept in the item's `parse_error`."""


class TooLarge(PubsubCacheError):
    """What a remote entity sent is over a bound of ours (size, depth or count)."""


class NodeTooLarge(TooLarge):
    """A node lists more than the cache goes through; it is tried again rarely."""


class DamagedFile(PubsubCacheError):
    """What is to be imported is no export, or not as it was written; the text names the line."""


class MigrationsPending(PubsubCacheError):
    """The database is not up to date, and may not be migrated by itself."""


FORBIDDEN_CONDITIONS = frozenset(
    {
        "forbidden",
        "not-authorized",
        "not-allowed",
        "subscription-required",
        "registration-required",
        "payment-required",
        "closed-node",
        "presence-subscription-required",
        "not-in-roster-group",
    }
)

# Conditions that speak of a service being down rather than of it refusing.
UNREACHABLE_CONDITIONS = frozenset(
    {
        "remote-server-not-found",
        "remote-server-timeout",
        "service-unavailable",
        "resource-constraint",
        "internal-server-error",
        "recipient-unavailable",
    }
)


def service_error(condition: str, text: str = "") -> ServiceError:
    """Return the error for a stanza error condition, in the most telling class."""
    if condition in {"item-not-found", "gone"}:
        return ItemNotFound(condition, text)
    if condition in FORBIDDEN_CONDITIONS:
        return Forbidden(condition, text)
    return ServiceError(condition, text)
