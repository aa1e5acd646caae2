"""Test the sample of `make run`: the same texts at every run, and a safe change of ownership."""

import os
import pwd
from pathlib import Path

from project.sample.process import give
from project.sample.texts import journal_entry


def test_journal_is_the_same_at_every_run() -> None:
    assert journal_entry(7) == journal_entry(7) != journal_entry(8)


def test_change_of_ownership_follows_no_links(tmp_path: Path) -> None:
    me, other = (
        pwd.getpwuid(os.geteuid()).pw_name,
        "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name,
    )
    target = tmp_path / "target"
    target.write_text("root's")
    folder = tmp_path / "sample"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "soft").symlink_to(target)
    (folder / "hard").hardlink_to(target)
    (folder / "loop").symlink_to(folder)
    (folder / "data" / "file").touch()
    give(folder, other)
    assert target.owner() == me
    assert {path.name: path.owner() for path in folder.rglob("*")} == {"data": other, "file": other}
