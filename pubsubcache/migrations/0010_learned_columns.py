"""Columns for what decides whether a node is synchronised, and whether its order is known; it was in `extra`."""

import django_jsonfield_backport.models
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0009_pinned")]

    operations = [
        migrations.AddField("pubsubnode", "to_sync", models.BooleanField(default=None, editable=False, null=True)),
        migrations.AddField("pubsubnode", "by_analyser", models.BooleanField(default=None, editable=False, null=True)),
        migrations.AddField("pubsubnode", "by_hand", models.BooleanField(default=False, editable=False)),
        migrations.AddField(
            "pubsubnode", "registry_fingerprint", models.TextField(default=None, editable=False, null=True)
        ),
        migrations.AddField("pubsubnode", "analysis_reason", models.TextField(default=None, editable=False, null=True)),
        migrations.AddField("pubsubnode", "moves", models.BooleanField(default=None, editable=False, null=True)),
        migrations.AddField(
            "pubsubnode",
            "probe",
            django_jsonfield_backport.models.JSONField(default=None, editable=False, null=True),
        ),
        migrations.AddField("pubsubnode", "confirmed_position", models.BigIntegerField(default=0, editable=False)),
    ]
