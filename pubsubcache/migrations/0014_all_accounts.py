"""The permission to see and steer the accounts of all owners."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0013_reparse_run")]

    operations = [
        migrations.AlterModelOptions(
            name="account",
            options={
                "ordering": ["jid"],
                "permissions": [("all_accounts", "Can see and steer the accounts of all owners")],
                "verbose_name": "account",
                "verbose_name_plural": "accounts",
            },
        ),
    ]
