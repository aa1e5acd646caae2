"""Validates and normalises JIDs like slixmpp and the usual servers (RFC 6122: stringprep and IDNA).

Rows store normalised JIDs. This module does not import slixmpp, but agrees with it: slixmpp does not change a JID that
was normalised here.
"""

import ipaddress
import re
import stringprep
import unicodedata
from collections.abc import Callable
from functools import lru_cache

import idna

from pubsubcache.exceptions import InvalidRequest

MAX_LABEL = 63
MAX_HOST = 253
MAX_PART_BYTES = 1023
# Characters before preparation. It shortens text noticeably only if that is padded with invisible characters.
MAX_LENGTH = 4 * MAX_PART_BYTES
_FULL_STOP = "\u3002"  # also separates labels (RFC 3490, 3.1), but nameprep keeps it
_NOT_IN_DOMAIN = set(" #%/:<>?@[\\]^|\x7f").union(map(chr, range(0x20)))  # URL Standard, "forbidden domain code point"
_USUAL = re.compile("[a-z0-9._-]*")  # needs no preparation in any part

Table = Callable[[str], bool]
_REFUSED: list[Table] = [
    stringprep.in_table_c12,
    stringprep.in_table_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
]
_REFUSED_IN_RESOURCE = [*_REFUSED, stringprep.in_table_c21]
_REFUSED_IN_LOCALPART = [*_REFUSED_IN_RESOURCE, stringprep.in_table_c11, set("\"&'/:<>@").__contains__]


def _folded(character: str) -> str:
    """Return `character` in lower case (RFC 3454, B.2), ignoring mappings of Python that are newer than Unicode 3.2."""
    folded = stringprep.map_table_b2(character)
    return character if any(map(stringprep.in_table_a1, folded)) else folded


def _prepared(text: str, refused: list[Table], fold: Callable[[str], str] = str) -> str:
    """Prepare `text` with a profile of stringprep (RFC 3454). Raises `ValueError`.

    Characters newer than Unicode 3.2 are refused before normalisation, as the RFC demands. Otherwise some would become
    older characters, and the result would not be stable.
    """
    if _USUAL.fullmatch(text):
        return text
    if any(map(stringprep.in_table_a1, set(text))):
        raise ValueError("a character that Unicode 3.2 does not have")
    mapped = "".join(fold(character) for character in text if not stringprep.in_table_b1(character))
    made = unicodedata.normalize("NFKC", mapped)
    characters = set(made)
    if any(is_refused(character) for character in characters for is_refused in [*refused, stringprep.in_table_a1]):
        raise ValueError("a character that is not allowed")
    directions = set(map(unicodedata.bidirectional, characters))
    if directions & {"R", "AL"} and (
        "L" in directions or not {unicodedata.bidirectional(end) for end in (made[0], made[-1])} <= {"R", "AL"}
    ):
        raise ValueError("text in two directions")
    return made


def _prepared_domain(text: str) -> str:
    """Prepare `text` as the domain of a JID. Raises `ValueError`."""
    if text.startswith("[") and text.endswith("]"):
        if ipaddress.IPv6Address(text[1:-1]).scope_id is not None:
            raise ValueError("an address with a scope id")
        return text.lower()
    text = text.removesuffix(".")
    _check_domain(text)
    return _prepared(text, _REFUSED, _folded).replace(_FULL_STOP, ".")


def _check_domain(text: str) -> None:
    """Raise `ValueError` unless `text` is a domain name (UTS #46, 4.1)."""
    name = idna.uts46_remap(text, std3_rules=False)
    if not _NOT_IN_DOMAIN.isdisjoint(name):
        raise ValueError("a character that is not allowed")
    labels = name.split(".")
    decoded = [_decoded(label) for label in labels]
    beyond_ascii = "".join(label for label in decoded if not label.isascii())
    has_two_directions = not {"R", "AL", "AN"}.isdisjoint(map(unicodedata.bidirectional, beyond_ascii))
    for label in decoded:
        idna.check_hyphen_ok(label)
        idna.check_initial_combiner(label)
        if has_two_directions:
            idna.check_bidi(label, check_ltr=True)
        if not all(idna.valid_contextj(label, place) for place, one in enumerate(label) if one in "\u200c\u200d"):
            raise ValueError("a joiner in the wrong context")
    if len(".".join(map(_encoded, labels))) > MAX_HOST:
        raise ValueError("too long")


