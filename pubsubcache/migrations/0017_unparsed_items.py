"""An index of the items that could not be parsed, so that the admin need not look for them among all."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0016_job")]

    operations = [
        migrations.AddIndex(
            "pubsubitem",
            models.Index(
                fields=["id", "node"], condition=~models.Q(("parse_error", "")), name="pubsubcache_item_unparsed"
            ),
        ),
    ]
