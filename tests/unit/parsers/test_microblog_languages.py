"""Test that the languages of an entry are kept apart, and that repeated texts are kept."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.parsers.entries import XHTML, parsed

TEXTS = ("title", "title_xhtml", "summary", "summary_xhtml", "content", "content_xhtml", "rights", "rights_xhtml")


def spoken(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the translations without what is null; their language is always there."""
    return [
        {key: value for key, value in one.items() if value is not None or key == "language"}
        for one in result["translations"]
    ]


def marked(text: str, language: str = "") -> str:
    return f"<content type='xhtml' {language}><div xmlns='{XHTML}'><b>{text}</b></div></content>"


DE, EN, FR = (f"xml:lang='{code}'" for code in ("de", "en", "fr"))


def test_an_entry_in_one_language_has_no_translations() -> None:
    inner = f"<title>a</title><summary>b</summary><content>c</content>{marked('c')}<rights>d</rights>"
    for own in ("", EN):
        result = parsed(inner, own=own)
        assert result["translations"] == []
        assert [result[name] for name in TEXTS] == ["a", None, "b", None, "c", "<div><b>c</b></div>", "d", None]
    assert parsed(f"<title {EN}>a</title>")["translations"] == []
    assert parsed(f"<title {EN}>a</title>", own=EN)["translations"] == []


def test_the_language_of_the_entry_is_preferred() -> None:
    inner = f"<title {DE}>eins</title><title>one</title><content {DE}>zwei</content><content>two</content>"
    result = parsed(inner, own=EN)
    assert (result["language"], result["title"], result["content"]) == ("en", "one", "two")
    assert spoken(result) == [
        {"language": "en", "title": "one", "content": "two"},
        {"language": "de", "title": "eins", "content": "zwei"},
    ]
    assert all(set(one) == {"language", *TEXTS} for one in result["translations"])


def test_elements_inherit_the_language_of_the_item() -> None:
    inner = f"<title {DE}>eins</title><title>one</title>"
    result = parsed(inner, attributes=f"id='1' {EN}")
    assert (result["language"], result["title"]) == ("en", "one")
    result = parsed(inner, attributes=f"id='1' {FR}", own=DE)
    assert (result["language"], result["title"]) == ("de", "eins")


@pytest.mark.parametrize(
    ("inner", "language", "title"),
    [
        (f"<title {DE}>eins</title><title {EN}>one</title>", "de", "eins"),
        (f"<title {DE}>eins</title><title {EN}>one</title><content {EN}>two</content>", "en", "one"),
        (f"<title>one</title><title {DE}>eins</title>", None, "one"),
        (f"<title {DE}>eins</title><title>one</title>", "de", "eins"),
        (f"<summary {FR}>deux</summary><title {DE}>eins</title>", "de", "eins"),
        (f"<rights {FR}>deux</rights><summary {DE}>eins</summary>", "de", None),
        (f"<title {DE}> </title><title {EN}>one</title>", "en", "one"),
    ],
)
def test_without_the_language_of_the_entry_the_first_content_or_title_decides(
    inner: str, language: str | None, title: str | None
) -> None:
    for own in ("", "xml:lang=''"):
        result = parsed(inner, own=own)
        assert (result["language"], result["title"]) == (language, title)


def test_text_and_markup_of_different_languages_are_not_combined() -> None:
    result = parsed(f"<content {EN}>two</content>{marked('zwei', DE)}")
    assert (result["content"], result["content_xhtml"]) == ("two", None)
    assert spoken(result) == [
        {"language": "en", "content": "two"},
        {"language": "de", "content": "zwei", "content_xhtml": "<div><b>zwei</b></div>"},
    ]
    result = parsed(f"<content>two</content>{marked('zwei', DE)}")
    assert (result["content"], result["content_xhtml"]) == ("two", None), "no language is not any language"
    result = parsed(f"<content>two</content>{marked('zwei', DE)}", own=DE)
    assert (result["content"], result["content_xhtml"]) == ("two", "<div><b>zwei</b></div>")


def test_text_and_markup_are_combined_in_each_language() -> None:
    inner = f"{marked('zwei', DE)}<content {EN}>two</content><content {DE}>Zwei</content>{marked('TWO', EN)}"
    assert spoken(parsed(inner, own=EN)) == [
        {"language": "en", "content": "two", "content_xhtml": "<div><b>TWO</b></div>"},
        {"language": "de", "content": "Zwei", "content_xhtml": "<div><b>zwei</b></div>"},
    ]


