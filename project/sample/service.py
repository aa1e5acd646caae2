"""Runs the Prosody of the sample for `make run`, and keeps its data between runs."""

import fcntl
import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from project.sample.process import ServerError, free_port, give
from project.sample.prosody import USERS, Prosody

DOMAIN = "sample.test"


def read_or_make(path: Path, text: str) -> str:
    """Return the content of a file; create it with `text` if it is missing, readable for its owner only."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        draft = path.with_name(f"{path.name}.new")
        draft.touch(mode=0o600)
        draft.write_text(text)
        draft.replace(path)
    return path.read_text()


def _passwords(folder: Path) -> dict[str, str]:
    drawn = {user: secrets.token_urlsafe(16) for user in USERS}
    return dict(json.loads(read_or_make(folder / "passwords.json", json.dumps(drawn))))


def _port(folder: Path) -> int:
    """Return the port of the previous run, or another one if it is in use."""
    path = folder / "port"
    port = int(read_or_make(path, str(free_port())))
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((Prosody.host, port))
        except OSError:
            port = free_port()
            path.write_text(str(port))
    return port


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    # The folder may belong to the user as whom root runs the server, so do not follow links.
    descriptor = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServerError(f"Another process is running the sample in {folder}.") from None
        yield


@contextmanager
def sample_service(folder: Path) -> Iterator[Prosody]:
    """Run the Prosody of the sample with its data in `folder`. Raises `ServerError`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_one(folder):
        if os.geteuid() == 0:
            give(folder, "root")
        prosody = Prosody(folder, _port(folder), domain=DOMAIN, users=_passwords(folder), log_level="warn")
        prosody.log_file.unlink(missing_ok=True)
        with prosody:
            yield prosody
