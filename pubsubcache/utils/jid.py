"""JIDs as text, prepared as slixmpp and the usual servers prepare them (RFC 6122: stringprep and IDNA).

The XMPP library prepares what goes on the wire. Here addresses are checked, and brought to the one spelling under which
rows are kept, without loading it. What is returned here goes through slixmpp unchanged.
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
# Characters before preparation, which makes two bytes of three at best: longer text is padded with invisible ones.
MAX_LENGTH = 4 * MAX_PART_BYTES
_FULL_STOP = "\u3002"  # separates labels too (RFC 3490, 3.1); nameprep leaves it
_NOT_IN_DOMAIN = set(" #%/:<>?@[\\]^|\x7f").union(map(chr, range(0x20)))  # URL Standard, "forbidden domain code point"
_USUAL = re.compile("[a-z0-9._-]*")  # stays as it is in every part

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
    """Return `character` in lower case (RFC 3454, B.2). Python's table adds lower case that came after Unicode 3.2."""
    folded = stringprep.map_table_b2(character)
    return character if any(map(stringprep.in_table_a1, folded)) else folded


def _prepared(text: str, refused: list[Table], fold: Callable[[str], str] = str) -> str:
    """Return `text` as a profile of stringprep makes it (RFC 3454). Raises `ValueError`.

    Characters that came after Unicode 3.2 are refused before they are normalised, as the RFC has it: some would become
    older ones, and not those that another round would make.
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
    """Return `text` as a domain. Raises `ValueError`."""
    if text.startswith("[") and text.endswith("]"):
        if ipaddress.IPv6Address(text[1:-1]).scope_id is not None:
            raise ValueError("an address of one host alone")
        return text.lower()
    text = text.removesuffix(".")
    _check_domain(text)
    return _prepared(text, _REFUSED, _folded).replace(_FULL_STOP, ".")


def _check_domain(text: str) -> None:
    """Raise `ValueError` unless `text` is the name of a domain (UTS #46, 4.1)."""
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
            raise ValueError("a joiner where nothing is joined")
    if len(".".join(map(_encoded, labels))) > MAX_HOST:
        raise ValueError("too long")


def _encoded(label: str) -> str:
    made = label if label.isascii() else f"xn--{label.encode('punycode').decode()}"
    if not 0 < len(made) <= MAX_LABEL:
        raise ValueError("a label that is too long, or empty")
    return made


def _decoded(label: str) -> str:
    """Return a label without the encoding of IDNA. Raises `ValueError` when it was not made by that."""
    encoded = label.removeprefix("xn--")
    if encoded == label:
        return label
    made = _encoded(label)[4:].encode().decode("punycode")
    if made.isascii() or _encoded(made) != label or idna.uts46_remap(made, std3_rules=False) != made:
        raise ValueError("a label that is not encoded rightly")
    return made


@lru_cache(maxsize=1000)  # each read and each notification names JIDs, and mostly the same ones
def normalise(text: str) -> str:
    """Return the JID `text` in the spelling under which it is kept. Raises `InvalidRequest`.

    White space around an address is dropped, except in a resource, and so is the dot that may end a domain.
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
    """Return the JID `text` without its resource, normalised. Raises `InvalidRequest`.

    The resource may be any: servers let some pass, such as those with an emoji, that slixmpp would not send to.
    """
    return normalise(text.partition("/")[0])


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


def _label_is_valid(label: str) -> bool:
    if not 0 < len(label) <= MAX_LABEL or label[0] == "-" or label[-1] == "-":
        return False
    return all(
        character.isalnum() or character in "-_" or unicodedata.category(character).startswith("M")
        for character in label
    )
