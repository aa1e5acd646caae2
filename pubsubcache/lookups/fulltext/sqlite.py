"""Full text on SQLite: an FTS5 table over the items' titles and words, kept in step by triggers.

Its tokenizer takes letters and digits for words, and folds case and the accents of Latin letters.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from copy import copy
from typing import Any

from django.db import models
from django.db.models.sql.constants import INNER, LOUTER
from django.db.models.sql.datastructures import BaseTable

from pubsubcache.lookups.fulltext.folding import separators
from pubsubcache.lookups.fulltext.query import And, Node, Not, Or, Term
from pubsubcache.lookups.hotkeys import ITEMS

TABLE = "pubsubcache_words"
COLUMNS = "parsed_title, text"
_WEIGHTS = "10.0, 1.0"

_ADD = f"INSERT INTO {TABLE} (rowid, {COLUMNS}) VALUES (new.id, new.parsed_title, new.text);"  # noqa: S608
_REMOVE = f"""INSERT INTO {TABLE} ({TABLE}, rowid, {COLUMNS})
    VALUES ('delete', old.id, old.parsed_title, old.text);"""  # noqa: S608
TRIGGERS = {
    f"{TABLE}_insert": f"AFTER INSERT ON {ITEMS} BEGIN {_ADD} END",
    f"{TABLE}_delete": f"AFTER DELETE ON {ITEMS} BEGIN {_REMOVE} END",
    f"{TABLE}_update": f"""AFTER UPDATE OF id, parsed, text ON {ITEMS}
        WHEN old.id <> new.id OR old.text <> new.text OR old.parsed_title IS NOT new.parsed_title
        BEGIN {_REMOVE} {_ADD} END""",
}


def create() -> Iterator[str]:
    """Yield what makes table and triggers, and fills them."""
    tokenizer = f"unicode61 remove_diacritics 2 categories ''L* N*'' separators ''{separators()}''"
    yield f"""CREATE VIRTUAL TABLE {TABLE} USING fts5({COLUMNS}, content='{ITEMS}', content_rowid='id',
        tokenize='{tokenizer}')"""
    yield f"INSERT INTO {TABLE} ({TABLE}) VALUES ('rebuild')"  # noqa: S608
    for name, trigger in TRIGGERS.items():
        yield f"CREATE TRIGGER {name} {trigger}"


DROP = (*(f"DROP TRIGGER IF EXISTS {name}" for name in TRIGGERS), f"DROP TABLE IF EXISTS {TABLE}")


def is_complete(connection: Any) -> bool:
    """Say whether the index, if there is one, is kept in step: a migration that makes the table anew ends that."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master")
        names = {name for (name,) in cursor.fetchall()}
    return TABLE not in names or names.issuperset(TRIGGERS)


def is_available() -> bool:
    """Say whether this process's SQLite was built with FTS5; no database is opened."""
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE words USING fts5(word)")
        except sqlite3.OperationalError:
            return False
    return True


# Queries


def join(query: Any, tree: Node) -> str:
    """Join what a query tree finds to a query of items, for a column `rank`; return the alias of the join."""
    parent = query.get_initial_alias()
    alias: str = query.join(_Found(TABLE, None, parent, tree), reuse=set())
    query.alias_map[alias].nullable = True  # so that an OR makes it an outer join
    return alias


