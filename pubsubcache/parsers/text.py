"""Helpers for text from payloads: removal of characters that cannot be stored, and base64."""

import binascii
import re

# Characters that XML 1.0 does not allow: most control characters, surrogates, two noncharacters. PostgreSQL rejects
# NUL, and surrogates cannot be encoded.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def storable(text: str) -> str:
    """Return `text` without characters that XML and both databases cannot store."""
    return text if text.isprintable() else _FORBIDDEN.sub("", text)


def clean(text: str | None) -> str | None:
    """Return `text` storable and trimmed, or None if nothing remains."""
    return storable(text).strip() or None if text else None


def from_base64(text: str | None) -> bytes | None:
    """Decode base64 that may contain white space; return None if it is invalid or empty."""
    try:
        return binascii.a2b_base64("".join((text or "").split()), strict_mode=True) or None
    except ValueError:  # binascii.Error, or text that is not ASCII
        return None
