"""Full text on PostgreSQL: a generated column of words, `search`, with a GIN index.

The column is no field of the model, so no query reads it unless it searches. Words are made by a function in the
database, from text folded as `folding.fold` does it: the parser of PostgreSQL, which has ideas of its own about hosts,
numbers and hyphens, then sees nothing but letters, digits and spaces. The language is part of the functions, so
that searches speak the language of the index whatever the settings say meanwhile.
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
# A vector ends at 1 MB, and takes at most about twice the bytes of the words in it.
MAX_BYTES = 450_000
MAX_SOURCE = 2_000_000
# Stands between title and text, so that no phrase goes across; a number, which no language changes.
_GAP = "8" * 40
_WEIGHTS = "{0.1, 0.1, 0.1, 1.0}"


def create(language: str, collation: str) -> Iterator[str]:
    """Yield what makes functions, column and index; `collation` is one that knows all letters, "" for the database's.

    `language` is a text search configuration's name, quoted as an identifier.
    """
    variants = f"{_literal(VARIANTS[0] + DOT)}, {_literal(VARIANTS[1])}"  # what has no counterpart goes
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
    # Names are qualified, for a dump is restored with an empty search path.
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
    """Return what makes the index anew in a transaction. Raises `InvalidRequest` for an unknown language."""
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
    """Return the text search configuration that the index was made with, None when there is no index."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT to_regproc('{LANGUAGE}')")
        if cursor.fetchone()[0] is None:
            return None
        cursor.execute(f"SELECT cfgname FROM pg_ts_config WHERE oid = {LANGUAGE}()")  # noqa: S608
        row = cursor.fetchone()
    return row[0] if row else None


# Queries


class _Search(models.Func):
    """The column of words, of whichever table the item's primary key is taken from, with a query."""

    template = ""

    def __init__(self, tree: Node) -> None:
        super().__init__("pk")
        self.tree = tree

    def as_sql(self, compiler: Any, connection: Any, *_: Any, **extra: Any) -> tuple[str, tuple[Any, ...]]:
        """Return the template with column and query filled in."""
        table = compiler.quote_name_unless_alias(self.source_expressions[0].alias)  # type: ignore[attr-defined]
        column = f"{table}.{connection.ops.quote_name(COLUMN)}"
        return self.template % (column, f"to_tsquery({LANGUAGE}(), %s)"), (compiled(self.tree),)


class Matches(_Search):
    """Whether an item has what a query asks for."""

    output_field = models.BooleanField()
    conditional = True
    template = "%s @@ %s"


class Rank(_Search):
    """How well an item answers a query: more is better."""

    output_field = models.FloatField()
    template = f"ts_rank('{_WEIGHTS}', %s, %s)::float8"


def compiled(tree: Node) -> str:
    """Return a query in the language of `to_tsquery`."""
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
