"""Full text search on SQLite: an FTS5 table of titles and texts of items, maintained by triggers.

The tokenizer splits words at everything but letters and digits, and folds case and the accents of Latin letters.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from copy import copy
from typing import Any

from django.db import models
from django.db.models.expressions import Col
from django.db.models.lookups import Exact
from django.db.models.sql.constants import INNER, LOUTER
from django.db.models.sql.datastructures import BaseTable
from django.db.models.sql.where import AND

from pubsubcache.lookups.fulltext.folding import separators
from pubsubcache.lookups.fulltext.query import And, Node, Not, Or, Term
from pubsubcache.lookups.hotkeys import ITEMS

TABLE = "pubsubcache_words"
COLUMNS = "parsed_title, text"
NODES = "pubsubcache_pubsubnode"
SMALL = 20_000  # items of a node; the ids of a larger one take longer than the ranks of other nodes' items
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
    """Yield the SQL that creates and fills the table, and creates the triggers."""
    tokenizer = f"unicode61 remove_diacritics 2 categories ''L* N*'' separators ''{separators()}''"
    yield f"""CREATE VIRTUAL TABLE {TABLE} USING fts5({COLUMNS}, content='{ITEMS}', content_rowid='id',
        tokenize='{tokenizer}')"""
    yield f"INSERT INTO {TABLE} ({TABLE}) VALUES ('rebuild')"  # noqa: S608
    for name, trigger in TRIGGERS.items():
        yield f"CREATE TRIGGER {name} {trigger}"


DROP = (*(f"DROP TRIGGER IF EXISTS {name}" for name in TRIGGERS), f"DROP TABLE IF EXISTS {TABLE}")


def is_complete(connection: Any) -> bool:
    """Return whether the index, if it exists, has its triggers. A migration that replaces the table drops them."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master")
        names = {name for (name,) in cursor.fetchall()}
    return TABLE not in names or names.issuperset(TRIGGERS)


def is_available() -> bool:
    """Return whether the SQLite of this process was built with FTS5. No database file is opened."""
    with closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.execute("CREATE VIRTUAL TABLE words USING fts5(word)")
        except sqlite3.OperationalError:
            return False
    return True


# Queries


def join(query: Any, tree: Node) -> str:
    """Join the search results to a query of items.

    Args:
        query: The `django.db.models.sql.Query` of the items.
        tree: The search query.

    Returns:
        The alias of the join, whose columns are `id` and `rank`.
    """
    parent = query.get_initial_alias()
    alias: str = query.join(_Found(TABLE, None, parent, tree), reuse=set())
    query.alias_map[alias].nullable = True  # an OR turns it into an outer join
    return alias


class _Found(BaseTable):
    """Search results as a derived table with the columns `id` and `rank`, joined to the items."""

    nullable = False

    def __init__(self, table_name: str, alias: str | None, parent_alias: str, tree: Node) -> None:
        super().__init__(table_name, alias)
        self.parent_alias, self.tree, self.join_type = parent_alias, tree, INNER

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        found, parameters = selected(self.tree, node_of(compiler.query, self.parent_alias))
        parent, alias = map(compiler.quote_name_unless_alias, (self.parent_alias, self.table_alias))
        return f"{self.join_type} ({found}) {alias} ON ({parent}.id = {alias}.id)", parameters

    def relabeled_clone(self, change_map: Any) -> "_Found":
        clone = copy(self)
        clone.table_alias = change_map.get(self.table_alias, self.table_alias)
        clone.parent_alias = change_map.get(self.parent_alias, self.parent_alias)
        return clone

    def promote(self) -> "_Found":
        return self._as(LOUTER)

    def demote(self) -> "_Found":
        return self._as(INNER)

    def _as(self, kind: str) -> "_Found":
        clone = copy(self)
        clone.join_type = kind
        return clone

    @property
    def identity(self) -> tuple[Any, ...]:
        return self.__class__, self.table_name, self.table_alias, self.parent_alias, self.tree


