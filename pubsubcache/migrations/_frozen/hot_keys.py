"""The indexed columns, the table of tags and its triggers, as of 0002.

The classes also stand for `pubsubcache.lookups.hotkeys.KeyText` and `HotKeyField` in migrations: those deconstruct to
the names here.
"""

from django.db import models
from django.utils.deconstruct import deconstructible


@deconstructible
class KeyText(models.Func):
    """The beginning of the text that a JSON column has under a key of its outermost object; else null."""

    output_field = models.TextField()

    def __init__(self, expression, *, key, length):
        super().__init__(expression)
        self.key, self.length = key, length

    def as_sqlite(self, compiler, connection, **extra):
        path = f"%(expressions)s,'$.\"{self.key}\"'"
        template = f"CASE WHEN json_type({path}) = 'text' THEN substr(json_extract({path}),1,{self.length}) END"
        return self._filled(compiler, template)

    def as_postgresql(self, compiler, connection, **extra):
        template = (
            f"CASE WHEN jsonb_typeof(%(expressions)s -> '{self.key}') = 'string' "
            f"THEN \"left\"(%(expressions)s ->> '{self.key}', {self.length}) END"
        )
        return self._filled(compiler, template)

    def _filled(self, compiler, template):
        column, parameters = compiler.compile(self.source_expressions[0])
        return template.replace("%(expressions)s", column), tuple(parameters) * template.count("%(expressions)s")


class HotKeyField(models.GeneratedField):
    """A generated column whose text sorts by the order of its characters."""

    db_returning = False

    def db_parameters(self, connection):
        parameters = super().db_parameters(connection)
        return {**parameters, "collation": "C"} if connection.vendor == "postgresql" else parameters


_KEEP_TAGS = """INSERT INTO pubsubcache_tag (tag, item_id)
    SELECT DISTINCT value, new.id FROM json_each(new.parsed, '$.tags') WHERE type = 'text';"""

CREATE_TAGS_ON_SQLITE = (
    "CREATE TABLE pubsubcache_tag (tag text NOT NULL, item_id integer NOT NULL, PRIMARY KEY (tag, item_id))"
    " WITHOUT ROWID",
    "CREATE INDEX pubsubcache_tag_item ON pubsubcache_tag (item_id)",
    """INSERT INTO pubsubcache_tag (tag, item_id) SELECT DISTINCT tag.value, item.id
        FROM pubsubcache_pubsubitem AS item, json_each(item.parsed, '$.tags') AS tag
        WHERE json_type(item.parsed, '$.tags') = 'array' AND tag.type = 'text'""",
    f"""CREATE TRIGGER pubsubcache_tag_insert AFTER INSERT ON pubsubcache_pubsubitem \
WHEN json_type(new.parsed, '$.tags') = 'array' BEGIN {_KEEP_TAGS} END""",
    f"""CREATE TRIGGER pubsubcache_tag_update AFTER UPDATE OF parsed ON pubsubcache_pubsubitem
        WHEN json_extract(old.parsed, '$.tags') IS NOT json_extract(new.parsed, '$.tags') BEGIN
        DELETE FROM pubsubcache_tag WHERE item_id = old.id;
        {_KEEP_TAGS.replace("WHERE", "WHERE json_type(new.parsed, '$.tags') = 'array' AND")}
        END""",
    """CREATE TRIGGER pubsubcache_tag_delete AFTER DELETE ON pubsubcache_pubsubitem \
WHEN json_type(old.parsed, '$.tags') = 'array' BEGIN
        DELETE FROM pubsubcache_tag WHERE item_id = old.id; END""",
)
DROP_TAGS_ON_SQLITE = (
    "DROP TRIGGER IF EXISTS pubsubcache_tag_insert",
    "DROP TRIGGER IF EXISTS pubsubcache_tag_update",
    "DROP TRIGGER IF EXISTS pubsubcache_tag_delete",
    "DROP TABLE pubsubcache_tag",
)
CREATE_CONTAINMENT_INDEX_ON_POSTGRESQL = (
    "CREATE INDEX pubsubcache_item_parsed ON pubsubcache_pubsubitem USING gin (parsed jsonb_path_ops)",
)
DROP_CONTAINMENT_INDEX_ON_POSTGRESQL = ("DROP INDEX pubsubcache_item_parsed",)
