"""Text that every database and JSON parser accepts."""

import binascii
import re

# What XML 1.0 has no room for: most control characters, surrogates, two noncharacters. PostgreSQL refuses NUL,
# and no encoder takes a surrogate.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def storable(text: str) -> str:
    """Return `text` without the characters that can't be stored."""
    return _FORBIDDEN.sub("", text)


def clean(text: str | None) -> str | None:
    """Return `text` storable and trimmed, None when nothing remains."""
    return storable(text).strip() or None if text else None


def from_base64(text: str | None) -> bytes | None:
    """Return the bytes that base64 text stands for, white space in it or none; None when it is no base64, or empty."""
    try:
        return binascii.a2b_base64("".join((text or "").split()), strict_mode=True) or None
    except ValueError:  # of binascii, and on text that is not ASCII
        return None
