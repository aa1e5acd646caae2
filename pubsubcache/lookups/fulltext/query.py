"""What people type into a search box, as a tree.

- `winter lights`: both words. `winter AND lights`: the same. `winter OR lights`: either. Operators are upper case.
- `"winter lights"`: one after the other. A word with marks in it, such as `user@host` or `a-b`, is such a phrase.
- `win*`: words that begin so; `"winter li*"` has no prefix in it, `"winter li"*` has. In scripts without spaces, where
  a word is all up to the next mark, every word is taken for a beginning.
- `-snow`, `NOT snow`: not this. Parentheses group; NOT binds closest, then AND, then OR.

Nothing that can be typed is a syntax error. What has no word in it (`++`, emoji) is left out; so are operators without
something to work on, and parentheses and quotes without their counterpart end where the text ends.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.lookups.fulltext.folding import fold, words

MAX_WORDS = 500
MAX_WORD = 500  # characters; PostgreSQL's index has no words of more than 2046 bytes
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
# Thai, Lao, Burmese, Khmer, kana, Han, and Hangul, whose words end in particles.
_UNSPACED = re.compile(
    "[\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]\\Z"
)
OPERATORS = ("AND", "OR", "NOT")


@dataclass(frozen=True, slots=True)
class Term:
    """A word, or words one after the other; with `prefix` the last one is only the beginning of a word."""

    words: tuple[str, ...]
    prefix: bool = False
    depth = 0


@dataclass(frozen=True, slots=True)
class Not:
    """Not what the child says; never another `Not`."""

    child: "Term | And | Or"

    @property
    def depth(self) -> int:
        """How deep the tree is below."""
        return self.child.depth


@dataclass(frozen=True, slots=True)
class _Several:
    children: "tuple[Node, ...]"
    depth: int = field(compare=False)


class And(_Several):
    """All of the children, at least two, none of them an `And`."""


class Or(_Several):
    """Any of the children, at least two, none of them an `Or`."""


Node = Term | Not | And | Or


def parse(text: str) -> Node | None:
    """Return the tree of a query, None when there is no word in it.

    Raises `InvalidRequest` for more than `MAX_WORDS` words, a word of more than `MAX_WORD` characters, and
    groups within each other deeper than `MAX_DEPTH`.
    """
    text = text.translate(_SEPARATORS).translate(_QUOTES)
    tree = _tree(text)
    if tree is None and (operators := [word for word in text.split() if word in OPERATORS]):
        tree = _joined(And, [Term((fold(word),)) for word in operators])
    return tree


def terms(tree: Node | None, *, wanted: bool = True) -> Iterator[Term]:
    """Yield the terms that what is found has: those that are not negated."""
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
                    raise InvalidRequest(f"The search has more than {MAX_WORDS} words.")
                group.add(term)
    while len(groups) > 1:
        node = groups.pop().node()
        groups[-1].add(node)
    return groups[0].node()


def _term(match: re.Match[str]) -> Term | None:
    quoted = match["quoted"] is not None
    found = tuple(words(match["phrase"] if quoted else match["word"]))
    if any(len(word) > MAX_WORD for word in found):
        raise InvalidRequest(f"The search has a word of more than {MAX_WORD} characters.")
    prefix = match["star"] is not None if quoted else match["word"].endswith("*")
    return Term(found, prefix or _UNSPACED.search(found[-1]) is not None) if found else None


class _Group:
    """What stands between parentheses, as far as it was read."""

    def __init__(self) -> None:
        self.branches: list[list[Node]] = [[]]
        self.negated = False

    def add(self, node: Node | None) -> None:
        """Take in a term or a group; None: one without words."""
        if node is not None:
            self.branches[-1].append(_negation(node) if self.negated else node)
        self.negated = False

    def operate(self, operator: str) -> None:
        """Take in an operator; AND is what is meant anyway."""
        if operator == "NOT":
            self.negated = not self.negated
        elif operator == "OR":
            self.branches.append([])

    def node(self) -> Node | None:
        """Return what was read."""
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
        raise InvalidRequest(f"The search has groups within each other more than {MAX_DEPTH} deep.")
    return kind(tuple(children), depth)
