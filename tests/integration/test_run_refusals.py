"""Test that the Python part of `make run` explains in one sentence why it cannot start."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from project.sample.process import free_port
from tests.servers.run import environment

TIMEOUT = 60


def run_to_its_end(folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "project.run"],
        env=environment(folder, **changes),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


def test_port_in_use_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = run_to_its_end(tmp_path, PORT=str(taken.getsockname()[1]))
    assert result.returncode == 1
    assert re.fullmatch(r"Cannot listen on 127.0.0.1:\d+: Address already in use. .*\n", result.stderr)


def test_account_without_a_password_is_reported(tmp_path: Path) -> None:
    result = run_to_its_end(tmp_path, XMPP_JID="alice@example.org", PORT=str(free_port()), LOG_LEVEL="ERROR")
    assert (result.returncode, result.stderr) == (1, "XMPP_JID is set, but XMPP_PASSWORD is not.\n")


@pytest.mark.parametrize("changes", [{"XMPP_JID": "no jid at all"}, {"XMPP_PORT": "many"}])
def test_invalid_account_is_reported_without_its_password(tmp_path: Path, changes: dict[str, str]) -> None:
    given = {"XMPP_JID": "alice@example.org", "XMPP_PASSWORD": "secret", "PORT": str(free_port()), "LOG_LEVEL": "ERROR"}
    result = run_to_its_end(tmp_path, **{**given, **changes})
    assert result.returncode == 1
    assert result.stderr.startswith("The account cannot be used: ")
    assert result.stderr.count("\n") == 1
    assert "secret" not in result.stderr
