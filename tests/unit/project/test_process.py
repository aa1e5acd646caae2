"""Test the processes of private servers: missing programs, failed starts and leftover children."""

from pathlib import Path

import pytest

from project.sample.process import PrivateServer, ServerError, find_program
from tests.servers.processes import family, survivors


class Careless(PrivateServer):
    """A server that leaves a process behind when it ends."""

    name = "careless"

    def command(self) -> list[str]:
        return ["sh", "-c", "sleep 1000 & wait"]

    def is_ready(self) -> bool:
        return len(family(self.pid)) == 2


def test_leftover_processes_of_a_server_are_ended(tmp_path: Path) -> None:
    with Careless(tmp_path) as server:
        processes = family(server.pid)
    assert not survivors(processes)


def test_missing_server_is_reported_with_its_package() -> None:
    with pytest.raises(ServerError, match="sudo apt-get install no-such-package"):
        find_program("no-such-program", "no-such-package")


class Failing(PrivateServer):
    """A server that ends at once."""

    name = "failing"

    def command(self) -> list[str]:
        return ["sh", "-c", "echo out of luck; exit 1"]


def test_a_server_that_ends_shows_its_log(tmp_path: Path) -> None:
    server = Failing(tmp_path)
    with pytest.raises(ServerError, match="out of luck"):
        server.start()
    assert not server.running
