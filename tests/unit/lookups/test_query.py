"""Test the parser of search queries: only queries that are too large are errors."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.lookups.fulltext import postgresql, sqlite
from pubsubcache.lookups.fulltext.folding import words
from pubsubcache.lookups.fulltext.query import MAX_DEPTH, MAX_WORD, MAX_WORDS, And, Node, Not, Or, Term, parse, terms


def shown(tree: Node | None) -> Any:
    """Convert a tree to nested tuples; terms become strings, with a star for a prefix."""
    match tree:
        case Term(found, prefix):
            return " ".join(found) + ("*" if prefix else "")
        case Not():
            return ("not", shown(tree.child))
        case And(children):
            return ("and", *map(shown, children))
        case Or(children):
            return ("or", *map(shown, children))
    return None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", None),
        ('++ 🎉 ( ) "', None),
        ("Winter", "winter"),
        ("a b", ("and", "a", "b")),
        ("a b a", ("and", "a", "b")),
        ("a AND b AND c", ("and", "a", "b", "c")),
        ("a OR b c", ("or", "a", ("and", "b", "c"))),
        ("(a OR b) c", ("and", ("or", "a", "b"), "c")),
        ("a OR (b OR c)", ("or", "a", "b", "c")),
        ("NOT a b", ("and", ("not", "a"), "b")),
        ("NOT (a b)", ("not", ("and", "a", "b"))),
        ("NOT NOT a", "a"),
        ("NOT (NOT a)", "a"),
        ("--a", "a"),
        ("-a", ("not", "a")),
        ("b -a", ("and", "b", ("not", "a"))),
        ("b - a", ("and", "b", "a")),
        ("(-a b)", ("and", ("not", "a"), "b")),
        ('-"a b"', ("not", "a b")),
        ("-(a OR b)", ("not", ("or", "a", "b"))),
        ("a-b", "a b"),
        ("a -", "a"),
        ("win*", "win*"),
        ("a-win*", "a win*"),
        ("日本", "日本*"),
        ('"a 日本" -한국', ("and", "a 日本*", ("not", "한국*"))),
        ("日本a", "日本a"),
        ("*win", "win"),
        ('"a win"*', "a win*"),
        ('"a win*"', "a win"),
        ('"a win', "a win"),
        ("„a b“", "a b"),
        ("«a b» c", ("and", "a b", "c")),
        ("a OR", "a"),
        ("OR a", "a"),
        ("AND", "and"),
        ("NOT OR", ("and", "not", "or")),
        ("a OR ++ OR b", ("or", "a", "b")),
        ("a NOT ++ b", ("and", "a", "b")),
        ("a)b(c", ("and", "a", "b", "c")),
        ("a or b", ("and", "a", "or", "b")),
        ("ORa", "ora"),
    ],
)
def test_trees(query: str, expected: Any) -> None:
    assert shown(parse(query)) == expected


@given(st.text() | st.text(st.sampled_from('ab "()-*AND OR NOT\u201c')))
def test_any_text_is_a_valid_query(query: str) -> None:
    try:
        tree = parse(query)
    except InvalidRequest:
        assert len(words(query)) > MAX_WORDS or query.count("(") > MAX_DEPTH // 2
        return
    if tree is None:
        return
    for term in terms(tree):
        assert term.words
        assert all(word.isalnum() for word in term.words)
    assert postgresql.compiled(tree)
    sql, parameters = sqlite.selected(tree)
    assert sql.count("%s") == len(parameters) > 0


def test_bounds() -> None:
    assert parse(" ".join(f"w{number}" for number in range(MAX_WORDS)))
    with pytest.raises(InvalidRequest, match=f"more than {MAX_WORDS} words"):
        parse(" ".join(f"w{number}" for number in range(MAX_WORDS + 1)))
    assert parse("x" * MAX_WORD)
    with pytest.raises(InvalidRequest, match=f"more than {MAX_WORD} characters"):
        parse("x" * (MAX_WORD + 1))
    assert parse("(a OR " + "(b (c OR " * (MAX_DEPTH // 2 - 1) + "d")
    with pytest.raises(InvalidRequest, match=f"more than {MAX_DEPTH} deep"):
        parse("(b (c OR " * (MAX_DEPTH // 2 + 1) + "d")
    assert shown(parse("(" * 5000 + "a" + ")" * 5000)) == "a"


def test_negated_terms_are_not_highlighted() -> None:
    tree = parse('a -b NOT (c -"d e") f*')
    assert [term.words for term in terms(tree)] == [("a",), ("d", "e"), ("f",)]
