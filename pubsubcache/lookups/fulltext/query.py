"""Parses search queries to a tree, which `sqlite` and `postgresql` compile.

- `winter lights`: both words. `winter AND lights`: the same. `winter OR lights`: either. Operators are upper case.
- `"winter lights"`: a phrase. A word with punctuation, such as `user@host` or `a-b`, is also a phrase.
- `win*`: words with this prefix. `"winter li"*` is a phrase whose last word is a prefix; in `"winter li*"` the asterisk
  has no effect. In scripts without spaces every word is a prefix.
- `-snow` or `NOT snow`: excludes a word. Parentheses group. NOT binds tighter than AND, and AND tighter than OR.

There are no syntax errors. Terms without a word (`++`, emoji) and operators without operands are ignored. Unbalanced
parentheses and quotes extend to the end of the text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.lookups.fulltext.folding import fold, words

MAX_WORDS = 500
MAX_WORD = 500  # characters; PostgreSQL does not index words over 2046 bytes
MAX_DEPTH = 20

_LEXER = re.compile(
    r"""(?P<quoted> " (?P<phrase>[^"]*) (?:"(?P<star>\*)?)? )
    | (?P<open> \( ) | (?P<close> \) )
    | (?P<minus> (?<![^\s(]) - (?=[\w"(]) )
    | (?P<word> [^\s"()]+ )""",
    re.VERBOSE,
)
_QUOTES = dict.fromkeys(map(ord, "\u201c\u201d\u201e\u201f\u00ab\u00bb"), '"')
_SEPARATORS = dict.fromkeys([0, *range(0xD800, 0xE000)], " ")
# Thai, Lao, Burmese, Khmer, kana and Han; and Hangul, whose words have particles as suffixes.
_UNSPACED = re.compile(
    "[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]\\Z"
)
OPERATORS = ("AND", "OR", "NOT")


@dataclass(frozen=True, slots=True)
class Term:
    """A word or a phrase; with `prefix`, the last word is a prefix."""

    words: tuple[str, ...]
    prefix: bool = False
    depth = 0


@dataclass(frozen=True, slots=True)
class Not:
    """Negation of the child, which is not another `Not`."""

    child: "Term | And | Or"

    @property
    def depth(self) -> int:
        return self.child.depth


@dataclass(frozen=True, slots=True)
class _Several:
    children: "tuple[Node, ...]"
    depth: int = field(compare=False)


class And(_Several):
    """Conjunction of at least two children, none of them an `And`."""


class Or(_Several):
    """Disjunction of at least two children, none of them an `Or`."""


Node = Term | Not | And | Or


def parse(text: str) -> Node | None:
    """Parse a query.

    Returns:
        The tree, or None if the query contains no word.

    Raises:
        InvalidRequest: The query has more than `MAX_WORDS` words, a word of more than `MAX_WORD` characters, or groups
            nested deeper than `MAX_DEPTH`.
    """
    text = text.translate(_SEPARATORS).translate(_QUOTES)
    tree = _tree(text)
    if tree is None and (operators := [word for word in text.split() if word in OPERATORS]):
        tree = _joined(And, [Term((fold(word),)) for word in operators])
    return tree


def terms(tree: Node | None, *, wanted: bool = True) -> Iterator[Term]:
    """Yield the terms that are not negated."""
    match tree:
        case Term() if wanted:
            yield tree
        case Not():
            yield from terms(tree.child, wanted=not wanted)
        case And(children) | Or(children):
            for child in children:
                yield from terms(child, wanted=wanted)


def _tree(text: str) -> Node | None:
    groups = [_Group()]
    budget = MAX_WORDS
    for match in _LEXER.finditer(text):
        group = groups[-1]
        match match.lastgroup:
            case "open":
                groups.append(_Group())
            case "close":
                if len(groups) > 1:
                    groups.pop()
                    groups[-1].add(group.node())
            case "minus":
                group.negated = True
            case "word" if match["word"] in OPERATORS:
                group.operate(match["word"])
            case _:
                term = _term(match)
                budget -= len(term.words) if term else 0
                if budget < 0:
                    raise InvalidRequest(f"The query has more than {MAX_WORDS} words.")
                group.add(term)
    while len(groups) > 1:
        node = groups.pop().node()
        groups[-1].add(node)
    return groups[0].node()


def _term(match: re.Match[str]) -> Term | None:
    quoted = match["quoted"] is not None
    found = tuple(words(match["phrase"] if quoted else match["word"]))
    if any(len(word) > MAX_WORD for word in found):
        raise InvalidRequest(f"The query has a word of more than {MAX_WORD} characters.")
    prefix = match["star"] is not None if quoted else match["word"].endswith("*")
    return Term(found, prefix or _UNSPACED.search(found[-1]) is not None) if found else None


class _Group:
    """A group that is being parsed: the top level, or the content of parentheses."""

    def __init__(self) -> None:
        self.branches: list[list[Node]] = [[]]
        self.negated = False

    def add(self, node: Node | None) -> None:
        """Add a term or a group; None stands for one without words."""
        if node is not None:
            self.branches[-1].append(_negation(node) if self.negated else node)
        self.negated = False

    def operate(self, operator: str) -> None:
        """Apply an operator. AND is the default, so it has no effect."""
        if operator == "NOT":
            self.negated = not self.negated
        elif operator == "OR":
            self.branches.append([])

    def node(self) -> Node | None:
        """Return the tree of the group."""
        branches = [joined for branch in self.branches if (joined := _joined(And, branch)) is not None]
        return _joined(Or, branches)


def _negation(node: Node) -> Node:
    return node.child if isinstance(node, Not) else Not(node)


def _joined(kind: type[And] | type[Or], nodes: list[Node]) -> Node | None:
    children: dict[Node, None] = {}
    for node in nodes:
        children.update(dict.fromkeys(node.children if isinstance(node, kind) else (node,)))
    if len(children) < 2:
        return next(iter(children), None)
    depth = 1 + max(child.depth for child in children)
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"The query has groups nested more than {MAX_DEPTH} deep.")
    return kind(tuple(children), depth)
