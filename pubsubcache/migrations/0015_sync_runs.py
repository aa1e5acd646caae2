"""Records of synchronisations, and hourly counters of what each account received, stored and answered."""

import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("pubsubcache", "0014_all_accounts"),
    ]

    operations = [
        migrations.CreateModel(
            name="Activity",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("hour", models.DateTimeField(db_index=True)),
                ("notifications", models.BigIntegerField(default=0)),
                ("stored", models.BigIntegerField(default=0)),
                ("hits", models.BigIntegerField(default=0)),
                ("misses", models.BigIntegerField(default=0)),
                ("stale", models.BigIntegerField(default=0)),
                (
                    "account",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="activity",
                        to="pubsubcache.account",
                    ),
                ),
            ],
            options={
                "verbose_name": "activity",
                "verbose_name_plural": "activity",
                "default_permissions": (),
                "constraints": [
                    models.UniqueConstraint(fields=("account", "hour"), name="pubsubcache_activity_unique")
                ],
            },
        ),
        migrations.CreateModel(
            name="SyncRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "kind",
                    models.CharField(
                        choices=[("full", "full sync"), ("ids", "id check")], max_length=10, verbose_name="kind"
                    ),
                ),
                (
                    "reason",
                    models.CharField(
                        choices=[
                            ("first", "first copy"),
                            ("staff", "requested"),
                            ("retry", "retry after a failure"),
                            ("analyser", "analyser changed"),
                            ("invalidated", "invalidated"),
                            ("reconnect", "new session"),
                            ("read", "read of an outdated copy"),
                            ("ids", "id check found a difference"),
                            ("contents", "comparison of contents"),
                            ("schedule", "schedule"),
                        ],
                        max_length=20,
                        verbose_name="reason",
                    ),
                ),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("running", "running"),
                            ("done", "done"),
                            ("failed", "failed"),
                            ("refused", "refused"),
                            ("abandoned", "abandoned"),
                        ],
                        default="running",
                        max_length=10,
                        verbose_name="outcome",
                    ),
                ),
                ("started", models.DateTimeField(default=django.utils.timezone.now, verbose_name="started")),
                ("finished", models.DateTimeField(blank=True, null=True, verbose_name="finished")),
                ("added", models.PositiveIntegerField(default=0, verbose_name="added")),
                ("updated", models.PositiveIntegerField(default=0, verbose_name="updated")),
                ("removed", models.PositiveIntegerField(default=0, verbose_name="removed")),
                ("requests", models.PositiveIntegerField(default=0, verbose_name="requests")),
                ("error", models.TextField(blank=True, default="", verbose_name="error")),
                (
                    "account",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="runs",
                        to="pubsubcache.account",
                        verbose_name="account",
                    ),
                ),
                (
                    "node",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="runs",
                        to="pubsubcache.pubsubnode",
                        verbose_name="node",
                    ),
                ),
            ],
            options={
                "verbose_name": "sync run",
                "verbose_name_plural": "sync runs",
                "ordering": ["-pk"],
                "default_permissions": (),
                "indexes": [
                    models.Index(fields=["node", "-id"], name="pubsubcache_run_node"),
                    models.Index(fields=["account", "-id"], name="pubsubcache_run_account"),
                    models.Index(fields=["outcome", "started"], name="pubsubcache_run_outcome"),
                ],
            },
        ),
    ]
