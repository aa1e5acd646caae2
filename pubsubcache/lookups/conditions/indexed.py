"""What indexes can tell of a condition on a field: what holds wherever the condition does, and is found fast."""

from typing import Any

from pubsubcache.lookups.conditions.paths import Path
from pubsubcache.lookups.conditions.values import dumps
from pubsubcache.lookups.hotkeys import KEYS, LENGTH

MAX_VALUES = 50  # more of them are no quicker found one by one


def hot_column(path: Path) -> str | None:
    """Return the column that has the beginning of the text at a path, if there is one."""
    return f"parsed_{path[0]}" if len(path) == 1 and path[0] in KEYS else None


def of_column(operator: str, value: Any) -> list[tuple[str, list[str]]]:
    """Return what a hot column is then: comparisons as SQL with their parameters, all of which hold."""
    if operator in (">", ">=", "<", "<=") and isinstance(value, str):
        # Texts are in the order of their beginnings, which may be the same.
        return [(f"{operator[0]}= %s", [value[:LENGTH]])]
    if operator == "between" and isinstance(value[0], str):
        return [(">= %s", [value[0][:LENGTH]]), ("<= %s", [value[1][:LENGTH]])]
    wanted = {"==": [value], "in": value}.get(operator, [])
    if not 0 < len(wanted) <= MAX_VALUES or not all(isinstance(one, str) for one in wanted):
        return []
    return [(f"IN ({', '.join('%s' for _ in wanted)})", [one[:LENGTH] for one in wanted])]


def contained(path: Path, operator: str, value: Any) -> list[str]:
    """Return JSON of which `parsed` then contains some, as PostgreSQL's `@>` has it; none if that is not known."""
    if not all(isinstance(step, str) for step in path):
        return []
    wanted = {"==": [value], "in": value}.get(operator, [])
    if operator == "overlap":  # of an array, or with the field itself
        wanted = [*([one] for one in value), *value]
    if not 0 < len(wanted) <= MAX_VALUES or any(one in ({}, [], [{}], [[]]) for one in wanted):
        return []  # what is empty is in no index
    return [dumps(_at(path, one)) for one in wanted]


def _at(path: Path, value: Any) -> Any:
    for key in reversed(path):
        value = {key: value}
    return value
