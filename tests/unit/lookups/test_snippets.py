"""Test snippets with highlighted hits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsubcache.lookups.fulltext.query import Term
from pubsubcache.lookups.snippets import ELLIPSIS, HIT_END, HIT_START, LENGTH, as_html, make_snippet, marked


def snippet(text: str, *found: str, stems: bool = False) -> str:
    terms = [Term(tuple(words.rstrip("*").split()), words.endswith("*")) for words in found]
    return marked(make_snippet(text, terms, stems=stems), "[", "]")


@pytest.mark.parametrize(
    ("text", "found", "expected"),
    [
        ("", ["a"], ""),
        ("one two", [], "one two"),
        ("one two", ["two"], "one [two]"),
        ("One, TWO; one", ["one", "two"], "[One], [TWO]; [one]"),
        ("the résumé", ["resume"], "the [résumé]"),
        ("the re\u0301sume\u0301!", ["resume"], "the [re\u0301sume\u0301]!"),
        ("mail user@host now", ["user host"], "mail [user@host] now"),
        ("user host user", ["user host"], "[user host] user"),
        ("winter wins", ["win*"], "[winter] [wins]"),
        ("a b c", ["b", "a b"], "[a b] c"),
        ("日本語のテキスト", ["日本*"], "[日本語のテキスト]"),
        ("two", ["twofold"], "two"),
    ],
)
def test_hits_are_highlighted(text: str, found: list[str], expected: str) -> None:
    assert snippet(text, *found) == expected


def test_snippet_shows_the_part_with_the_most_terms() -> None:
    text = f"one {'x ' * 300} one two {'y ' * 300} two"
    shown = snippet(text, "one", "two")
    assert "[one] [two]" in shown
    assert shown.startswith(f"{ELLIPSIS}x ")
    assert shown.endswith(f"y{ELLIPSIS}")
    assert len(shown) <= LENGTH + 10


def test_text_without_spaces_is_truncated() -> None:
    assert len(snippet("日" * 3000)) == LENGTH + 1
    assert snippet("日" * 3000, "日日*").endswith(f"]{ELLIPSIS}")


@pytest.mark.parametrize(
    ("word", "wanted", "is_hit"),
    [("runners", "runner", True), ("snows", "snow", True), ("snowing", "snow", True), ("is", "it", False),
     ("international", "inter", False), ("bat", "bar", False)],
)  # fmt: skip
def test_inflected_words(word: str, wanted: str, is_hit: bool) -> None:
    assert (snippet(word, wanted, stems=True) == f"[{word}]") is is_hit


def test_html() -> None:
    assert as_html(make_snippet("<b>a</b> & a", [Term(("a",))])) == (
        "&lt;b&gt;<mark>a</mark>&lt;/b&gt; &amp; <mark>a</mark>"
    )


@given(st.text(max_size=600), st.lists(st.sampled_from(["a", "b", "0", "a b", "é*"]), max_size=3))
def test_snippet_is_part_of_the_text(text: str, found: list[str]) -> None:
    terms = [Term(tuple(words.rstrip("*").split()), words.endswith("*")) for words in found]
    made = make_snippet(text, terms)
    assert made.count(HIT_START) == made.count(HIT_END)
    assert f"{HIT_START}{HIT_END}" not in made
    plain = text.replace(HIT_START, "").replace(HIT_END, "")
    assert marked(made, "", "").removeprefix(ELLIPSIS).removesuffix(ELLIPSIS) in plain + ELLIPSIS + plain
