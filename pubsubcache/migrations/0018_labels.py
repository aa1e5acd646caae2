"""Labels of fields in the words of the documentation."""

from datetime import timedelta

from django.core.validators import MinValueValidator
from django.db import migrations, models

INTERVAL = "For example 10 min, 2 h or 1 d 4 h. If empty, the setting of the site applies."
PINNED = "Kept even if nobody reads it: chosen by hand, imported, or of the account itself."


def label(name, field):
    return migrations.AlterField("pubsubnode", name, field)


def moment(verbose_name):
    return models.DateTimeField(verbose_name, null=True, blank=True)


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0017_unparsed_items")]

    operations = [
        migrations.AlterModelOptions(
            "analyserchoice", options={"verbose_name": "analyser", "verbose_name_plural": "analysers"}
        ),
        migrations.AlterModelOptions(
            "pubsubevicted", options={"verbose_name": "evicted item", "verbose_name_plural": "evicted items"}
        ),
        migrations.AlterField(
            "account",
            "enabled",
            models.BooleanField("enabled", default=True, help_text="Workers keep a session for it."),
        ),
        migrations.AlterField(
            "account",
            "host",
            models.CharField(
                "host", max_length=255, blank=True, help_text="Only if the domain has no DNS records for XMPP."
            ),
        ),
        migrations.AlterField(
            "analyserchoice",
            "to_sync",
            models.BooleanField(
                "synchronise", null=True, default=None, help_text="Unknown: as the analyser is registered."
            ),
        ),
        label("bring_back", models.BooleanField("fetch evicted items again", default=False)),
        label("checked_at", moment("last revalidated")),
        label("compared_at", moment("last full sync")),
        label("evicted_count", models.PositiveIntegerField("evicted items", default=0)),
        label("pinned", models.BooleanField("pinned", default=False, help_text=PINNED)),
        label(
            "reconcile_interval",
            models.DurationField(
                "revalidate every",
                null=True,
                blank=True,
                validators=[MinValueValidator(timedelta(seconds=1))],
                help_text=INTERVAL,
            ),
        ),
        label("sync_done", models.PositiveIntegerField("items read", default=0)),
        label("sync_heartbeat", moment("heartbeat of the synchronisation")),
        label("sync_requested", moment("synchronisation requested")),
        label("unavailable_count", models.PositiveIntegerField("service-unavailable answers in a row", default=0)),
        label("unavailable_since", moment("first service-unavailable answer")),
    ]
