"""Items that cannot be kept: why, and since which revision of their node."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0005_fencing")]

    operations = [
        migrations.AddField("pubsubevicted", "reason", models.TextField(blank=True, default="")),
        migrations.AddField("pubsubevicted", "revision", models.BigIntegerField(default=0)),
        migrations.AddIndex(
            "pubsubevicted",
            models.Index(
                fields=["node", "position"], condition=~models.Q(("reason", "")), name="pubsubcache_left_out"
            ),
        ),
    ]