def _encoded(label: str) -> str:
    made = label if label.isascii() else f"xn--{label.encode('punycode').decode()}"
    if not 0 < len(made) <= MAX_LABEL:
        raise ValueError("a label that is too long, or empty")
    return made


def _decoded(label: str) -> str:
    """Decode a label that may be encoded with IDNA. Raises `ValueError` if the encoding is not valid."""
    encoded = label.removeprefix("xn--")
    if encoded == label:
        return label
    made = _encoded(label)[4:].encode().decode("punycode")
    if made.isascii() or _encoded(made) != label or idna.uts46_remap(made, std3_rules=False) != made:
        raise ValueError("a label with an invalid encoding")
    return made


@lru_cache(maxsize=1000)  # reads and notifications mostly contain the same JIDs
def normalise(text: str) -> str:
    """Return the JID `text` in its normal form.

    White space around the JID is removed, except in a resource, and so is a dot at the end of the domain.

    Raises:
        InvalidRequest: `text` is not a JID.
    """
    if len(text) > MAX_LENGTH:
        raise InvalidRequest(f"{text!r:.100} is not a JID: it is too long.")
    rest, slash, resource = text.partition("/")
    local, at, domain = rest.lstrip().rpartition("@")
    try:
        local = _prepared(local, _REFUSED_IN_LOCALPART, _folded)
        domain = _prepared_domain(domain if slash else domain.rstrip())
        resource = _prepared(resource, _REFUSED_IN_RESOURCE)
    except (ValueError, IndexError) as error:
        raise InvalidRequest(f"{text!r:.100} is not a JID.") from error
    if (
        (at and not local)
        or (slash and not resource)
        or any(len(part.encode()) > MAX_PART_BYTES for part in (local, domain, resource))
    ):
        raise InvalidRequest(f"{text!r:.100} is not a JID.")
    return f"{local}{at}{domain}{slash}{resource}"


def bare(text: str) -> str:
    """Return the normalised JID `text` without its resource. Raises `InvalidRequest`.

    The resource is not checked, because servers accept some that slixmpp refuses, such as those with an emoji.
    """
    return normalise(text.partition("/")[0])


def domain(text: str) -> str:
    """Return the domain of the normalised JID `text`."""
    return text.partition("/")[0].rpartition("@")[2]


def account(text: str) -> str:
    """Return the normalised bare JID of an account.

    Raises:
        InvalidRequest: `text` is not a JID, has no localpart, or has a resource.
    """
    jid = normalise(text)
    if "/" in jid or "@" not in jid:
        raise InvalidRequest(f"{text!r} is not the bare JID of an account, such as alice@example.org.")
    return jid


def is_host(text: str) -> bool:
    """Whether `text` is a host name (RFC 1123, or internationalised) or an IP address without brackets.

    A name that ends in a numeric label is not valid, because resolvers may read it as an address.
    """
    try:
        return getattr(ipaddress.ip_address(text), "scope_id", None) is None
    except ValueError:
        labels = text.removesuffix(".").split(".")
    return len(text) <= MAX_HOST and all(map(_label_is_valid, labels)) and not labels[-1].isnumeric()


def _label_is_valid(label: str) -> bool:
    if not 0 < len(label) <= MAX_LABEL or label[0] == "-" or label[-1] == "-":
        return False
    return all(
        character.isalnum() or character in "-_" or unicodedata.category(character).startswith("M")
        for character in label
    )
