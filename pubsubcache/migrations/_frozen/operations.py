"""Migration operations: SQL for specific database vendors, and several generated columns at once."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import router
from django.db.migrations.operations.base import Operation
from django.db.models import Field

Statements = Mapping[str, Iterable[str]]


class VendorSQL(Operation):
    """Runs SQL that depends on the database vendor; does nothing for other vendors."""

    reduces_to_sql = True
    reversible = True

    def __init__(self, forwards: Statements, backwards: Statements) -> None:
        self.forwards, self.backwards = forwards, backwards

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Do nothing: the SQL does not affect the models."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        self._run(app_label, schema_editor, self.forwards)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        self._run(app_label, schema_editor, self.backwards)

    @staticmethod
    def _run(app_label: str, schema_editor: Any, statements: Statements) -> None:
        if router.allow_migrate(schema_editor.connection.alias, app_label):
            for sql in statements.get(schema_editor.connection.vendor, ()):
                schema_editor.execute(sql, params=None)

    def describe(self) -> str:
        return "Raw SQL of one database vendor"


class AddGeneratedFields(Operation):
    """Adds several generated columns to a model and rewrites its table only once."""

    reversible = True

    def __init__(self, model_name: str, fields: Mapping[str, "Field[Any, Any]"]) -> None:
        self.model_name, self.fields = model_name, fields

    def state_forwards(self, app_label: str, state: Any) -> None:
        for name, field in self.fields.items():
            state.add_field(app_label, self.model_name.lower(), name, field, preserve_default=True)

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        if schema_editor.connection.vendor == "sqlite":
            schema_editor._remake_table(model)
            return
        self._alter(schema_editor, model, "ADD COLUMN {column} {definition}")

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = from_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        if schema_editor.connection.vendor == "sqlite":
            schema_editor._remake_table(to_state.apps.get_model(app_label, self.model_name))
            return
        self._alter(schema_editor, model, "DROP COLUMN {column}")

    def _alter(self, schema_editor: Any, model: Any, change: str) -> None:
        changes = []
        for name in self.fields:
            field = model._meta.get_field(name)
            definition, _ = schema_editor.column_sql(model, field)
            changes.append(change.format(column=schema_editor.quote_name(field.column), definition=definition))
        schema_editor.execute(f"ALTER TABLE {schema_editor.quote_name(model._meta.db_table)} {', '.join(changes)}")

    def describe(self) -> str:
        return f"Add generated fields {', '.join(self.fields)} to {self.model_name}"
