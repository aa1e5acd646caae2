"""The full text index as of 0003: FTS5 with triggers on SQLite, a generated tsvector with GIN on PostgreSQL."""

import sys
import unicodedata

from django.conf import settings
from django.core.management.base import CommandError
from django.db import router
from django.db.migrations.operations.base import Operation

# SQLite

_ADD = "INSERT INTO pubsubcache_words (rowid, parsed_title, text) VALUES (new.id, new.parsed_title, new.text);"
_REMOVE = """INSERT INTO pubsubcache_words (pubsubcache_words, rowid, parsed_title, text)
    VALUES ('delete', old.id, old.parsed_title, old.text);"""

DROP_ON_SQLITE = (
    "DROP TRIGGER IF EXISTS pubsubcache_words_insert",
    "DROP TRIGGER IF EXISTS pubsubcache_words_delete",
    "DROP TRIGGER IF EXISTS pubsubcache_words_update",
    "DROP TABLE IF EXISTS pubsubcache_words",
)


def create_on_sqlite():
    tokenizer = f"unicode61 remove_diacritics 2 categories ''L* N*'' separators ''{_separators()}''"
    return [
        f"""CREATE VIRTUAL TABLE pubsubcache_words USING fts5(parsed_title, text, \
content='pubsubcache_pubsubitem', content_rowid='id',
        tokenize='{tokenizer}')""",
        "INSERT INTO pubsubcache_words (pubsubcache_words) VALUES ('rebuild')",
        f"CREATE TRIGGER pubsubcache_words_insert AFTER INSERT ON pubsubcache_pubsubitem BEGIN {_ADD} END",
        f"CREATE TRIGGER pubsubcache_words_delete AFTER DELETE ON pubsubcache_pubsubitem BEGIN {_REMOVE} END",
        f"""CREATE TRIGGER pubsubcache_words_update AFTER UPDATE OF id, parsed, text ON pubsubcache_pubsubitem
        WHEN old.id <> new.id OR old.text <> new.text OR old.parsed_title IS NOT new.parsed_title
        BEGIN {_REMOVE} {_ADD} END""",
    ]


def _separators():
    """Return the characters that are no letters or digits and came with later versions of Unicode, emoji among them."""
    late = (
        character
        for character in map(chr, range(0x80, sys.maxunicode + 1))
        if unicodedata.category(character)[0] not in "LNC" and unicodedata.ucd_3_2_0.category(character) == "Cn"
    )
    unknown = (character for character in map(chr, range(0x1F000, 0x1FB00)) if unicodedata.category(character) == "Cn")
    return "".join([*late, *unknown])


# PostgreSQL

# Letters that have a second small form, the dot that the Turkish capital leaves behind, and the usual forms.
_VARIANTS = (
    "\u03c2\u017f\xb5\u03d0\u03d1\u03d5\u03d6\u03f0\u03f1\u03f5\u0307",
    "\u03c3s\u03bc\u03b2\u03b8\u03c6\u03c0\u03ba\u03c1\u03b5",
)
_GAP = "8" * 40

DROP_ON_POSTGRESQL = (
    "ALTER TABLE pubsubcache_pubsubitem DROP COLUMN IF EXISTS search",
    "DROP FUNCTION IF EXISTS pubsubcache_words(jsonb, text)",
    "DROP FUNCTION IF EXISTS pubsubcache_fold(text)",
    "DROP FUNCTION IF EXISTS pubsubcache_language()",
)


def create_on_postgresql(connection):
    """Raises `CommandError` for a language that PostgreSQL does not know."""
    wanted = getattr(settings, "PUBSUBCACHE_SEARCH_LANGUAGE", "simple")
    with connection.cursor() as cursor:
        cursor.execute("SELECT quote_ident(cfgname) FROM pg_ts_config WHERE cfgname = %s", [wanted])
        known = cursor.fetchone()
        if known is None:
            cursor.execute("SELECT DISTINCT cfgname FROM pg_ts_config ORDER BY cfgname")
            names = ", ".join(name for (name,) in cursor.fetchall())
            raise CommandError(f"PostgreSQL has no text search configuration {wanted!r}; it has {names}.")
        cursor.execute("SELECT collname FROM pg_collation WHERE collname = 'und-x-icu' AND collencoding IN (-1, 6)")
        collate = 'COLLATE "und-x-icu"' if cursor.fetchone() else ""
    language = "'" + known[0].replace("'", "''") + "'"
    return [
        f"""CREATE OR REPLACE FUNCTION pubsubcache_language() RETURNS regconfig LANGUAGE sql IMMUTABLE PARALLEL SAFE
        AS $$ SELECT {language}::regconfig $$""",
        f"""CREATE OR REPLACE FUNCTION pubsubcache_fold(source text) RETURNS text
        LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$ BEGIN
        IF octet_length(source) > length(source) THEN
            source := regexp_replace(normalize(source, NFD), '([a-zA-Z])[\\u0300-\\u036f]+', '\\1', 'g');
            source := regexp_replace(normalize(source, NFC), '[\\u0300-\\u036f]+', '', 'g');
            source := translate(lower(source {collate}), '{_VARIANTS[0]}', '{_VARIANTS[1]}');
        ELSE
            source := lower(source);
        END IF;
        RETURN regexp_replace(source {collate}, '[^[:alnum:]]+', ' ', 'g');
        END $$""",
        f"""CREATE OR REPLACE FUNCTION pubsubcache_words(parsed jsonb, source text) RETURNS tsvector
        LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path FROM CURRENT AS $$
        DECLARE
            folded text := pubsubcache_fold("left"(source, 2000000));
            words tsvector;
        BEGIN
        WHILE octet_length(folded) > 450000 LOOP
            folded := "left"(folded, length(folded) * 9 / 10);
        END LOOP;
        words := ts_delete(to_tsvector({language}::regconfig, '{_GAP} ' || coalesce(folded, '')), '{_GAP}');
        IF jsonb_typeof(parsed -> 'title') = 'string' THEN
            RETURN setweight(
                to_tsvector({language}::regconfig, pubsubcache_fold("left"(parsed ->> 'title', 500))), 'A'
            ) || words;
        END IF;
        RETURN words;
        END $$""",
        "ALTER TABLE pubsubcache_pubsubitem ADD COLUMN search tsvector "
        "GENERATED ALWAYS AS (pubsubcache_words(parsed, text)) STORED",
        "CREATE INDEX pubsubcache_item_search ON pubsubcache_pubsubitem USING gin (search)",
    ]


class CreateFullText(Operation):
    """Makes the index and fills it, in the language of the settings."""

    reversible = True

    def state_forwards(self, app_label, state):
        """Django's models do not know the index."""

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        connection = schema_editor.connection
        if not router.allow_migrate(connection.alias, app_label):
            return
        statements = []
        if connection.vendor == "sqlite":
            statements = [*DROP_ON_SQLITE, *create_on_sqlite()]
        elif connection.vendor == "postgresql":
            statements = [*DROP_ON_POSTGRESQL, *create_on_postgresql(connection)]
        for sql in statements:
            schema_editor.execute(sql, params=None)

    def database_backwards(self, app_label, schema_editor, from_state, to_state):
        vendors = {"sqlite": DROP_ON_SQLITE, "postgresql": DROP_ON_POSTGRESQL}
        if router.allow_migrate(schema_editor.connection.alias, app_label):
            for sql in vendors.get(schema_editor.connection.vendor, ()):
                schema_editor.execute(sql, params=None)

    def describe(self):
        return "Create the full text index of the items"
