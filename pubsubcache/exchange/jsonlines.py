"""An export as JSON lines (UTF-8): one record a line."""

import json
from collections.abc import Iterator
from io import TextIOBase
from typing import Any, BinaryIO

from pubsubcache.conf import settings
from pubsubcache.exceptions import DamagedFile
from pubsubcache.exchange.records import Located, Record

LARGEST_LINE = 16  # times the largest item: it stands there as XML, parsed, and as words


def decode(text: str) -> Any:
    """Return what a JSON document says. Raises `ValueError` in words for people."""

    def no_number(name: str) -> None:
        raise ValueError(f"{name} is no number of JSON.")

    def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise ValueError("an object has a key twice.")
        return made

    try:
        return json.loads(text, parse_constant=no_number, object_pairs_hook=object_of)
    except json.JSONDecodeError as error:
        raise ValueError(f"this is not JSON: {error.msg}.") from error
    except RecursionError as error:
        raise ValueError("this is nested too deeply.") from error


def encode(record: Record) -> str:
    """Return a record as JSON on one line. Raises `ValueError` for what JSON can't hold."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class JsonLinesWriter:
    """Writes records to a text stream."""

    def __init__(self, stream: TextIOBase) -> None:
        self.stream = stream

    def write(self, record: Record) -> None:
        """Write one."""
        self.stream.write(encode(record) + "\n")


def read(stream: BinaryIO) -> Iterator[Located]:
    """Yield what stands on the lines of a file. Raises `DamagedFile`."""
    largest = LARGEST_LINE * settings.MAX_ITEM_SIZE
    line = 0
    while raw := stream.readline(largest + 1):
        line += 1
        if len(raw) > largest:
            raise DamagedFile(f"Line {line}: the line is longer than {largest} bytes.")
        try:
            record = decode(raw.decode())
        except UnicodeDecodeError as error:
            raise DamagedFile(f"Line {line}: this is not text in UTF-8.") from error
        except ValueError as error:
            cut = "" if raw.endswith(b"\n") else " The file seems to be cut off."
            raise DamagedFile(f"Line {line}: {error}{cut}") from error
        yield line, record
