"""The full text index of the items: FTS5 with triggers, or a generated tsvector with GIN."""

from django.db import migrations

from pubsubcache.migrations._frozen.full_text import CreateFullText


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0002_hot_keys")]

    operations = [CreateFullText()]
