"""Test that only the owner can read the files in the data folder."""

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from project.private import make_private

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _wide_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.lstat().st_mode) for path in folder.iterdir()}


def mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def test_new_folder_and_database_are_private(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    make_private(folder, exclusive=True, database=folder / "db.sqlite3")
    assert mode(folder) == 0o700
    assert modes(folder) == {"db.sqlite3": 0o600}


@pytest.mark.parametrize(("exclusive", "expected"), [(True, 0o700), (False, 0o755)])
def test_files_readable_by_others_become_private(tmp_path: Path, exclusive: bool, expected: int) -> None:
    """A folder that may contain other files is not changed."""
    folder = tmp_path / "var"
    folder.mkdir(0o755)
    names = ["db.sqlite3", "db.sqlite3-wal", "db.sqlite3-shm", "db.sqlite3.lock", "db.sqlite3.before-20260101",
             "secret_key", "admin_password"]  # fmt: skip
    for name in [*names, "index.html"]:
        (folder / name).touch(0o644)
    outside = tmp_path / "outside"
    outside.touch(0o644)
    (folder / "db.sqlite3.before-link").symlink_to(outside)
    make_private(folder, exclusive=exclusive, database=folder / "db.sqlite3")
    found = modes(folder)
    assert {name: found[name] for name in names} == dict.fromkeys(names, 0o600)
    assert (mode(folder), found["index.html"], mode(outside)) == (expected, 0o644, 0o644)


def test_folder_that_others_may_only_traverse_is_not_changed(tmp_path: Path) -> None:
    """With `make run` as root, the server of the sample runs below it as another user."""
    tmp_path.chmod(0o711)
    make_private(tmp_path, exclusive=True)
    assert mode(tmp_path) == 0o711


def test_nothing_is_created_for_another_database(tmp_path: Path) -> None:
    make_private(tmp_path / "var", exclusive=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["migrate", "check"])
def test_every_command_leaves_only_private_files(tmp_path: Path, command: str) -> None:
    """This includes the commands of Django."""
    folder = tmp_path / "var"
    folder.mkdir(0o755)
    (folder / "db.sqlite3").touch(0o644)
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "SECRET_KEY")}
    subprocess.run(
        [sys.executable, str(ROOT / "manage.py"), command, "--verbosity", "0"],
        env={**kept, "DATA_DIR": str(folder)},
        check=True,
        timeout=120,
    )
    assert set(modes(folder).values()) == {0o600}
    assert "db.sqlite3" in modes(folder)
