"""The permission to see and steer the accounts of all owners, for everybody who could do so before."""

from django.conf import settings
from django.core.exceptions import FieldDoesNotExist
from django.db import migrations

APP = "pubsubcache"
CODENAME = "all_accounts"
NAME = "Can see and steer the accounts of all owners"


def holders(apps):
    """Yield the models whose rows have permissions, each with the name of the field. A user model may have none."""
    yield apps.get_model("auth", "Group"), "permissions"
    user = apps.get_model(settings.AUTH_USER_MODEL)
    try:
        user._meta.get_field("user_permissions")
    except FieldDoesNotExist:
        return
    yield user, "user_permissions"


def grant(apps, schema_editor):
    alias = schema_editor.connection.alias
    found = []
    for model, field in holders(apps):
        rows = model._base_manager.using(alias)
        pks = rows.filter(**{f"{field}__content_type__app_label": APP}).values("pk")
        found += [getattr(holder, field) for holder in rows.filter(pk__in=pks).only("pk")]
    if not found:
        return
    # Django adds the row of a permission only after all migrations.
    kind, _ = apps.get_model("contenttypes", "ContentType")._base_manager.using(alias).get_or_create(
        app_label=APP, model="account"
    )
    permission, _ = apps.get_model("auth", "Permission")._base_manager.using(alias).get_or_create(
        content_type=kind, codename=CODENAME, defaults={"name": NAME}
    )
    for permissions in found:
        permissions.add(permission)


def revoke(apps, schema_editor):
    permissions = apps.get_model("auth", "Permission")._base_manager.using(schema_editor.connection.alias)
    permissions.filter(content_type__app_label=APP, content_type__model="account", codename=CODENAME).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("pubsubcache", "0013_reparse_run"),
        ("auth", "0001_initial"),
        ("contenttypes", "0002_remove_content_type_name"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterModelOptions(
            name="account",
            options={
                "ordering": ["jid"],
                "permissions": [(CODENAME, NAME)],
                "verbose_name": "account",
                "verbose_name_plural": "accounts",
            },
        ),
        migrations.RunPython(grant, revoke),
    ]