class _Found(BaseTable):
    """What a query tree finds, as a table of `id` and `rank` that is joined to the items."""

    nullable = False

    def __init__(self, table_name: str, alias: str | None, parent_alias: str, tree: Node) -> None:
        super().__init__(table_name, alias)
        self.parent_alias, self.tree, self.join_type = parent_alias, tree, INNER

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Return the join."""
        found, parameters = selected(self.tree)
        parent, alias = map(compiler.quote_name_unless_alias, (self.parent_alias, self.table_alias))
        return f"{self.join_type} ({found}) {alias} ON ({parent}.id = {alias}.id)", parameters

    def relabeled_clone(self, change_map: Any) -> "_Found":
        """Return the join under other aliases."""
        clone = copy(self)
        clone.table_alias = change_map.get(self.table_alias, self.table_alias)
        clone.parent_alias = change_map.get(self.parent_alias, self.parent_alias)
        return clone

    def promote(self) -> "_Found":
        """Return the outer join, as where one of several conditions is enough."""
        return self._as(LOUTER)

    def demote(self) -> "_Found":
        """Return the inner join."""
        return self._as(INNER)

    def _as(self, kind: str) -> "_Found":
        clone = copy(self)
        clone.join_type = kind
        return clone

    @property
    def identity(self) -> tuple[Any, ...]:
        """What makes two of them the same."""
        return self.__class__, self.table_name, self.table_alias, self.parent_alias, self.tree


class FoundColumn(models.Expression):
    """A column of a join made by `join`."""

    def __init__(self, alias: str, name: str, output_field: "models.Field[Any, Any]") -> None:
        super().__init__(output_field=output_field)
        self.alias, self.name = alias, name

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Return the column."""
        return f"{compiler.quote_name_unless_alias(self.alias)}.{connection.ops.quote_name(self.name)}", ()

    def relabeled_clone(self, change_map: Any) -> "FoundColumn":
        """Return the column under another alias."""
        return FoundColumn(change_map.get(self.alias, self.alias), self.name, self.output_field)


class IsFound(FoundColumn):
    """Whether the join has the item, also where the join was made an outer one."""

    conditional = True

    def __init__(self, alias: str, *_: Any) -> None:
        super().__init__(alias, "id", models.BooleanField())

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        """Return the condition."""
        column, parameters = super().as_sql(compiler, connection)
        return f"{column} IS NOT NULL", parameters

    def relabeled_clone(self, change_map: Any) -> "IsFound":
        """Return the condition under another alias."""
        return IsFound(change_map.get(self.alias, self.alias))


def selected(tree: Node) -> tuple[str, tuple[Any, ...]]:
    """Return a SELECT of `id` and `rank`, with its parameters. Its LIMIT keeps the planner from taking it apart."""
    if is_positive(tree):
        rank = f"-bm25({TABLE}, {_WEIGHTS})"
        sql = f"SELECT rowid AS id, {rank} AS rank FROM {TABLE} WHERE {TABLE} MATCH %s LIMIT -1"  # noqa: S608
        return sql, (compiled(tree),)
    condition, parameters = _condition(tree)
    return f"SELECT id, 0.0 AS rank FROM {ITEMS} WHERE {condition} LIMIT -1", parameters  # noqa: S608


def is_positive(tree: Node) -> bool:
    """Say whether FTS5 can answer a query: it knows NOT only as what is taken away from something found."""
    match tree:
        case Not():
            return False
        case Or(children):
            return all(map(is_positive, children))
        case And(children):
            negated = [child.child for child in children if isinstance(child, Not)]
            wanted = [child for child in children if not isinstance(child, Not)]
            return bool(wanted) and all(map(is_positive, [*wanted, *negated]))
    return True


def compiled(tree: Node) -> str:
    """Return a query that `is_positive` in the language of FTS5."""
    match tree:
        case Term(words, prefix):
            return '"' + " ".join(words) + '"' + ("*" if prefix else "")
        case Or(children):
            return "(" + " OR ".join(map(compiled, children)) + ")"
        case And(children):
            wanted = " AND ".join(compiled(child) for child in children if not isinstance(child, Not))
            negated = "".join(f" NOT {compiled(child.child)}" for child in children if isinstance(child, Not))
            return f"(({wanted}){negated})"
    raise ValueError(tree)


def _condition(tree: Node) -> tuple[str, tuple[Any, ...]]:
    """Return a query as a condition on the items."""
    if is_positive(tree):
        return f"id IN (SELECT rowid FROM {TABLE} WHERE {TABLE} MATCH %s)", (compiled(tree),)  # noqa: S608
    if isinstance(tree, Not):
        sql, parameters = _condition(tree.child)
        return f"NOT {sql}", parameters
    assert isinstance(tree, And | Or)
    pairs = [_condition(child) for child in tree.children]
    joined = (" AND " if isinstance(tree, And) else " OR ").join(sql for sql, _ in pairs)
    return f"({joined})", tuple(parameter for _, found in pairs for parameter in found)
