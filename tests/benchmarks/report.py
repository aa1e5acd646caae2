"""The figures of a run: a table to read, a file to keep."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.plan import Figure

Figures = dict[str, list[Figure]]


def show(console: Console, figures: Figures) -> None:
    """Print the figures of each database beside each other, with what to hope for."""
    table = Table(title="How fast the cache is", caption="x: a ratio within this run. Nothing here fails a run.")
    table.add_column("Measure")
    table.add_column("What", overflow="fold")
    for database in figures:
        table.add_column(database, justify="right")
    table.add_column("Hoped for")
    by_key = {name: {(f.measure, f.title): f for f in found} for name, found in figures.items()}
    keys = list(dict.fromkeys(key for found in by_key.values() for key in found))
    for place, key in enumerate(keys):
        row = [found.get(key) for found in by_key.values()]
        target = next((figure.target for figure in row if figure is not None), "")
        last = place + 1 == len(keys) or keys[place + 1][0] != key[0]
        table.add_row(*key, *map(_cell, row), target, end_section=last)
    console.print(table)


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return ""
    digits = 0 if figure.value >= 100 or figure.value == int(figure.value) else 2
    text = f"{figure.value:,.{digits}f} {figure.unit}".replace(",", " ").strip()
    colour = {True: "green", False: "red", None: ""}[figure.good]
    return f"[{colour}]{text}[/]" if colour else text


def keep(path: Path, figures: Figures, arguments: Iterable[str]) -> None:
    """Write the figures to a file of JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "at": datetime.now(UTC).isoformat(),
        "arguments": list(arguments),
        "figures": {database: [asdict(figure) for figure in found] for database, found in figures.items()},
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
