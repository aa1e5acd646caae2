"""Reads and writes exports as JSON lines (UTF-8): one record per line."""

import json
from collections.abc import Iterator
from io import TextIOBase
from typing import Any, BinaryIO

from pubsubcache.conf import settings
from pubsubcache.exceptions import DamagedFile
from pubsubcache.exchange.records import Located, Record

LARGEST_LINE = 16  # times the maximum item size: a line contains the XML, the parsed data and the text


def decode(text: str) -> Any:
    """Decode a JSON document. Raises `ValueError` with a message for users."""

    def refuse_constant(name: str) -> None:
        raise ValueError(f"{name} is not a JSON number.")

    def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            raise ValueError("an object has a duplicate key.")
        return result

    try:
        return json.loads(text, parse_constant=refuse_constant, object_pairs_hook=unique_keys)
    except json.JSONDecodeError as error:
        raise ValueError(f"this is not JSON: {error.msg}.") from error
    except RecursionError as error:
        raise ValueError("this is nested too deeply.") from error


def encode(record: Record) -> str:
    """Encode a record as JSON on one line. Raises `ValueError` for values that JSON cannot represent."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class JsonLinesWriter:
    """Writes records to a text stream."""

    def __init__(self, stream: TextIOBase) -> None:
        self.stream = stream

    def write(self, record: Record) -> None:
        """Write a record."""
        self.stream.write(encode(record) + "\n")


def read(stream: BinaryIO) -> Iterator[Located]:
    """Yield the number and the record of each line. Raises `DamagedFile`."""
    largest = LARGEST_LINE * settings.MAX_ITEM_SIZE
    line = 0
    while raw := stream.readline(largest + 1):
        line += 1
        if len(raw) > largest:
            raise DamagedFile(f"Line {line}: the line is longer than {largest} bytes.")
        try:
            record = decode(raw.decode())
        except UnicodeDecodeError as error:
            raise DamagedFile(f"Line {line}: this is not valid UTF-8.") from error
        except ValueError as error:
            hint = "" if raw.endswith(b"\n") else " The file seems to be truncated."
            raise DamagedFile(f"Line {line}: {error}{hint}") from error
        yield line, record
