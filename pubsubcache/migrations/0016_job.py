"""Jobs: work on many rows, done in small batches by a worker."""

import django.db.models.deletion
import django.utils.timezone
import django_jsonfield_backport.models
from django.conf import settings
from django.db import migrations, models

KINDS = [
    ("purge", "purge from the cache"),
    ("policy", "set the policy"),
    ("analyser", "apply the choice for an analyser"),
    ("forget", "forget nodes"),
    ("reparse", "parse items again"),
    ("accounts", "delete accounts"),
]
STATES = [
    ("waiting", "waiting"),
    ("running", "running"),
    ("done", "done"),
    ("failed", "failed"),
    ("cancelled", "cancelled"),
]


class Migration(migrations.Migration):
    dependencies = [
        ("pubsubcache", "0015_sync_runs"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Job",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(choices=KINDS, max_length=20, verbose_name="kind")),
                ("parameters", django_jsonfield_backport.models.JSONField(default=dict, editable=False)),
                ("state", models.CharField(choices=STATES, db_index=True, default="waiting", editable=False, max_length=20, verbose_name="state")),
                ("created", models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="requested")),
                ("started", models.DateTimeField(editable=False, null=True, verbose_name="started")),
                ("finished", models.DateTimeField(editable=False, null=True, verbose_name="ended")),
                ("done", models.PositiveBigIntegerField(default=0, editable=False, verbose_name="done")),
                ("total", models.PositiveBigIntegerField(default=0, editable=False, verbose_name="total")),
                ("cursor", django_jsonfield_backport.models.JSONField(default=dict, editable=False)),
                ("counts", django_jsonfield_backport.models.JSONField(default=dict, editable=False)),
                ("error", models.TextField(blank=True, default="", editable=False, verbose_name="error")),
                ("cancel_requested", models.BooleanField(default=False, editable=False, verbose_name="cancel requested")),
                ("owner", models.CharField(blank=True, default="", editable=False, max_length=100, verbose_name="worker")),
                ("heartbeat", models.DateTimeField(editable=False, null=True, verbose_name="heartbeat")),
                ("token", models.BigIntegerField(default=0, editable=False)),
                ("attempts", models.PositiveSmallIntegerField(default=0, editable=False)),
                ("requested_by", models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name="pubsub_jobs", to=settings.AUTH_USER_MODEL, verbose_name="requested by")),
            ],
            options={
                "verbose_name": "job",
                "verbose_name_plural": "jobs",
                "ordering": ["-pk"],
                "default_permissions": ("view",),
                "permissions": [("cancel_job", "Can cancel jobs of others")],
            },
        ),
    ]
