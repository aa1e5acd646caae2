"""How often in a row a service answered that a node's account is unavailable, and since when."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0006_left_out")]

    operations = [
        migrations.AddField(
            "pubsubnode",
            "unavailable_count",
            models.PositiveIntegerField(default=0, verbose_name="answers service-unavailable in a row"),
        ),
        migrations.AddField(
            "pubsubnode",
            "unavailable_since",
            models.DateTimeField(blank=True, null=True, verbose_name="the first of them"),
        ),
    ]
