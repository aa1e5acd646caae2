"""Columns for what an analysis looked at, and whether it leaves items to be parsed anew."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0011_learned_data")]

    operations = [
        migrations.AddField(
            "pubsubnode", "sample_namespace", models.TextField(default=None, editable=False, null=True)
        ),
        migrations.AddField("pubsubnode", "parse_anew", models.BooleanField(default=False, editable=False)),
    ]
