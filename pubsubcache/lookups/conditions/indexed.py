"""Derives indexed preconditions from conditions on fields: they hold wherever the condition holds."""

from typing import Any

from pubsubcache.lookups.conditions.paths import Path
from pubsubcache.lookups.conditions.values import dumps
from pubsubcache.lookups.hotkeys import KEYS, LENGTH

MAX_VALUES = 50  # with more values, index lookups are no faster than a scan


def hot_column(path: Path) -> str | None:
    """Return the hot key column for a path, or None. It has the first characters of the text at this path."""
    return f"parsed_{path[0]}" if len(path) == 1 and path[0] in KEYS else None


def column_comparisons(operator: str, value: Any) -> list[tuple[str, list[str]]]:
    """Return comparisons that must all hold for the hot key column, as SQL with parameters."""
    if operator in (">", ">=", "<", "<=") and isinstance(value, str):
        # The column is truncated, so different texts may be equal there.
        return [(f"{operator[0]}= %s", [value[:LENGTH]])]
    if operator == "between" and isinstance(value[0], str):
        return [(">= %s", [value[0][:LENGTH]]), ("<= %s", [value[1][:LENGTH]])]
    wanted = {"==": [value], "in": value}.get(operator, [])
    if not 0 < len(wanted) <= MAX_VALUES or not all(isinstance(one, str) for one in wanted):
        return []
    return [(f"IN ({', '.join('%s' for _ in wanted)})", [one[:LENGTH] for one in wanted])]


def contained_documents(path: Path, operator: str, value: Any) -> list[str]:
    """Return JSON documents of which `parsed` must contain at least one (`@>`); [] if nothing is known."""
    if not all(isinstance(step, str) for step in path):
        return []
    wanted = {"==": [value], "in": value}.get(operator, [])
    if operator == "overlap":  # the field is an array or a single value
        wanted = [*([one] for one in value), *value]
    if not 0 < len(wanted) <= MAX_VALUES or any(one in ({}, [], [{}], [[]]) for one in wanted):
        return []  # the index has no entries for empty values
    return [dumps(_at(path, one)) for one in wanted]


def _at(path: Path, value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value
