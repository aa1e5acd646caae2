"""Keys of `parsed` that are asked for often, as indexed columns, and tags."""

from django.db import migrations, models

from pubsubcache.migrations._frozen import hot_keys
from pubsubcache.migrations._frozen.operations import AddGeneratedFields, VendorSQL

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
                f"parsed_{key}": hot_keys.HotKeyField(
                    db_persist=True,
                    expression=hot_keys.KeyText("parsed", key=key, length=500),
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
                "sqlite": hot_keys.CREATE_TAGS_ON_SQLITE,
                "postgresql": hot_keys.CREATE_CONTAINMENT_INDEX_ON_POSTGRESQL,
            },
            backwards={
                "sqlite": hot_keys.DROP_TAGS_ON_SQLITE,
                "postgresql": hot_keys.DROP_CONTAINMENT_INDEX_ON_POSTGRESQL,
            },
        ),
    ]
