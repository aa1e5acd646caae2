"""Hot keys: frequently used keys of `parsed` as generated columns with indexes, and tags.

The columns contain the first characters of the text of a key, or null, so that no payload can exceed the limits of an
index or have the wrong type. On SQLite, triggers maintain a separate table of tags. On PostgreSQL, an index on all of
`parsed` finds tags and any other value.
"""

import json
from typing import Any

from django.db import models
from django.utils.deconstruct import deconstructible

# Characters. Each takes up to four bytes, and an index row of PostgreSQL is limited to 2704 bytes.
LENGTH = 500
KEYS = ("title", "author", "author_jid", "published", "updated", "start")
COLUMNS = tuple(f"parsed_{key}" for key in KEYS)

ITEMS = "pubsubcache_pubsubitem"
TAGS = "pubsubcache_tag"


# Migrations name their own copies of the two classes, which never change. Whoever changes the SQL of a class adds a new
# copy there, names it here, and writes a migration.
@deconstructible(path="pubsubcache.migrations._frozen.hot_keys.KeyText")
class KeyText(models.Func):
    """The first characters of the text of a key of a JSON object; null if it is not a string."""

    output_field = models.TextField()

    def __init__(self, expression: Any, *, key: str, length: int) -> None:
        if not key.isidentifier():
            raise ValueError(f"The key {key!r} cannot be used in a schema.")
        super().__init__(expression)
        self.key, self.length = key, length

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> tuple[str, tuple[Any, ...]]:
        # No space after the comma: Django takes a comma and a space for the end of a column when it reads a schema.
        path = f"%(expressions)s,'$.\"{self.key}\"'"
        template = f"CASE WHEN json_type({path}) = 'text' THEN substr(json_extract({path}),1,{self.length}) END"
        return self._filled(compiler, template)

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> tuple[str, tuple[Any, ...]]:
        template = (
            f"CASE WHEN jsonb_typeof(%(expressions)s -> '{self.key}') = 'string' "
            f"THEN \"left\"(%(expressions)s ->> '{self.key}', {self.length}) END"
        )
        return self._filled(compiler, template)

    def _filled(self, compiler: Any, template: str) -> tuple[str, tuple[Any, ...]]:
        column, parameters = compiler.compile(self.source_expressions[0])
        return template.replace("%(expressions)s", column), tuple(parameters) * template.count("%(expressions)s")


class HotKeyField(models.GeneratedField):
    """A generated column for a hot key. It sorts by code point, like all texts that are sorted."""

    db_returning = False  # type: ignore[assignment]  # bulk inserts don't need the value

    def deconstruct(self) -> Any:
        """Name the copy of this class that migrations use."""
        name, _, args, kwargs = super().deconstruct()
        return name, "pubsubcache.migrations._frozen.hot_keys.HotKeyField", args, kwargs

    def db_parameters(self, connection: Any) -> Any:
        """Set the collation on PostgreSQL to code points, which is SQLite's default."""
        parameters = super().db_parameters(connection)
        return {**parameters, "collation": "C"} if connection.vendor == "postgresql" else parameters


def hot_key(key: str, verbose_name: Any) -> HotKeyField:
    """Create the field for a key of `parsed`."""
    expression = KeyText("parsed", key=key, length=LENGTH)
    return HotKeyField(
        verbose_name=verbose_name, expression=expression, output_field=models.TextField(null=True), db_persist=True
    )


def hot_key_index(key: str) -> models.Index:
    """Create the index for a hot key. It is partial, because most items lack most of the keys."""
    column = f"parsed_{key}"
    return models.Index(
        fields=[column], name=f"pubsubcache_{column}", condition=models.Q(**{f"{column}__isnull": False})
    )


class HasTag(models.Func):
    """Condition that the list `tags` in `parsed` contains a tag, compared exactly."""

    output_field = models.BooleanField()
    conditional = True

    def __init__(self, tag: str) -> None:
        super().__init__("pk", "parsed")
        self.tag = tag

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> tuple[str, tuple[Any, ...]]:
        column, parameters = compiler.compile(self.source_expressions[0])
        sql = f"{column} IN (SELECT item_id FROM {TAGS} WHERE tag = %s)"  # noqa: S608
        return sql, (*parameters, self.tag)

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> tuple[str, tuple[Any, ...]]:
        column, parameters = compiler.compile(self.source_expressions[1])
        return f"{column} @> %s::jsonb", (*parameters, json.dumps({"tags": [self.tag]}))


_KEEP_TAGS = f"""INSERT INTO {TAGS} (tag, item_id)
    SELECT DISTINCT value, new.id FROM json_each(new.parsed, '$.tags') WHERE type = 'text';"""  # noqa: S608
_IS_TAGGED = "json_type({row}.parsed, '$.tags') = 'array'"

TRIGGERS_OF_SQLITE = {
    f"{TAGS}_insert": f"""AFTER INSERT ON {ITEMS} WHEN {_IS_TAGGED.format(row="new")} BEGIN {_KEEP_TAGS} END""",
    f"{TAGS}_update": f"""AFTER UPDATE OF parsed ON {ITEMS}
        WHEN json_extract(old.parsed, '$.tags') IS NOT json_extract(new.parsed, '$.tags') BEGIN
        DELETE FROM {TAGS} WHERE item_id = old.id;
        {_KEEP_TAGS.replace("WHERE", "WHERE " + _IS_TAGGED.format(row="new") + " AND")}
        END""",  # noqa: S608
    f"{TAGS}_delete": f"""AFTER DELETE ON {ITEMS} WHEN {_IS_TAGGED.format(row="old")} BEGIN
        DELETE FROM {TAGS} WHERE item_id = old.id; END""",  # noqa: S608
}
FILL_TAGS_OF_SQLITE = (
    f"DELETE FROM {TAGS}",  # noqa: S608
    f"""INSERT INTO {TAGS} (tag, item_id) SELECT DISTINCT tag.value, item.id
        FROM {ITEMS} AS item, json_each(item.parsed, '$.tags') AS tag
        WHERE {_IS_TAGGED.format(row="item")} AND tag.type = 'text'""",  # noqa: S608
)


def create_triggers() -> list[str]:
    """Return the SQL that creates SQLite's triggers for tags."""
    return [f"CREATE TRIGGER {name} {trigger}" for name, trigger in TRIGGERS_OF_SQLITE.items()]


def drop_triggers() -> list[str]:
    """Return the SQL that drops SQLite's triggers for tags."""
    return [f"DROP TRIGGER IF EXISTS {name}" for name in TRIGGERS_OF_SQLITE]


def repair_statements(connection: Any) -> list[str]:
    """Return the SQL that refills SQLite's table of tags and recreates its triggers; [] if none are missing."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM sqlite_master")
        names = {name for (name,) in cursor.fetchall()}
    if TAGS not in names or names.issuperset(TRIGGERS_OF_SQLITE):
        return []
    return [*drop_triggers(), *FILL_TAGS_OF_SQLITE, *create_triggers()]
