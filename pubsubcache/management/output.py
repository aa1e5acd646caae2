"""Formats the output of commands: JSON, tables, times and progress bars."""

import io
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import OutputWrapper
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

ENDLESS = 10_000  # columns, if the output is not a terminal
Report = Callable[[int, int | None], None]


def plain(value: object) -> str:
    """Return a value on one line, without control characters."""
    folded = " ".join(str(value).split())
    return "".join(character if character.isprintable() else "\ufffd" for character in folded)


def counted(number: int, noun: str) -> str:
    """Return a number with a noun, in the plural unless the number is 1."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def as_time(value: datetime | None) -> str | None:
    """Return a time in ISO 8601 and UTC, or None for None."""
    return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def to_second(time: str | None) -> str | None:
    """Return a time from `as_time` in the format of tables, without fractions of seconds."""
    return None if time is None else f"{time[:10]} {time[11:19]}Z"


def encoding(stream: Any) -> str:
    """Return the encoding of a stream."""
    return getattr(stream, "encoding", None) or "utf-8"


def writable(value: str, stream: Any, errors: str = "replace") -> str:
    """Return text with the characters replaced that a stream cannot encode; `errors` is as for `str.encode`."""
    name = encoding(stream)
    return value.encode(name, errors=errors).decode(name)


def as_json(data: Any, stream: Any, indent: int | None = 2) -> str:
    """Return data as a JSON document that a stream can encode. With `indent=None` it has one line."""
    document = json.dumps(data, ensure_ascii=False, indent=indent, allow_nan=False)
    try:
        document.encode(encoding(stream))
    except UnicodeEncodeError:
        return json.dumps(data, indent=indent, allow_nan=False)
    return document


def _words(cell: object) -> str:
    if cell is None or isinstance(cell, bool):
        return {None: "", True: "yes", False: "no"}[cell]
    return plain(cell)


def as_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], stream: OutputWrapper, options: dict[str, Any]
) -> str:
    """Return rows as a table. It is as wide as the terminal, or as wide as its content if there is none."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(Text(column), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_words(cell)) for cell in row))
    screen = stream.isatty()
    color = options.get("force_color") or (screen and not options.get("no_color"))
    written = io.StringIO()
    console = Console(
        file=written,
        width=shutil.get_terminal_size().columns if screen else ENDLESS,
        force_terminal=bool(color),
        color_system="standard" if color else None,
        legacy_windows=False,
    )
    console.print(table)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()).strip("\n") + "\n"


@contextmanager
def progress_bar(stream: OutputWrapper, label: str, options: dict[str, Any]) -> Iterator[Report]:
    """Show a progress bar during the block if the stream is a terminal; yield a function to report (done, total)."""
    if options.get("verbosity", 1) == 0 or not stream.isatty():
        yield lambda done, total: None
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    wrapper: Any = stream
    # The wrapped stream, because the wrapper adds a newline to every write.
    console = Console(file=wrapper._out, no_color=bool(options.get("no_color")))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(plain(label), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
