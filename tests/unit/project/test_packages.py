"""Test that no service starts while packages are installed, and that none is blocked afterwards.

The script runs in a fake root, with programs that install nothing.
"""

import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "project/setup/packages.sh"
TOOLS = (
    "cat",
    "chmod",
    "cp",
    "flock",
    "grep",
    "mkdir",
    "mv",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "sh",
    "tr",
    "touch",
    "true",
)
APT_GET = """\
for word in "$@"; do
    case $word in
    install)
        echo started >"$STARTED"
        read -r _ <"$PROCEED" || true
        printf '#!/bin/sh\\n' >"$STUBS/prosody"
        chmod 755 "$STUBS/prosody"
        ;;
    esac
done
"""
TIMEOUT = 30


class Machine:
    """A fake root without Prosody, in which the script runs."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "it's the root"
        self.policy = self.root / "usr/sbin/policy-rc.d"
        self.policy.parent.mkdir(parents=True)
        self.stubs = folder / "stubs"
        self.stubs.mkdir()
        self.script = shutil.copy(SCRIPT, folder / "packages of 'mine'.sh")
        for name in TOOLS:
            (self.stubs / name).symlink_to(shutil.which(name) or name)
        for name, body in {
            "id": "echo 0",
            "apt-get": APT_GET,
            "apt-cache": "",
            "dpkg": "",
            "systemctl": "",
            "postgres": "",
        }.items():
            self._program(self.stubs / name, body)
        self.started, self.proceed = folder / "started", folder / "proceed"
        os.mkfifo(self.started)
        os.mkfifo(self.proceed)
        self.processes: list[subprocess.Popen[bytes]] = []

    @staticmethod
    def _program(path: Path, body: str) -> None:
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        places = {"STUBS": self.stubs, "STARTED": self.started, "PROCEED": self.proceed, "DPKG_ROOT": self.root}
        return {
            **{name: str(place) for name, place in places.items()},
            "PATH": str(self.stubs),
            "PYTHON": sys.executable,
        }

    def add_policy(self, code: int) -> None:
        """Create a policy on the machine."""
        self._program(self.policy, f'echo "$@" >"{self.stubs}/asked"; exit {code}')

    def install(self) -> subprocess.Popen[bytes]:
        """Start the script and wait until apt-get is running."""
        process = subprocess.Popen(
            ["/bin/sh", str(self.script), "run"],
            env=self.environment,
            start_new_session=True,
            stderr=subprocess.DEVNULL,
            preexec_fn=_restore_signals,
        )
        self.processes.append(process)
        self.started.read_text()
        return process

    def let_apt_get_end(self) -> None:
        self.proceed.write_text("\n")

    def run_again(self) -> None:
        """Run the script when all packages are installed."""
        self._program(self.stubs / "prosody", "")
        subprocess.run(["/bin/sh", str(self.script), "run"], env=self.environment, check=True, timeout=TIMEOUT)

    def policy_says(self) -> int | None:
        """Return the policy's answer to starting a service, or None if there is no policy."""
        if not self.policy.exists():
            return None
        asked = subprocess.run([self.policy, "prosody", "start"], env=self.environment, timeout=TIMEOUT)
        return asked.returncode

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir())


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    if os.path.exists("/usr/sbin/prosody"):
        pytest.fail("This test hides prosody by PATH, which always includes /usr/sbin.")
    made = Machine(tmp_path)
    yield made
    for process in made.processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _restore_signals() -> None:
    """Restore the signals that shells and nohup make background commands ignore."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def kill(process: subprocess.Popen[bytes], number: int) -> int:
    """Send a signal to the script and its child processes, as Ctrl-C does, and wait until all of them are gone."""
    os.killpg(process.pid, number)
    code = process.wait(TIMEOUT)
    with open(process.args[1]) as script:  # type: ignore[index]
        fcntl.flock(script, fcntl.LOCK_EX)  # the script and apt-get hold this lock
    return code


@pytest.mark.parametrize("own_policy", [None, 0, 104])
def test_services_are_forbidden_while_it_installs(machine: Machine, own_policy: int | None) -> None:
    if own_policy is not None:
        machine.add_policy(own_policy)
    process = machine.install()
    assert machine.policy_says() == 101
    machine.let_apt_get_end()
    assert process.wait(TIMEOUT) == 0
    assert machine.policy_says() == own_policy
    assert machine.files() == ([] if own_policy is None else ["usr/sbin/policy-rc.d"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_interrupted_installation_leaves_nothing_behind(machine: Machine, number: signal.Signals) -> None:
    machine.add_policy(104)
    assert kill(machine.install(), number) == 128 + number
    assert machine.policy_says() == 104
    assert machine.files() == ["usr/sbin/policy-rc.d"]


@pytest.mark.parametrize("own_policy", [None, 104])
def test_policy_of_a_killed_installation_forbids_nothing(machine: Machine, own_policy: int | None) -> None:
    if own_policy is not None:
        machine.add_policy(own_policy)
    kill(machine.install(), signal.SIGKILL)
    assert machine.policy.exists()
    assert machine.policy_says() == (own_policy or 0)
    assert machine.policy_says() == own_policy
    assert machine.files() == ([] if own_policy is None else ["usr/sbin/policy-rc.d"])
    if own_policy is not None:
        assert (machine.stubs / "asked").read_text() == "prosody start\n"


@pytest.mark.parametrize("own_policy", [None, 104])
def test_next_run_cleans_up_after_a_killed_one(machine: Machine, own_policy: int | None) -> None:
    if own_policy is not None:
        machine.add_policy(own_policy)
        machine.policy.chmod(0o744)
    kill(machine.install(), signal.SIGKILL)
    machine.run_again()
    assert machine.files() == ([] if own_policy is None else ["usr/sbin/policy-rc.d"])
    if own_policy is not None:
        assert stat.S_IMODE(machine.policy.stat().st_mode) == 0o744


def test_services_stay_forbidden_while_apt_get_is_running(machine: Machine) -> None:
    process = machine.install()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(TIMEOUT)
    assert machine.policy_says() == 101
    machine.let_apt_get_end()


def test_foreign_policy_is_not_changed(machine: Machine) -> None:
    machine.add_policy(101)
    machine.run_again()
    assert machine.policy_says() == 101
