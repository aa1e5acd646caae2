"""Test that both databases split words as `lookups.folding` does, and evaluate queries as parsed."""

# ruff: noqa: RUF001  (letters that look alike are what this is about)

from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pubsubcache.lookups.fulltext.folding import words
from pubsubcache.lookups.fulltext.query import And, Node, Not, Or, Term, parse
from pubsubcache.models import Account, PubsubItem, PubsubNode
from tests.selection import how_many

pytestmark = pytest.mark.both_databases

# Letters of several scripts, with and without accents, composed and decomposed; digits; word separators.
LETTERS = (
    "abzABZ019éÉèñÑüÜçÇåøØłŁßœŒæÆđıſþŋ\u0301\u0308\u0327αΑάΆσΣςωΏйЙиИёЁщЩіїאבגابتहिनि日本語のテキスト한국어ไทยꙋᚠ"
    "\u0660\u0663\u0967"
)
OTHERS = (
    " \t\n.,;:!?-_'\"’“”()[]{}<>@#$%&*+=/\\|^~`´¨€£©®°·…–—🎉👩\u200d👧"
    "\U0001f923\U0001f973\U0001f3fb\u20bd\ue000\U0001faff\u200b\u00a0\u00ad\ufeff"
)
# In NFC, like the output of `xmlform.words`.
texts = st.text(st.sampled_from(LETTERS + OTHERS), max_size=30).map(lambda text: normalize("NFC", text))
short = st.text(st.sampled_from("aAéÉbσΣйИи日本1 "), max_size=8)
VOCABULARY = ["a", "b", "aé", "Ab", "winter", "ΣΑΣ", "й", "日本", "1a"]
queries = st.lists(
    st.sampled_from(
        [*VOCABULARY, "AND", "OR", "NOT", "-", "(", ")", '"', "*", "a*", '"a b"', "-a", "a-b", "win*", "!"]
    ),
    max_size=10,
).flatmap(lambda parts: st.sampled_from([" ".join(parts), "".join(parts)]))
sentences = st.lists(st.sampled_from([*VOCABULARY, "wintry", "-", "a-b", "."]), max_size=6).map(" ".join)


def matches(query: str, *texts: str) -> bool:
    """Return whether an item with these texts should be found."""
    tree = parse(query)
    return tree is not None and answers(tree, [words(text) for text in texts])


def answers(tree: Node, fields: list[list[str]]) -> bool:
    """Return whether the words in `fields` match a query."""
    match tree:
        case And(children):
            return all(answers(child, fields) for child in children)
        case Or(children):
            return any(answers(child, fields) for child in children)
        case Not():
            return not answers(tree.child, fields)
        case Term():
            return any(occurs_in(tree, field) for field in fields)


def occurs_in(term: Term, field: list[str]) -> bool:
    size = len(term.words)
    return any(
        tuple(field[place : place + size - 1]) == term.words[:-1]
        and (
            field[place + size - 1] == term.words[-1]
            or (term.prefix and field[place + size - 1].startswith(term.words[-1]))
        )
        for place in range(len(field) - size + 1)
    )


@pytest.fixture
def node(db: None) -> PubsubNode:
    account = Account.objects.create(jid="alice@example.org")
    return PubsubNode.objects.create(account=account, service="s", name="n")


def store(node: PubsubNode, rows: list[tuple[str, str]]) -> None:
    node.items.all().delete()
    PubsubItem.objects.bulk_create(
        PubsubItem(node=node, name=str(place), data="<item/>", parsed={"title": title}, text=text)
        for place, (title, text) in enumerate(rows)
    )


def found(query: str) -> list[str]:
    return list(PubsubItem.objects.full_text(query).order_by("pk").values_list("name", flat=True))


relaxed: Any = settings(max_examples=how_many(60, 500))


@relaxed
@given(text=texts)
@example("ΟΔΟΣ οδός Ὀδυσσεύς")
@example("İstanbul ISTANBUL ıstanbul")
@example("e\u0301cole É")
@example("ı日 I日本")  # a word of a script without spaces is a prefix
@example("winter\U0001f923 great\U0001f973party \U0001f44d\U0001f3fbyes 5\u20bd")
def test_each_word_of_a_text_finds_it(node: PubsubNode, text: str) -> None:
    store(node, [("", text)])
    own = words(text)
    for word in own:
        assert found(word) == ["0"], word
        assert found(word.upper()) == (["0"] if matches(word.upper(), text) else [])
        assert found(f"{word[:1]}*") == ["0"], word
    if own:
        assert found('"' + " ".join(own) + '"') == ["0"]
        assert found(text.replace('"', " ").replace("(", " ").replace(")", " ")) in (["0"], [])
    assert found("x" + "".join(own)) == []


@relaxed
@given(one=short, other=short)
@example(one="日", other="日1")  # a word of a script without spaces is a prefix
@example(one="a", other="a1")
def test_common_words_find_both_texts(node: PubsubNode, one: str, other: str) -> None:
    store(node, [("", one), ("", other)])
    for word in words(one):
        assert found(word) == [name for name, text in (("0", one), ("1", other)) if matches(word, text)]


@relaxed
@given(query=queries, rows=st.lists(st.tuples(sentences, sentences), min_size=1, max_size=4))
@example(query='"a b"', rows=[("a", "b"), ("b", "a b"), ("", "a -b"), ("a b", "")])
@example(query="a OR NOT b", rows=[("a", "b"), ("b", ""), ("", "")])
@example(query="(a OR -b) -(winter -1a)", rows=[("a", "b"), ("winter", ""), ("", "winter 1a")])
def test_queries_are_evaluated_as_parsed(node: PubsubNode, query: str, rows: list[tuple[str, str]]) -> None:
    store(node, rows)
    expected = [
        str(place) for place, (title, text) in enumerate(rows) if not query.strip() or matches(query, title, text)
    ]
    assert found(query) == expected
    assert PubsubItem.objects.full_text(query).count() == len(expected)
