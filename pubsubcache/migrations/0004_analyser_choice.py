"""What staff want of the nodes of an analyser."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0003_full_text")]

    operations = [
        migrations.CreateModel(
            name="AnalyserChoice",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("analyser", models.CharField(max_length=100, unique=True, verbose_name="analyser")),
                (
                    "to_sync",
                    models.BooleanField(
                        default=None,
                        help_text="Unknown: as the analyser was registered.",
                        null=True,
                        verbose_name="synchronise",
                    ),
                ),
            ],
            options={
                "verbose_name": "choice for an analyser",
                "verbose_name_plural": "choices for analysers",
            },
        ),
    ]
