"""JIDs as text (RFC 7622), as far as the cache must tell them apart.

The XMPP library prepares what goes on the wire; here addresses are checked and brought to the one
spelling under which rows are kept, without loading it.
"""

import ipaddress
import unicodedata
from functools import lru_cache

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.utils import texts

MAX_LABEL = 63
MAX_HOST = 253
_NOT_IN_LOCALPART = set("\"&'/:<>@ ")
MAX_PART_BYTES = 1023
MAX_LENGTH = 4 * 3 * MAX_PART_BYTES  # characters before normalisation, which makes one of four at most


def _domain_is_valid(domain: str) -> bool:
    if domain.startswith("[") and domain.endswith("]"):
        try:
            return ipaddress.IPv6Address(domain[1:-1]).scope_id is None
        except ValueError:
            return False
    return all(_label_is_valid(label) for label in domain.split("."))


def _label_is_valid(label: str) -> bool:
    if not 0 < len(label) <= MAX_LABEL or label[0] == "-" or label[-1] == "-":
        return False
    return all(
        character.isalnum() or character in "-_" or unicodedata.category(character).startswith("M")
        for character in label
    )


@lru_cache(maxsize=1000)  # each read and each notification names JIDs, and mostly the same ones
def normalise(text: str) -> str:
    """Return the JID `text` in the spelling under which it is kept. Raises `InvalidRequest`."""
    if len(text) > MAX_LENGTH:
        raise InvalidRequest(f"{text!r:.100} is not a JID: it is too long.")
    rest, slash, resource = text.strip().partition("/")
    local, at, domain = rest.rpartition("@")
    local = texts.normalise("NFC", local).lower()
    domain = texts.normalise("NFC", domain).lower().rstrip(".")
    if (
        (at and not local)
        or (slash and not resource)
        or any(character in _NOT_IN_LOCALPART or not character.isprintable() for character in local)
        or not all(character.isprintable() for character in resource)
        or any(len(part.encode(errors="replace")) > MAX_PART_BYTES for part in (local, domain, resource))
        or not _domain_is_valid(domain)
    ):
        raise InvalidRequest(f"{text!r:.100} is not a JID.")
    return f"{local}{at}{domain}{slash}{resource}"


def bare(text: str) -> str:
    """Return the JID `text` without its resource, normalised. Raises `InvalidRequest`."""
    return normalise(text).partition("/")[0]


def domain(text: str) -> str:
    """Return the domain of the JID `text`, which is normalised."""
    return text.partition("/")[0].rpartition("@")[2]


def account(text: str) -> str:
    """Return the bare JID of a login: it has a localpart and no resource. Raises `InvalidRequest`."""
    jid = normalise(text)
    if "/" in jid or "@" not in jid:
        raise InvalidRequest(f"{text!r} is not the bare JID of an account, such as alice@example.org.")
    return jid


def is_host(text: str) -> bool:
    """Whether `text` is a host name (RFC 1123, internationalised too) or an IP address without brackets.

    A name that ends in a number is neither: resolvers read some of them as addresses.
    """
    try:
        return getattr(ipaddress.ip_address(text), "scope_id", None) is None
    except ValueError:
        labels = text.removesuffix(".").split(".")
    return len(text) <= MAX_HOST and all(map(_label_is_valid, labels)) and not labels[-1].isnumeric()
