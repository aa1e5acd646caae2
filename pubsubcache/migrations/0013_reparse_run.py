"""How far `pubsub_reparse` has come, so that an interrupted run can be resumed."""

import django.utils.timezone
import django_jsonfield_backport.models
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0012_sample_namespace")]

    operations = [
        migrations.CreateModel(
            name="ReparseRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("token", models.CharField(max_length=32)),
                ("filters", django_jsonfield_backport.models.JSONField(default=dict)),
                ("last_item", models.BigIntegerField(default=0)),
                ("started", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={"verbose_name": "run of pubsub_reparse", "verbose_name_plural": "runs of pubsub_reparse"},
        ),
    ]
