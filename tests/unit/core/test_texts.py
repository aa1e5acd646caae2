"""Test replacements for functions of the standard library that are quadratic or fail for some texts."""

import html
import sys
import unicodedata
from typing import Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pubsubcache.utils.texts import COMBINING, MAX_RUN, normalise, shorten_runs, unescape

MARKS = "\u0301\u0323\u0327\u0344\u0345\u0f73\u0f71\u093c\u05b0\u3099\U0001d165"
LETTERS = "ae\u00e9\u0958\u1100\u1161\u11a8\uac00\u0130\ufb1d\u0915\u65e5\U0001d158 "
forms = st.sampled_from(["NFC", "NFD"])
runs = st.text(MARKS, min_size=MAX_RUN - 2, max_size=MAX_RUN + 5)
hostile = st.lists(st.one_of(runs, st.text(MARKS + LETTERS, max_size=5)), max_size=5).map("".join)


@given(text=st.text(st.one_of(st.characters(), st.sampled_from(MARKS + LETTERS)), max_size=MAX_RUN), form=forms)
def test_ordinary_text_gets_the_standard_normal_form(text: str, form: Literal["NFC", "NFD"]) -> None:
    assert normalise(form, text) == unicodedata.normalize(form, text)
    assert shorten_runs(text) == text


@given(text=hostile, form=forms)
@example(text="\u0958" + "\u0301" * MAX_RUN, form="NFC")
@example(text="\u0344" * MAX_RUN, form="NFC")
def test_normalising_twice_changes_nothing(text: str, form: Literal["NFC", "NFD"]) -> None:
    once = normalise(form, text)
    assert normalise(form, once) == once


@given(text=hostile)
def test_runs_are_shortened_once(text: str) -> None:
    short = shorten_runs(text)
    assert shorten_runs(short) == short
    assert [letter for letter in short if letter not in MARKS] == [letter for letter in text if letter not in MARKS]


def test_long_run_is_not_normalised() -> None:
    run = "\u0301\u0323" * MAX_RUN
    assert normalise("NFC", f"e\u0301 a{run} e\u0301") == f"\u00e9 a{run} \u00e9"
    assert shorten_runs(f"a{run}b") == f"a{run[:MAX_RUN]}b"


def test_all_combining_characters_are_known() -> None:
    """If this fails, a new version of Unicode added some outside of the known ranges."""
    known = len(
        shorten_runs("".join(chr(code) * (MAX_RUN + 1) for code in range(sys.maxunicode + 1) if _combines(code)))
    )
    assert known <= MAX_RUN
    assert COMBINING.startswith("\u0300")


def _combines(code: int) -> bool:
    return unicodedata.combining(unicodedata.normalize("NFD", chr(code))[0]) > 0


@given(st.text(st.sampled_from("&#x;amplt019aF "), max_size=20))
@example("&amp;&lt;&eacute;&#233;&#xe9;&#0;&#1114112;")
def test_references_are_resolved_as_by_the_standard_library(text: str) -> None:
    assert unescape(text) == html.unescape(text)


@pytest.mark.parametrize("digits", [100, 5_000, 100_000])
def test_reference_with_many_digits_is_invalid(digits: int) -> None:
    assert unescape(f"a&#{'9' * digits};b") == "a\ufffdb"
    assert unescape(f"a&#x{'9' * digits};b") == "a\ufffdb"