def test_what_does_not_exist_in_the_language_is_in_the_first_one() -> None:
    inner = f"<title {DE}>eins</title><title {FR}>un</title><content>two</content>{marked('deux', FR)}"
    result = parsed(inner, own=EN)
    assert (result["title"], result["content"], result["content_xhtml"]) == ("un", "two", None)
    assert [one["language"] for one in result["translations"]] == ["en", "fr", "de"]


def test_the_content_falls_back_within_the_entry() -> None:
    result = parsed(f"<title {DE}>eins</title><title>one</title>", own=EN)
    assert result["content"] == "one"
    assert [one["content"] for one in result["translations"]] == [None, None]


def test_languages_are_compared_without_case() -> None:
    result = parsed(
        "<title xml:lang='DE-at'>eins</title><content xml:lang='de-AT'>zwei</content>", own="xml:lang='de-AT'"
    )
    assert (result["title"], result["content"], result["translations"]) == ("eins", "zwei", [])


def test_an_empty_language_ends_that_of_the_parent() -> None:
    result = parsed("<title xml:lang=''>one</title>", own=DE)
    assert spoken(result) == [{"language": None, "title": "one"}]


def test_a_language_that_is_not_that_of_the_entry_is_told() -> None:
    result = parsed(f"<title {DE}>eins</title>", own=EN)
    assert (result["language"], result["title"]) == ("en", "eins")
    assert spoken(result) == [{"language": "de", "title": "eins"}]


def test_repeated_texts_are_kept() -> None:
    contents = f"<content>3</content>{marked('4')}{marked('5')}"
    result = parsed(f"<title>1</title><title> </title><title>2</title><title>1</title>{contents}")
    assert (result["title"], result["content"], result["content_xhtml"]) == ("1", "3", "<div><b>4</b></div>")
    assert spoken(result) == [
        {"language": None, "title": "1", "content": "3", "content_xhtml": "<div><b>4</b></div>"},
        {"language": None, "title": "2", "content": "5", "content_xhtml": "<div><b>5</b></div>"},
    ]


def test_markup_that_costs_too_much_keeps_its_text_beside_another_one() -> None:
    deep = "<b>" * 1000 + "deep" + "</b>" * 1000
    inner = f"<content>short</content><content type='xhtml'><div xmlns='{XHTML}'>{deep}</div></content>"
    assert spoken(parsed(inner)) == [{"language": None, "content": "short"}, {"language": None, "content": "deep"}]
    result = parsed(inner.replace("short", "deep"))
    assert (result["content"], result["content_xhtml"], result["translations"]) == ("deep", None, [])


def test_many_languages_are_bounded() -> None:
    inner = "".join(f"<title xml:lang='x{n}'>{n}</title><content xml:lang='x{n}'>c{n}</content>" for n in range(1500))
    result = parsed(inner)
    assert len(result["translations"]) == 1000
    assert len(result["rest"]) == 1000
    assert result["translations"][-1]["content"] == "c999"


languages = st.sampled_from(["", DE, EN, "xml:lang=''"])
kinds = st.sampled_from(["type='text'", "type='html'", ""])
names = st.sampled_from(["title", "summary", "content", "rights"])


@given(st.lists(st.tuples(names, kinds, languages), max_size=8), languages, languages)
def test_no_text_is_lost_and_none_changes_its_language(
    pieces: list[tuple[str, str, str]], own: str, around: str
) -> None:
    inner = "".join(
        f"<{name} {kind} {language}>{f'&lt;b>w{n}&lt;/b>' if 'html' in kind else f'w{n}'}</{name}>"
        for n, (name, kind, language) in enumerate(pieces)
    )
    result = parsed(inner, own=own, attributes=f"id='1' {around}")

    for n, (name, kind, language) in enumerate(pieces):
        key, text = (f"{name}_xhtml", f"<div><b>w{n}</b></div>") if "html" in kind else (name, f"w{n}")
        [spoken_in] = [row["language"] for row in result["translations"] or [result] if row[key] == text]
        assert spoken_in == code(language, own, around)
    assert [one for one in result["rest"] if one["name"] != "item"] == []


def code(*marks: str) -> str | None:
    """Return the language of the innermost of these attributes."""
    mark = next((mark for mark in marks if mark), "''")
    return mark.split("'")[1] or None
