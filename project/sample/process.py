"""Starts private servers on loopback, waits until they are ready, and stops them with all their child processes."""

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Self

START_TIMEOUT = 60.0
STOP_TIMEOUT = 15.0
POLL_INTERVAL = 0.02
LOG_TAIL = 4000


class ServerError(Exception):
    """A private server is not installed, did not start, or ended; the message gives the reason."""


@cache
def _starter() -> "SimpleQueue[tuple[Future[None], Callable[[], None]]]":
    """Return the queue of the thread that starts servers.

    The kernel ends a server when the thread that started it ends (see `_as_user`). This thread lives as long as the
    process.
    """
    jobs: SimpleQueue[tuple[Future[None], Callable[[], None]]] = SimpleQueue()
    Thread(target=_start_servers, args=(jobs,), name="servers", daemon=True).start()
    return jobs


def _start_servers(jobs: "SimpleQueue[tuple[Future[None], Callable[[], None]]]") -> None:
    while True:
        future, job = jobs.get()
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(job())
            except Exception as error:
                future.set_exception(error)


def free_port() -> int:
    """Return a free TCP port on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_program(name: str, package: str, folders: str = "") -> str:
    """Find a program.

    Args:
        name: Name of the program.
        package: Debian package that contains it, for the error message.
        folders: Folders to search in addition to PATH, separated by colons.

    Raises:
        ServerError: The program is not installed.
    """
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", folders))
    if found := shutil.which(name, path=path):
        return found
    raise ServerError(
        f"{name} is not installed: run `sudo apt-get install {package}`, or use `make run` or `make test`."
    )


def _as_user(command: list[str], user: str | None) -> list[str]:
    """Wrap `command` to run as `user`, and to end when this process ends, even if it is killed."""
    if (setpriv := shutil.which("setpriv")) is None and user is None:
        return command
    identity = ["--reuid", user, "--regid", _group_of(user), "--clear-groups"] if user else []
    return [setpriv or "setpriv", *identity, "--pdeathsig", "TERM", *command]


def _group_of(user: str) -> str:
    return str(pwd.getpwnam(user).pw_gid)


def user_for(folder: Path, *names: str) -> str | None:
    """Return the first user as whom root can run a server with its data in `folder`.

    If there is one, other users get the permission to traverse the parent of `folder`, but not to list it.

    Args:
        folder: Data folder of the server.
        names: Names of users.

    Returns:
        The name of the user; None if this process is not root, or if no such user exists or can access `folder`.
    """
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return None
    above = folder.absolute().parent
    for name in names:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        if _can_enter(above.parent, user):
            above.chmod(stat.S_IMODE(above.stat().st_mode) | stat.S_IXOTH)
            return name
    return None


def _can_enter(folder: Path, user: pwd.struct_passwd) -> bool:
    test = [find_program("test", "coreutils"), "-x", str(folder)]
    asked = subprocess.run(test, user=user.pw_uid, group=user.pw_gid, extra_groups=[])  # noqa: S603 (fixed arguments)
    return asked.returncode == 0


def give(folder: Path, user: str) -> None:
    """Make `user` the owner of `folder` and its content, and remove access for others. Only root can do this.

    Links are removed, because the previous owner may have created them to gain access to their targets.
    """
    owner = pwd.getpwnam(user)
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    folder.chmod(0o700)
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) or (stat.S_ISREG(found.st_mode) and found.st_nlink == 1):
                os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
            else:
                path.unlink()


class PrivateServer(ABC):
    """A private server process with its data in `folder`, usable as a context manager.

    It can be stopped and started again with the same data and port.
    """

    name: str
    stop_signal = signal.SIGTERM
    user: str | None = None  # run as this user
    host = "127.0.0.1"

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.log_file = folder / f"{self.name}.log"
        #: Exit code of the last process; negative if a signal ended it.
        self.exit_code: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line of the process, which must stay in the foreground."""

    def environment(self) -> dict[str, str]:
        """Return the environment of the process."""
        return dict(os.environ)

    def prepare(self) -> None:  # noqa: B027 (not every server needs it)
        """Write files that the server needs; called before each start, when `folder` exists."""

    def is_ready(self) -> bool:
        """Return whether the server accepts connections; polled while it starts."""
        try:
            with socket.create_connection((self.host, self.port), timeout=1):
                return True
        except OSError:
            return False

    @property
    def running(self) -> bool:
        """Whether the process is running."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id. Raises `ServerError` if the process is not running."""
        if self._process is None:
            raise ServerError(f"{self.name} is not running.")
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it is ready; do nothing if it is running. Raises `ServerError`."""
        if self.running:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        spawning: Future[None] = Future()
        try:
            _starter().put((spawning, self._spawn))
            spawning.result()
            self._await_ready()
        except BaseException:
            if not spawning.cancel():
                wait([spawning])
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and all its child processes, and wait for them; do nothing if it is not running."""
        if (process := self._process) is None:
            return
        self._process = None
        if not _ended(process, 0):
            os.kill(process.pid, self.stop_signal)
            _ended(process, STOP_TIMEOUT)
        # Kill the group before reaping the process, while its number cannot be reused.
        with suppress(ProcessLookupError):  # no child processes remain
            os.killpg(process.pid, signal.SIGKILL)
        self.exit_code = process.wait()

    def restart(self) -> None:
        self.stop()
        self.start()

    def log_tail(self) -> str:
        """Return the end of the log of the server."""
        if not self.log_file.exists():
            return ""
        return self.log_file.read_text(errors="replace")[-LOG_TAIL:]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _spawn(self) -> None:
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 (fixed command lines)
                _as_user(self.command(), self.user),
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while not self.is_ready():
            if not self.running:
                raise ServerError(f"{self.name} ended while starting:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise ServerError(f"{self.name} did not answer within {START_TIMEOUT:g} s:\n{self.log_tail()}")
            time.sleep(POLL_INTERVAL)


def _ended(process: subprocess.Popen[bytes], timeout: float) -> bool:
    """Wait up to `timeout` seconds for a process, and return whether it has ended. It is not reaped."""
    deadline = time.monotonic() + timeout
    while process.returncode is None:
        try:
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
        except ChildProcessError:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True
