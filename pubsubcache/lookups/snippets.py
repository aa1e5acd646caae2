"""Snippets: excerpts of texts with highlighted search hits, the same on every database.

In a snippet, each hit is enclosed in `HIT_START` and `HIT_END`. These are control characters that XML does not allow,
so content cannot forge them. `marked` replaces them by other markers, and `as_html` converts a snippet to HTML.
"""

from collections.abc import Iterable
from typing import Any

from django.db import models
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from pubsubcache.lookups.fulltext.folding import spans
from pubsubcache.lookups.fulltext.query import Term

HIT_START, HIT_END = "\x02", "\x03"
LENGTH = 240  # approximate length of a snippet in characters
LEAD = 60  # of these, the maximum before the first hit
MAX_TEXT = 50_000  # characters of the text that are searched
MAX_HITS = 2_000
ELLIPSIS = "\u2026"
_NO_MARKS = {ord(HIT_START): None, ord(HIT_END): None}


def marked(snippet: str, start: str, end: str) -> str:
    """Replace the markers of hits by `start` and `end`."""
    return snippet.replace(HIT_START, start).replace(HIT_END, end)


def as_html(snippet: str) -> SafeString:
    """Convert a snippet to HTML: escaped, with hits in `<mark>`."""
    return mark_safe(marked(escape(snippet), "<mark>", "</mark>"))  # noqa: S308  (escaped)


def make_snippet(text: str, terms: Iterable[Term], *, stems: bool = False) -> str:
    """Return the part of `text` with the most different terms and highlight them; the beginning if there are none.

    Args:
        text: The text to excerpt.
        terms: The terms of the search query.
        stems: Whether inflected forms, i.e. words that begin like a term, are hits too.
    """
    text = text[:MAX_TEXT].translate(_NO_MARKS)
    hits = _hits(text, sorted(terms, key=lambda term: -len(term.words)), stems)
    start = _best(hits)
    begin = _boundary(text, max(0, start - LEAD), start)
    end = min(len(text), begin + LENGTH)
    end = _last_space(text, end) if end < len(text) else end
    pieces, place = [ELLIPSIS if begin else ""], begin
    for first, last, _ in hits:
        if place <= first and first < end:
            pieces += [text[place:first], HIT_START, text[first : min(last, end)], HIT_END]
            place = min(last, end)
    return "".join([*pieces, text[place:end], ELLIPSIS if end < len(text) else ""])


def _hits(text: str, terms: list[Term], stems: bool) -> list[tuple[int, int, int]]:
    """Return (start, end, index of the term) for each hit, in order."""
    if not terms:
        return []
    found = list(spans(text))
    words = [word for _, _, word in found]
    hits: list[tuple[int, int, int]] = []
    for place in range(len(found)):
        for number, term in enumerate(terms):
            if _is_hit(words, place, term, stems):
                hits.append((found[place][0], found[place + len(term.words) - 1][1], number))
                break
        if len(hits) >= MAX_HITS:
            break
    return hits


def _is_hit(words: list[str], place: int, term: Term, stems: bool) -> bool:
    end = place + len(term.words) - 1
    if end >= len(words):
        return False
    if not all(_is_same(words[number], wanted, stems) for number, wanted in enumerate(term.words[:-1], place)):
        return False
    return (term.prefix and words[end].startswith(term.words[-1])) or _is_same(words[end], term.words[-1], stems)


def _is_same(word: str, wanted: str, stems: bool) -> bool:
    if word == wanted or not stems:
        return word == wanted
    length = max(3, min(len(word), len(wanted)) - 2)
    return len(word) >= 3 and word[:length] == wanted[:length] and abs(len(word) - len(wanted)) < 5


def _best(hits: list[tuple[int, int, int]]) -> int:
    """Return the start of the first hit that is followed by the most different terms within a snippet."""
    best, most = 0, 0
    for place, (start, _, _) in enumerate(hits):
        seen = set()
        for first, _, number in hits[place : place + 100]:
            if first >= start + LENGTH - LEAD:
                break
            seen.add(number)
        if len(seen) > most:
            best, most = start, len(seen)
    return best


def _boundary(text: str, begin: int, limit: int) -> int:
    """Return the start of the first word between `begin` and `limit`, or `begin`."""
    if not begin:
        return 0
    space = text.find(" ", begin - 1, limit)
    return space + 1 if space >= 0 else begin


def _last_space(text: str, end: int) -> int:
    space = text.rfind(" ", end - LEAD, end + 1)
    return space if space > 0 else end


class SnippetField(models.TextField):  # type: ignore[type-arg]
    """Text that is converted to a snippet when it is read from the database."""

    def __init__(self, *args: Any, terms: Iterable[Term] = (), stems: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self.terms, self.stems = tuple(terms), stems

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str:
        return make_snippet(value or "", self.terms, stems=self.stems)


class Snippet(models.Func):
    """Selects a text column as snippets."""

    function = "SUBSTR"
    template = f"%(function)s(%(expressions)s, 1, {MAX_TEXT})"

    def __init__(self, expression: str, terms: Iterable[Term], *, stems: bool = False) -> None:
        super().__init__(expression, output_field=SnippetField(terms=terms, stems=stems))
