"""Move what decides from `extra` to its columns. A value of another kind than its column takes stays in `extra`."""

from django.db import migrations

BATCH = 500


def _is_boolean(value):
    return isinstance(value, bool)


def _is_text(value):
    return isinstance(value, str)


def _is_probe(value):
    return isinstance(value, list) and len(value) in (0, 2) and all(map(_is_text, value))


def _is_position(value):
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


# The column of each key of `extra`, what it takes, and the value that stands for a missing key.
COLUMNS = {
    "to_sync": ("to_sync", _is_boolean, None),
    "by_analyser": ("by_analyser", _is_boolean, None),
    "by_hand": ("by_hand", _is_boolean, False),
    "registry": ("registry_fingerprint", _is_text, None),
    "reason": ("analysis_reason", _is_text, None),
    "moves": ("moves", _is_boolean, None),
    "probe": ("probe", _is_probe, None),
    "confirmed": ("confirmed_position", _is_position, 0),
}
FIELDS = ["extra", *(column for column, _, _ in COLUMNS.values())]


def split(node):
    for key, (column, takes, _) in COLUMNS.items():
        if key in node.extra and takes(node.extra[key]):
            setattr(node, column, node.extra.pop(key))


def join(node):
    for key, (column, _, missing) in COLUMNS.items():
        if (value := getattr(node, column)) != missing:
            node.extra[key] = value


def each(change):
    def run(apps, schema_editor):
        alias = schema_editor.connection.alias
        nodes = apps.get_model("pubsubcache", "PubsubNode").objects.using(alias)
        last = 0
        while batch := list(nodes.filter(pk__gt=last).only(*FIELDS).order_by("pk")[:BATCH]):
            for node in batch:
                change(node)
                node.save(using=alias, update_fields=FIELDS)
            last = batch[-1].pk

    return run


class Migration(migrations.Migration):
    dependencies = [("pubsubcache", "0010_learned_columns")]

    operations = [migrations.RunPython(each(split), each(join))]
