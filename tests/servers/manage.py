"""The project's commands, run as operators run them: each in its own process, with the test database."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from django.db import connection

from project.sample.process import PrivateServer

MANAGE = Path(__file__).resolve().parents[2] / "manage.py"
PATCHED_MANAGE = "tests.servers.patched_manage"
TIMEOUT = 120


def database_url() -> str:
    """Return the test database as a DATABASE_URL."""
    parts = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{parts['NAME']}"
    return f"postgres://{parts['USER']}@{parts['HOST']}:{parts['PORT']}/{parts['NAME']}"


def environment(changes: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a process that uses the test database, with `changes`."""
    return {
        **os.environ,
        "DATABASE_URL": database_url(),
        "DJANGO_SETTINGS_MODULE": "project.settings",
        "PYTHONUNBUFFERED": "1",
        **(changes or {}),
    }


def manage(
    *arguments: str, env: Mapping[str, str] | None = None, stdin: str = "", timeout: float = TIMEOUT
) -> subprocess.CompletedProcess[str]:
    """Run `manage.py` with `arguments` until it exits; `env` is added to the environment."""
    return subprocess.run(
        [sys.executable, str(MANAGE), *arguments],
        env=environment(env),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


class ManagedProcess(PrivateServer):
    """A command of `manage.py` that keeps running, such as a worker; it has started when `ready()` is true.

    `constants` overrides module constants in the process, by their dotted names.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        ready: Callable[[], bool] | None = None,
        env: Mapping[str, str] | None = None,
        port: int = 0,
        constants: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = arguments[0]
        super().__init__(folder, port)
        self.arguments = arguments
        self._ready = ready
        self._environment = dict(env or {})
        if constants:
            self._environment |= {"TEST_CONSTANTS": json.dumps(constants), "PYTHONPATH": str(MANAGE.parent)}

    def command(self) -> list[str]:
        """Return the command line of the process, which stays in the foreground."""
        entry = ["-m", PATCHED_MANAGE] if "TEST_CONSTANTS" in self._environment else [str(MANAGE)]
        return [sys.executable, *entry, *self.arguments]

    def environment(self) -> dict[str, str]:
        """Return the environment of the process."""
        return environment(self._environment)

    def is_ready(self) -> bool:
        """Return whether the process has started."""
        return self._ready() if self._ready else super().is_ready()
