"""Pin nodes chosen by hand and those of the account's own service. Imported nodes cannot be told apart."""

from django.db import migrations
from django.db.models import OuterRef, Q, Subquery


def pin(apps, schema_editor):
    alias = schema_editor.connection.alias
    nodes = apps.get_model("pubsubcache", "PubsubNode").objects.using(alias)
    accounts = apps.get_model("pubsubcache", "Account").objects.using(alias)
    own = Subquery(accounts.filter(pk=OuterRef("account")).values("jid"))
    nodes.filter(Q(extra__by_hand=True) | Q(service=own)).update(pinned=True)


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0008_last_read")]

    operations = [migrations.RunPython(pin, migrations.RunPython.noop)]
