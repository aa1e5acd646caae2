"""A private PostgreSQL, fast rather than safe, as its data does not matter."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from functools import cached_property
from pathlib import Path

import psycopg

from project.sample.process import PrivateServer, ServerError, find_program

ROLE = "pubsubcache"
SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum_naptime": "10min",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
}


class PostgreSQL(PrivateServer):
    """A PostgreSQL with its own data folder, which is removed when the context manager exits."""

    name = "postgresql"
    stop_signal = signal.SIGINT  # "fast": open connections are cut

    def __init__(self) -> None:
        # Not below pytest's folder: PostgreSQL does not run as root, and other users cannot enter that folder.
        super().__init__(Path(tempfile.mkdtemp(prefix="pubsubcache-postgresql-")))
        self.data = self.folder / "data"
        if os.geteuid() == 0:
            self.user = _unprivileged_user()
            shutil.chown(self.folder, self.user)

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        self.remove()

    def remove(self) -> None:
        """Remove the data of the stopped server."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @cached_property
    def programs(self) -> Path:
        """The folder with the programs of the newest installed version. Raises `ServerError` if there is none."""
        installed = Path("/usr/lib/postgresql").glob("*/bin")
        newest = sorted(installed, key=lambda path: float(path.parent.name))[-1:]
        return Path(find_program("postgres", "postgresql", ":".join(map(str, newest)))).resolve().parent

    def url(self, database: str = ROLE) -> str:
        """Return `database` as a DATABASE_URL."""
        return f"postgres://{ROLE}@{self.host}:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> psycopg.Connection:
        """Return a connection as superuser, in autocommit mode."""
        return psycopg.connect(host=self.host, port=self.port, user=ROLE, dbname=database, autocommit=True)

    def create_database(self, name: str) -> str:
        """Create the database `name`, replacing an existing one; return it as a DATABASE_URL."""
        with self.connect() as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)

    def prepare(self) -> None:
        """Create the data folder if it does not exist."""
        if not self.data.exists():
            self._make_data()

    def command(self) -> list[str]:
        """Return the command line of the process, which stays in the foreground."""
        settings = {**SETTINGS, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.programs / "postgres"), "-D", str(self.data), *options]

    def is_ready(self) -> bool:
        """Return whether the server accepts connections."""
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _make_data(self) -> None:
        arguments = ["-D", str(self.data), "-U", ROLE, "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        made = subprocess.run(
            [str(self.programs / "initdb"), *arguments],
            user=self.user,
            group=pwd.getpwnam(self.user).pw_gid if self.user else None,
            extra_groups=[] if self.user else None,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        if made.returncode:
            raise ServerError(f"initdb failed:\n{made.stdout}{made.stderr}")


def _unprivileged_user() -> str:
    """Return an unprivileged user that root can run the server as."""
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise ServerError("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as.")
