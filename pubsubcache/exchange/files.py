"""Writes exports to a stream, and reads and checks them."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BufferedReader, TextIOBase
from typing import Any, TextIO

from django.db.models import QuerySet

from pubsubcache.exceptions import DamagedFile, PubsubCacheError
from pubsubcache.exchange import jsonlines, serverdata
from pubsubcache.exchange.records import EXTRA, FORMAT, VERSION, Located, Record, Sequence, checked
from pubsubcache.models import PubsubNode
from pubsubcache.store.exporting import read_nodes

Report = Callable[[int, int | None], None]
WRITERS: dict[str, Callable[[TextIOBase], Any]] = {
    "jsonl": jsonlines.JsonLinesWriter,
    "xml": serverdata.ServerDataWriter,
}
FORMATS = tuple(WRITERS)


class NotExportable(PubsubCacheError):
    """A row in the cache is invalid, so an import would refuse it."""


class NotStaged(PubsubCacheError):
    """The disk failed or is full."""


@dataclass(slots=True)
class Totals:
    """The number of nodes, items and evicted items in an export."""

    nodes: int = 0
    items: int = 0
    evicted: int = 0


def export_nodes(
    nodes: QuerySet[PubsubNode], stream: TextIOBase, form: str, report: Report = lambda done, total: None
) -> Totals:
    """Write nodes to a stream.

    Args:
        nodes: The nodes.
        stream: The stream.
        form: One of `FORMATS`.
        report: Called with the number of items written so far, and the total.

    Returns:
        The number of nodes and items written.

    Raises:
        NotExportable: An import would refuse a row.
    """
    totals, sequence, writer = Totals(), Sequence(), WRITERS[form](stream)

    def write(record: Record) -> None:
        try:
            sequence.take(record)
        except ValueError as error:
            raise NotExportable(_where(sequence.node, error)) from error
        writer.write(record)

    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    write({"kind": "header", "format": FORMAT, "version": VERSION, "exported": now})
    for record in read_nodes(nodes, report):
        if record["kind"] == "node":
            record["extra"] = {name: value for name, value in record["extra"].items() if name in EXTRA}
        write(record)
        if record["kind"] == "node_end":
            totals.nodes += 1
            totals.items += record["items"]
            totals.evicted += record["evicted"]
    write({"kind": "end", "nodes": totals.nodes, "items": totals.items, "evicted": totals.evicted})
    return totals


def _where(node: Record, error: ValueError) -> str:
    return f"The node {node.get('name')!r:.100} of {node.get('service')} cannot be exported: {error}"


@contextmanager
def staged(
    stream: BufferedReader, report: Report = lambda done, total: None
) -> Iterator[tuple[Iterator[Located], int]]:
    """Read and check a whole export, then yield its records and the number of its items.

    The records are copied to a temporary file, so no transaction waits for `stream`.

    Args:
        stream: The file.
        report: Called with the number of items read so far, and None.

    Raises:
        DamagedFile: The file is not a valid export.
        NotStaged: The file cannot be read, or the temporary file cannot be written.
    """
    stage = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115  (closing it fails again on a full disk)
    try:
        try:
            done = _stage(stream, stage, report)
        except OSError as error:
            raise NotStaged(f"The file cannot be read, or copied to {tempfile.gettempdir()}: {error}.") from error
        yield ((line, record) for line, record in map(json.loads, stage)), done
    finally:
        with suppress(OSError):
            stage.close()


def _stage(stream: BufferedReader, stage: TextIO, report: Report) -> int:
    done = 0
    for line, record in checked(_read(stream)):
        stage.write(json.dumps([line, record], allow_nan=False) + "\n")
        if record["kind"] in ("item", "evicted"):
            done += 1
            report(done, None)
    stage.seek(0)
    return done


def _read(stream: BufferedReader) -> Iterator[Located]:
    first = stream.peek(1)[:1]
    readers = {b"{": jsonlines.read, b"<": serverdata.read}
    if first not in readers:
        raise DamagedFile("The file is empty." if not first else "Line 1: this is not an export in a known format.")
    return readers[first](stream)
