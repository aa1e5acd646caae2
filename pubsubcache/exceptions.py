"""The exceptions of the application, with a common base class.

The text of each is one readable sentence. Commands exit with its `exit_code`.
"""

from pubsubcache.utils.cleaning import one_line

MAX_CONDITION = 100
MAX_WORDS = 500  # characters of the text of a service


class PubsubCacheError(Exception):
    """Base class of all exceptions of the application.

    The text may quote a remote entity, so it is reduced to one clean line of bounded length.
    """

    exit_code = 1

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(one_line(given) if isinstance(given, str) else given for given in arguments))


class InvalidRequest(PubsubCacheError, ValueError):
    """The request is invalid, for example because of a malformed JID or a negative number of items."""


class NotInCache(PubsubCacheError):
    """The answer is not in the cache, and the request did not allow asking the service."""

    exit_code = 3


class ServiceError(PubsubCacheError):
    """The service refused the request.

    Args:
        condition: The stanza error condition (RFC 6120, 8.3.3).
        text: The text of the error, from the service.
    """

    exit_code = 4

    def __init__(self, condition: str, text: str = "") -> None:
        cleaned = one_line(condition)
        self.condition = cleaned if len(cleaned) <= MAX_CONDITION else "undefined-condition"
        self.text = one_line(text, MAX_WORDS)
        super().__init__(f"The service refused: {self.condition}" + (f" ({self.text})" if self.text else "") + ".")

    def __reduce__(self) -> tuple[type["ServiceError"], tuple[str, str]]:
        return type(self), (self.condition, self.text)


class ItemNotFound(ServiceError):
    """The node, or an item that a request refers to, does not exist (item-not-found, gone)."""

    def __init__(self, condition: str = "item-not-found", text: str = "") -> None:
        super().__init__(condition, text)


class Forbidden(ServiceError):
    """The account is not allowed to read the node (forbidden, not-authorized and similar conditions)."""


class ServiceUnreachable(PubsubCacheError):
    """The service cannot be reached: there is no connection, no session, or no answer in time."""

    exit_code = 5


class AuthenticationFailed(ServiceUnreachable):
    """The server rejected the JID or the password of the account."""


class UntrustedServer(ServiceUnreachable):
    """The certificate of the server is not trusted, or the server does not offer TLS."""


class SyncInProgress(PubsubCacheError):
    """Another process is synchronising the node."""


class SyncFailed(PubsubCacheError):
    """The synchronisation failed; the text gives the reason."""


class LeaseLost(PubsubCacheError):
    """This worker lost the lease of the account, so it must not write for it."""


class JobLost(PubsubCacheError):
    """The job has ended, or another process has taken it over."""


class NoLongerKept(SyncFailed):
    """The analysers no longer keep the node in sync."""


class ParseError(PubsubCacheError):
    """The item cannot be parsed. Raised by parsers; the text is stored in `PubsubItem.parse_error`."""


class TooLarge(PubsubCacheError):
    """Data from a remote entity exceeds a limit of size, depth or count."""


class NodeTooLarge(TooLarge):
    """A node lists more items than the cache accepts. It is retried rarely."""


class DamagedFile(PubsubCacheError):
    """The imported file is not an export, or it is damaged; the text names the line."""


class MigrationsPending(PubsubCacheError):
    """The database needs migrations, and automatic migration is not allowed."""


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

# Conditions that mean that a service is down rather than that it refuses the request.
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
    """Return an exception of the most specific class for a stanza error condition."""
    if condition in {"item-not-found", "gone"}:
        return ItemNotFound(condition, text)
    if condition in FORBIDDEN_CONDITIONS:
        return Forbidden(condition, text)
    return ServiceError(condition, text)
