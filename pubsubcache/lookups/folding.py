"""Words of texts as the full text indexes see them: the same here as in both databases.

A word is a run of letters and digits. Case does not count, nor do the accents of Latin letters; of other scripts the
accented letters are letters of their own, as they are to SQLite's tokenizer `unicode61`, which sets the measure.
"""

import re
import unicodedata
from collections.abc import Iterator

_WORD = re.compile("[^\\W_](?:[^\\W_]|[\u0300-\u036f])*")
_LATIN_MARKS = re.compile("(?<=[a-zA-Z])[\u0300-\u036f]+")
_MARKS = re.compile("[\u0300-\u036f]+")


def fold(text: str) -> str:
    """Return `text` without what makes no difference: case, accents of Latin letters."""
    if text.isascii():
        return text.lower()
    text = unicodedata.normalize("NFC", _LATIN_MARKS.sub("", unicodedata.normalize("NFD", text)))
    return _MARKS.sub("", text).lower().translate({0x3C2: "\u03c3", 0x307: None})


def words(text: str) -> list[str]:
    """Return the words of `text`, folded."""
    return [word for _, _, word in spans(text)]


def spans(text: str) -> Iterator[tuple[int, int, str]]:
    """Yield (start, end, folded) of each word of `text`."""
    for match in _WORD.finditer(text):
        if word := fold(match[0]):
            yield match.start(), match.end(), word