class FoundColumn(models.Expression):
    """A column of a join that was added by `join`."""

    def __init__(self, alias: str, name: str, output_field: "models.Field[Any, Any]") -> None:
        super().__init__(output_field=output_field)
        self.alias, self.name = alias, name

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        return f"{compiler.quote_name_unless_alias(self.alias)}.{connection.ops.quote_name(self.name)}", ()

    def relabeled_clone(self, change_map: Any) -> "FoundColumn":
        return FoundColumn(change_map.get(self.alias, self.alias), self.name, self.output_field)


class IsFound(FoundColumn):
    """Condition that the join found the item, even if it became an outer join."""

    conditional = True

    def __init__(self, alias: str, *_: Any) -> None:
        super().__init__(alias, "id", models.BooleanField())

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        column, parameters = super().as_sql(compiler, connection)
        return f"{column} IS NOT NULL", parameters

    def relabeled_clone(self, change_map: Any) -> "IsFound":
        return IsFound(change_map.get(self.alias, self.alias))


def node_of(query: Any, alias: str) -> int | None:
    """Return the primary key of the only node whose items a query can return, or None.

    Args:
        query: The `django.db.models.sql.Query`.
        alias: The alias of the items in the query.
    """
    where = query.where
    if where.connector != AND or where.negated:
        return None
    for condition in where.children:
        column = condition.lhs if isinstance(condition, Exact) else None
        if isinstance(column, Col) and (column.alias, column.target.column) == (alias, "node_id"):
            return condition.rhs if isinstance(condition.rhs, int) else None
    return None


def selected(tree: Node, node: int | None = None) -> tuple[str, tuple[Any, ...]]:
    """Return a SELECT of `id` and `rank` with its parameters. Its LIMIT keeps the planner from flattening it.

    Args:
        tree: The search query.
        node: Primary key of the node whose items are wanted; None for all. If the node is small, only its items are
            ranked, because ranking is what takes time. The plus sign keeps FTS5 from searching once for each of them.
    """
    if is_positive(tree):
        rank = f"-bm25({TABLE}, {_WEIGHTS})"
        sql = f"SELECT rowid AS id, {rank} AS rank FROM {TABLE} WHERE {TABLE} MATCH %s"  # noqa: S608
        if node is None:
            return f"{sql} LIMIT -1", (compiled(tree),)
        is_large = f"(SELECT item_count FROM {NODES} WHERE id = %s) > {SMALL}"  # noqa: S608
        is_wanted = f"+rowid IN (SELECT id FROM {ITEMS} WHERE node_id = %s)"  # noqa: S608
        return f"{sql} AND ({is_large} OR {is_wanted}) LIMIT -1", (compiled(tree), node, node)
    condition, parameters = _condition(tree)
    if node is not None:
        condition, parameters = f"node_id = %s AND {condition}", (node, *parameters)
    return f"SELECT id, 0.0 AS rank FROM {ITEMS} WHERE {condition} LIMIT -1", parameters  # noqa: S608


def is_positive(tree: Node) -> bool:
    """Return whether FTS5 can evaluate a query. Its NOT is a binary operator that subtracts from other results."""
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
    """Compile a query to the syntax of FTS5. It must be positive, see `is_positive`."""
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
    """Compile any query to a condition on the items."""
    if is_positive(tree):
        return f"id IN (SELECT rowid FROM {TABLE} WHERE {TABLE} MATCH %s)", (compiled(tree),)  # noqa: S608
    if isinstance(tree, Not):
        sql, parameters = _condition(tree.child)
        return f"NOT {sql}", parameters
    assert isinstance(tree, And | Or)
    pairs = [_condition(child) for child in tree.children]
    joined = (" AND " if isinstance(tree, And) else " OR ").join(sql for sql, _ in pairs)
    return f"({joined})", tuple(parameter for _, found in pairs for parameter in found)
