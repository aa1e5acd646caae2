"""Keys of `parsed` that are asked for often, as indexed columns, and tags: see `pubsubcache.lookups.hotkeys`."""

from django.db import migrations, models

from pubsubcache.lookups import hotkeys
from pubsubcache.lookups.hotkeys import HotKeyField, KeyText
from pubsubcache.lookups.operations import AddGeneratedFields, VendorSQL

KEYS = {
    "title": "title",
    "author": "author",
    "author_jid": "author's JID",
    "published": "published",
    "updated": "updated by its author",
    "start": "start",
}


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0001_initial")]

    operations = [
        AddGeneratedFields(
            "PubsubItem",
            {
                f"parsed_{key}": HotKeyField(
                    db_persist=True,
                    expression=KeyText("parsed", key=key, length=500),
                    output_field=models.TextField(null=True),
                    verbose_name=name,
                )
                for key, name in KEYS.items()
            },
        ),
        *(
            migrations.AddIndex(
                model_name="pubsubitem",
                index=models.Index(
                    fields=[f"parsed_{key}"],
                    name=f"pubsubcache_parsed_{key}",
                    condition=models.Q(**{f"parsed_{key}__isnull": False}),
                ),
            )
            for key in KEYS
        ),
        VendorSQL(
            forwards={
                "sqlite": [*hotkeys.TAGS_OF_SQLITE, *hotkeys.FILL_TAGS_OF_SQLITE, *hotkeys.create_triggers()],
                "postgresql": [hotkeys.INDEX_OF_POSTGRESQL],
            },
            backwards={
                "sqlite": [*hotkeys.drop_triggers(), f"DROP TABLE {hotkeys.TAGS}"],
                "postgresql": [f"DROP INDEX {hotkeys.CONTAINMENT_INDEX}"],
            },
        ),
    ]
