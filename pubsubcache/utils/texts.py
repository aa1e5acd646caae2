"""Functions of the standard library made safe for remote text: they take linear time and raise nothing.

Unicode normalisation sorts each run of combining characters, and `unicodedata` and PostgreSQL sort by insertion: 100 KB
of them take many seconds. No word of any language has more than 30 in a row (UAX #15, 13, Stream-Safe Text Format).
"""

import html
import re
import unicodedata
from typing import Literal

MAX_RUN = 30  # combining characters in a row
_PLANES = range(0x300, 0x20000)  # beyond are Han, tags and private use


def _combining_characters() -> str:
    """Return the characters that decompose to nothing but combining ones, as the inside of a character class."""
    found = {code for code in _PLANES if unicodedata.combining(unicodedata.normalize("NFD", chr(code))[0])}
    starts = sorted(code for code in found if code - 1 not in found)
    ends = sorted(code for code in found if code + 1 not in found)
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


COMBINING = _combining_characters()
_LONG_RUN = re.compile(f"([{COMBINING}][{COMBINING}]{{{MAX_RUN},}})")


def normalise(form: Literal["NFC", "NFD"], text: str) -> str:
    """Return `text` in a normal form, except that runs of more than `MAX_RUN` combining characters stay as they are.

    Text without such runs becomes what `unicodedata.normalize` makes of it. Normalising twice changes nothing.
    """
    if text.isascii():
        return text
    parts = _LONG_RUN.split(text)  # the runs are at odd places
    parts[::2] = [unicodedata.normalize(form, part) for part in parts[::2]]
    return "".join(parts)


def shorten_runs(text: str) -> str:
    """Return `text` with at most `MAX_RUN` combining characters in a row."""
    return text if text.isascii() else _LONG_RUN.sub(lambda run: run[0][:MAX_RUN], text)


# Python refuses to read numbers of several thousand digits, and no character has a number of a hundred.
_LONG_REFERENCE = re.compile("&#[0-9]{100,};?")


def unescape(text: str) -> str:
    """Return `text` with the character references of HTML resolved; what names no character becomes U+FFFD."""
    return html.unescape(_LONG_REFERENCE.sub("\ufffd", text)) if "&" in text else text
