"""Splits texts into words the same way as the full text indexes of both databases.

A word is a sequence of letters and digits. Case and the accents of Latin letters are ignored. Accented letters of other
scripts are distinct letters, as in SQLite's tokenizer `unicode61`, which this module follows.
"""

import re
import sys
import unicodedata
from collections.abc import Iterator

from pubsubcache.utils.texts import normalise

_WORD = re.compile("[^\\W_](?:[^\\W_]++|[\u0300-\u036f]++)*+")
_LATIN_MARKS = re.compile("(?<=[a-zA-Z])[\u0300-\u036f]+")
_MARKS = re.compile("[\u0300-\u036f]+")
# Letters with a variant lower-case form: the variants, and the usual forms.
VARIANTS = (
    "\u03c2\u017f\xb5\u03d0\u03d1\u03d5\u03d6\u03f0\u03f1\u03f5",
    "\u03c3s\u03bc\u03b2\u03b8\u03c6\u03c0\u03ba\u03c1\u03b5",
)
DOT = "\u0307"  # remains when the Turkish capital I is lowered
_VARIANTS = str.maketrans(*VARIANTS, DOT)
_EMOJI = range(0x1F000, 0x1FB00)


def fold(text: str) -> str:
    """Fold the case of `text` and remove the accents of Latin letters."""
    if text.isascii():
        return text.lower()
    text = normalise("NFC", _LATIN_MARKS.sub("", normalise("NFD", text)))
    return _MARKS.sub("", text).lower().translate(_VARIANTS)


def separators() -> str:
    """Return characters of recent Unicode versions that are not letters or digits, such as emoji.

    Tokenizers with an older version of Unicode may take them for letters.
    """
    late = (
        character
        for character in map(chr, range(0x80, sys.maxunicode + 1))
        if unicodedata.category(character)[0] not in "LNC" and unicodedata.ucd_3_2_0.category(character) == "Cn"
    )
    unknown = (character for character in map(chr, _EMOJI) if unicodedata.category(character) == "Cn")
    return "".join([*late, *unknown])


def words(text: str) -> list[str]:
    """Return the folded words of `text`."""
    return [word for _, _, word in spans(text)]


def spans(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, folded word) for each word of `text`."""
    for match in _WORD.finditer(text):
        if word := fold(match[0]):
            yield match.start(), match.end(), word
