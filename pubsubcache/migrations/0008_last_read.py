"""When a node was last read, and whether it is kept though nobody reads it."""

import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0007_unavailable")]

    operations = [
        migrations.AddField(
            "pubsubnode",
            "last_read",
            models.DateTimeField(default=django.utils.timezone.now, verbose_name="last read"),
        ),
        migrations.AddField(
            "pubsubnode",
            "pinned",
            models.BooleanField(
                default=False,
                help_text="Kept though nobody reads it: chosen by hand, imported, or one's own.",
                verbose_name="pinned",
            ),
        ),
        migrations.AddIndex(
            "pubsubnode",
            models.Index(
                condition=models.Q(("pinned", False), ("policy", "auto")),
                fields=["account", "last_read"],
                name="pubsubcache_node_unread",
            ),
        ),
    ]
