"""Test that the tests in the table of known defects exist."""

import re
from pathlib import Path
from string import ascii_lowercase

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROWS = [line for line in (DOCS / "defects.md").read_text().splitlines() if line.startswith("| ")][1:]


def test_every_defect_has_an_existing_test() -> None:
    for row in ROWS:
        named = re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", row)
        assert named, row
        for test, path in named:
            source = (DOCS / path).read_text()
            assert re.search(rf"^(async )?def {test}\(", source, re.MULTILINE), (test, path)


def test_no_defect_is_missing() -> None:
    letters = [row.split("|")[1].strip() for row in ROWS]
    assert letters == [*ascii_lowercase, "", "", ""]
