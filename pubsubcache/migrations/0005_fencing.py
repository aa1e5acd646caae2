"""Fencing tokens: which worker and session an account's copies rest on."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0004_analyser_choice")]

    operations = [
        migrations.AddField(
            model_name="account",
            name="fencing_token",
            field=models.BigIntegerField(default=0, editable=False, verbose_name="fencing token"),
        ),
        migrations.AddField(
            model_name="pubsubnode",
            name="checked_token",
            field=models.BigIntegerField(default=0, editable=False),
        ),
    ]
