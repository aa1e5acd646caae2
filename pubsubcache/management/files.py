"""Opens the files that commands read and write."""

import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management.base import OutputWrapper

from pubsubcache.exceptions import InvalidRequest

STANDARD = "-"


@contextmanager
def reading(path: str) -> Iterator[io.BufferedReader]:
    """Open a file for reading, or stdin for "-". Raises `InvalidRequest` if it cannot be read."""
    if path == STANDARD:
        yield sys.stdin.buffer  # type: ignore[misc]
        return
    try:
        stream = Path(path).open("rb")  # noqa: SIM115
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror or error}.") from error
    with stream:
        yield stream


@contextmanager
def writing(path: str, stdout: OutputWrapper) -> Iterator[io.TextIOBase]:
    """Open a file for writing in UTF-8, or `stdout` for "-".

    The file appears at `path` only after everything has been written, and only its owner may read it. Raises
    `InvalidRequest` if it cannot be written.
    """
    if path == STANDARD:
        with _standard(stdout) as stream:
            yield stream
        return
    try:
        with _file(Path(path)) as stream:
            yield stream
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror or error}.") from error


@contextmanager
def _standard(stdout: OutputWrapper) -> Iterator[io.TextIOBase]:
    wrapper: Any = stdout
    stream = wrapper._out  # the wrapper adds a newline to every write
    if not hasattr(stream, "buffer"):
        yield stream
        return
    stream.flush()
    encoded = io.TextIOWrapper(stream.buffer, encoding="utf-8", newline="\n")
    try:
        yield encoded
        encoded.flush()
    finally:
        encoded.detach()


@contextmanager
def _file(path: Path) -> Iterator[io.TextIOBase]:
    if path.exists() and not path.is_file():  # a device, a pipe
        with path.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
        return
    path = path.resolve()
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(number, "w", encoding="utf-8", newline="\n") as stream:
            yield stream
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
