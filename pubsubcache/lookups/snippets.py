"""Extracts of texts with the hits of a search marked, the same on every database.

In a snippet a hit stands between `HIT_START` and `HIT_END`, control characters that XML has no room for, so that
no content can pretend to be one. `marked` puts other marks in their place, `as_html` makes markup of a snippet.
"""

from collections.abc import Iterable
from typing import Any

from django.db import models
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from pubsubcache.lookups.fulltext.folding import spans
from pubsubcache.lookups.fulltext.query import Term

HIT_START, HIT_END = "\x02", "\x03"
LENGTH = 240  # characters of a snippet, about
LEAD = 60  # of them before the first hit
MAX_TEXT = 50_000  # characters that are looked at
MAX_HITS = 2_000
ELLIPSIS = "\u2026"
_NO_MARKS = {ord(HIT_START): None, ord(HIT_END): None}


def marked(snippet: str, start: str, end: str) -> str:
    """Return a snippet with other texts around its hits."""
    return snippet.replace(HIT_START, start).replace(HIT_END, end)


def as_html(snippet: str) -> SafeString:
    """Return a snippet as markup: escaped, its hits in `<mark>`."""
    return mark_safe(marked(escape(snippet), "<mark>", "</mark>"))  # noqa: S308  (escaped)


def make_snippet(text: str, terms: Iterable[Term], *, stems: bool = False) -> str:
    """Return the part of `text` with the most of `terms`, the hits marked; its beginning when there are none.

    With `stems` words count as hits that have their beginning in common with a term, as languages inflect them.
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
    """Return (start, end, number of the term) of each hit, in their order."""
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
    """Return where the hit begins after which the most different terms come soonest."""
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
    """Return where the first word at or after `begin` starts, at `limit` at the latest."""
    if not begin:
        return 0
    space = text.find(" ", begin - 1, limit)
    return space + 1 if space >= 0 else begin


def _last_space(text: str, end: int) -> int:
    space = text.rfind(" ", end - LEAD, end + 1)
    return space if space > 0 else end


class SnippetField(models.TextField):  # type: ignore[type-arg]
    """Text that comes out of the database as a snippet."""

    def __init__(self, *args: Any, terms: Iterable[Term] = (), stems: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self.terms, self.stems = tuple(terms), stems

    def from_db_value(self, value: str | None, expression: Any, connection: Any) -> str:
        """Return the snippet."""
        return make_snippet(value or "", self.terms, stems=self.stems)


class Snippet(models.Func):
    """A column of text, as snippets."""

    function = "SUBSTR"
    template = f"%(function)s(%(expressions)s, 1, {MAX_TEXT})"

    def __init__(self, expression: str, terms: Iterable[Term], *, stems: bool = False) -> None:
        super().__init__(expression, output_field=SnippetField(terms=terms, stems=stems))
