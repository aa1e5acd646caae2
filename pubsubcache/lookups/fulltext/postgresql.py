"""Full text search on PostgreSQL: a generated tsvector column, `search`, with a GIN index.

The column is not a field of the model, so only searches read it. A database function folds the text like
`folding.fold` and leaves only letters, digits and spaces, because PostgreSQL's parser has special rules for hosts,
numbers and hyphens. The language is stored in the functions, so that searches always use the language of the index,
even if the setting has changed.
"""

from collections.abc import Iterator
from typing import Any

from django.db import models

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.lookups.fulltext.folding import DOT, VARIANTS
from pubsubcache.lookups.fulltext.query import And, Node, Not, Or, Term
from pubsubcache.lookups.hotkeys import ITEMS, LENGTH

COLUMN = "search"
INDEX = "pubsubcache_item_search"
FOLD = "pubsubcache_fold"
VECTOR = "pubsubcache_words"
LANGUAGE = "pubsubcache_language"
# A tsvector is limited to 1 MB, and takes at most about twice the bytes of its words.
MAX_BYTES = 450_000
MAX_SOURCE = 2_000_000
# Separates title and text, so that no phrase spans both. A number, because no language stems numbers.
_GAP = "8" * 40
_WEIGHTS = "{0.1, 0.1, 0.1, 1.0}"


def create(language: str, collation: str) -> Iterator[str]:
    """Yield the SQL that creates the functions, the column and the index.

    Args:
        language: Name of a text search configuration, quoted as an identifier.
        collation: A collation that covers all scripts; "" for that of the database.
    """
    variants = f"{_literal(VARIANTS[0] + DOT)}, {_literal(VARIANTS[1])}"  # translate() removes the unmatched DOT
    collate = f'COLLATE "{collation}"' if collation else ""
    yield f"""CREATE OR REPLACE FUNCTION {LANGUAGE}() RETURNS regconfig LANGUAGE sql IMMUTABLE PARALLEL SAFE
        AS $$ SELECT {_literal(language)}::regconfig $$"""
    yield f"""CREATE OR REPLACE FUNCTION {FOLD}(source text) RETURNS text
        LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$ BEGIN
        IF octet_length(source) > length(source) THEN
            source := regexp_replace(normalize(source, NFD), '([a-zA-Z])[\\u0300-\\u036f]+', '\\1', 'g');
            source := regexp_replace(normalize(source, NFC), '[\\u0300-\\u036f]+', '', 'g');
            source := translate(lower(source {collate}), {variants});
        ELSE
            source := lower(source);
        END IF;
        RETURN regexp_replace(source {collate}, '[^[:alnum:]]+', ' ', 'g');
        END $$"""
    # The search path is fixed, because a dump is restored with an empty one.
    yield f"""CREATE OR REPLACE FUNCTION {VECTOR}(parsed jsonb, source text) RETURNS tsvector
        LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path FROM CURRENT AS $$
        DECLARE
            folded text := {FOLD}("left"(source, {MAX_SOURCE}));
            words tsvector;
        BEGIN
        WHILE octet_length(folded) > {MAX_BYTES} LOOP
            folded := "left"(folded, length(folded) * 9 / 10);
        END LOOP;
        words := ts_delete(to_tsvector({_literal(language)}::regconfig, '{_GAP} ' || coalesce(folded, '')), '{_GAP}');
        IF jsonb_typeof(parsed -> 'title') = 'string' THEN
            RETURN setweight(
                to_tsvector({_literal(language)}::regconfig, {FOLD}("left"(parsed ->> 'title', {LENGTH}))), 'A'
            ) || words;
        END IF;
        RETURN words;
        END $$"""
    yield f"ALTER TABLE {ITEMS} ADD COLUMN {COLUMN} tsvector GENERATED ALWAYS AS ({VECTOR}(parsed, text)) STORED"
    yield f"CREATE INDEX {INDEX} ON {ITEMS} USING gin ({COLUMN})"


DROP = (
    f"ALTER TABLE {ITEMS} DROP COLUMN IF EXISTS {COLUMN}",
    f"DROP FUNCTION IF EXISTS {VECTOR}(jsonb, text)",
    f"DROP FUNCTION IF EXISTS {FOLD}(text)",
    f"DROP FUNCTION IF EXISTS {LANGUAGE}()",
)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def statements(connection: Any, language: str) -> list[str]:
    """Return the SQL that recreates the index in a transaction.

    Raises:
        InvalidRequest: PostgreSQL has no text search configuration `language`.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(cfgname) FROM pg_ts_config WHERE cfgname = %s", [language])
        known = cursor.fetchone()
        if known is None:
            cursor.execute("SELECT DISTINCT cfgname FROM pg_ts_config ORDER BY cfgname")
            names = ", ".join(name for (name,) in cursor.fetchall())
            raise InvalidRequest(f"PostgreSQL has no text search configuration {language!r}; it has {names}.")
        cursor.execute("SELECT collname FROM pg_collation WHERE collname = 'und-x-icu' AND collencoding IN (-1, 6)")
        collation = "und-x-icu" if cursor.fetchone() else ""
    return [*DROP, *create(known[0], collation)]


def language_of(connection: Any) -> str | None:
    """Return the text search configuration of the index, or None if there is no index."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT to_regproc('{LANGUAGE}')")
        if cursor.fetchone()[0] is None:
            return None
        cursor.execute(f"SELECT cfgname FROM pg_ts_config WHERE oid = {LANGUAGE}()")  # noqa: S608
        row = cursor.fetchone()
    return row[0] if row else None


# Queries


class _Search(models.Func):
    """Combines the search column, from the table of the item's primary key, with a query."""

    template = ""

    def __init__(self, tree: Node) -> None:
        super().__init__("pk")
        self.tree = tree

    def as_sql(self, compiler: Any, connection: Any, *_: Any, **extra: Any) -> tuple[str, tuple[Any, ...]]:
        table = compiler.quote_name_unless_alias(self.source_expressions[0].alias)  # type: ignore[attr-defined]
        column = f"{table}.{connection.ops.quote_name(COLUMN)}"
        return self.template % (column, f"to_tsquery({LANGUAGE}(), %s)"), (compiled(self.tree),)


class Matches(_Search):
    """Condition that an item matches a query."""

    output_field = models.BooleanField()
    conditional = True
    template = "%s @@ %s"


class Rank(_Search):
    """Rank of an item for a query; higher is better."""

    output_field = models.FloatField()
    template = f"ts_rank('{_WEIGHTS}', %s, %s)::float8"


def compiled(tree: Node) -> str:
    """Compile a query to the syntax of `to_tsquery`."""
    match tree:
        case Term(words, prefix):
            last = f"'{words[-1]}'" + (":*" if prefix else "")
            return "(" + " <-> ".join([*(f"'{word}'" for word in words[:-1]), last]) + ")"
        case Not(child):
            return f"!{compiled(child)}"
        case And(children):
            return "(" + " & ".join(map(compiled, children)) + ")"
        case Or(children):
            return "(" + " | ".join(map(compiled, children)) + ")"
