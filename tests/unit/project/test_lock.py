"""Test that the locks pin the requirements of pyproject.toml. `make lock` renews them."""

import re
import tomllib
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = re.compile(r"([a-z0-9-]+)==([^\s;]+)(?: ; ([^\\]+?))?(?: \\)?")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")


def requirements(*groups: str) -> list[Requirement]:
    """Return the requirements of the application with all extras and of these dependency groups."""
    project = PROJECT["project"]
    asked = [*project["dependencies"], *(line for lines in project["optional-dependencies"].values() for line in lines)]
    for group in groups:
        asked += PROJECT["dependency-groups"][group]
    return [Requirement(line) for line in asked]


ASKED = {
    "requirements.txt": requirements("site"),
    "requirements-dev.txt": requirements("site", "dev"),
}


def pins(name: str) -> dict[str, str]:
    """Return the version of each package in a lock."""
    found = [PIN.fullmatch(line) for line in (ROOT / name).read_text().splitlines()]
    return {match[1]: match[2] for match in found if match}


@pytest.mark.parametrize("name", ASKED)
def test_lock_has_only_versions_and_hashes(name: str) -> None:
    hashes = None
    for line in (ROOT / name).read_text().splitlines():
        if PIN.fullmatch(line):
            assert hashes != 0, f"the line before {line} has no hashes"
            hashes = 0
        elif HASH.fullmatch(line):
            assert hashes is not None
            hashes += 1
        else:
            assert line.lstrip().startswith("#"), line
            assert "/" not in line, "a lock must not name an index or a path"
    assert hashes


@pytest.mark.parametrize("name", ASKED)
def test_a_lock_is_current(name: str) -> None:
    locked = pins(name)
    for requirement in ASKED[name]:
        package = canonicalize_name(requirement.name)
        assert package in locked, f"run make lock: {name} lacks {package}"
        assert requirement.specifier.contains(locked[package]), f"run make lock: {requirement}, not {locked[package]}"


def test_lock_of_the_site_is_complete() -> None:
    locked = pins("requirements.txt")
    waiting = [(canonicalize_name(asked.name), frozenset(asked.extras)) for asked in ASKED["requirements.txt"]]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        package, extras = entry = waiting.pop()
        if entry in seen:
            continue
        seen.add(entry)
        assert version(package) == locked[package], "the virtual environment does not match the lock"
        for line in requires(package) or []:
            needed = Requirement(line)
            if needed.marker and not any(needed.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                continue
            name = canonicalize_name(needed.name)
            assert name in locked, f"run make lock: {package} needs {name}"
            assert needed.specifier.contains(locked[name]), f"run make lock: {package} needs {line}"
            waiting.append((name, frozenset(needed.extras)))
    elsewhere = {"async-timeout"}  # needed by other versions of Python
    assert locked.keys() - {package for package, _ in seen} <= elsewhere, "run make lock: nothing needs these"


def test_both_locks_agree() -> None:
    assert pins("requirements.txt").items() <= pins("requirements-dev.txt").items()


def test_site_requires_ranges() -> None:
    for asked in requirements("site"):
        assert {specifier.operator for specifier in asked.specifier} <= {">=", "<"}
