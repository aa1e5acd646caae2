"""The full text index of the items: FTS5 with triggers, or a generated tsvector with GIN."""

from django.db import migrations

from pubsubcache.lookups.fulltext.schema import CreateFullText


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0002_hot_keys")]

    operations = [CreateFullText()]
