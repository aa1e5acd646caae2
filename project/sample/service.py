"""The sample as `make run` has it: a Prosody whose data stays from one run to the next."""

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
    """Return what the file `path` says, made with `text` in it if there is none; only its owner can read it."""
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
    """Return the port of the run before, or another if somebody has taken that."""
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
    # The folder may belong to the user whom root runs the server as: no link of theirs is followed.
    descriptor = os.open(folder / "lock", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServerError(f"Another process runs the sample in {folder}.") from None
        yield


@contextmanager
def sample_service(folder: Path) -> Iterator[Prosody]:
    """Run the sample's Prosody with its data in `folder`. Raises `ServerError`."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _only_one(folder):
        if os.geteuid() == 0:
            give(folder, "root")
        prosody = Prosody(folder, _port(folder), domain=DOMAIN, users=_passwords(folder), log_level="warn")
        prosody.log_file.unlink(missing_ok=True)
        with prosody:
            yield prosody
