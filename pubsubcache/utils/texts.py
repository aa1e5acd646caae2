"""Safe variants of standard library functions for remote text: they take linear time and raise no errors.

Unicode normalisation sorts each run of combining characters. `unicodedata` and PostgreSQL use insertion sort, which
takes many seconds for 100 KB. Real words have at most 30 in a row (UAX #15, 13, Stream-Safe Text Format).
"""

import html
import re
import unicodedata
from typing import Literal

MAX_RUN = 30  # combining characters in a row
MAX_PILE = 4  # the same for display; few languages write more on one letter
_PLANES = range(0x300, 0x20000)  # the rest is Han, tags and private use


def _combining_characters() -> str:
    """Return the ranges of a regular expression class of characters that decompose to combining ones only."""
    found = {code for code in _PLANES if unicodedata.combining(unicodedata.normalize("NFD", chr(code))[0])}
    starts = sorted(code for code in found if code - 1 not in found)
    ends = sorted(code for code in found if code + 1 not in found)
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


COMBINING = _combining_characters()
_PILE = re.compile(f"[{COMBINING}]{{{MAX_PILE + 1},}}")
_LONG_RUN = re.compile(f"([{COMBINING}][{COMBINING}]{{{MAX_RUN},}})")


def normalise(form: Literal["NFC", "NFD"], text: str) -> str:
    """Normalise `text`, but leave runs of more than `MAX_RUN` combining characters unchanged.

    For text without such runs, the result is that of `unicodedata.normalize`. The function is idempotent.
    """
    if text.isascii():
        return text
    parts = _LONG_RUN.split(text)  # the runs are at odd indexes
    parts[::2] = [unicodedata.normalize(form, part) for part in parts[::2]]
    return "".join(parts)


def shorten_runs(text: str) -> str:
    """Truncate runs of combining characters in `text` to `MAX_RUN`."""
    return text if text.isascii() else _LONG_RUN.sub(lambda run: run[0][:MAX_RUN], text)


def without_piles(text: str) -> str:
    """Truncate runs of combining characters in `text` to `MAX_PILE`, so that lines do not run into each other."""
    return text if text.isascii() else _PILE.sub(lambda run: run[0][:MAX_PILE], text)


# Python rejects numbers of several thousand digits, and no code point has a hundred.
_LONG_REFERENCE = re.compile("&#[0-9]{100,};?")


def unescape(text: str) -> str:
    """Resolve the character references of HTML in `text`; invalid ones become U+FFFD."""
    return html.unescape(_LONG_REFERENCE.sub("\ufffd", text)) if "&" in text else text
