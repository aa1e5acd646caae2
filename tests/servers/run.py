"""The Python part of `make run`, with its data in a folder of a test."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def environment(folder: Path, **changes: str) -> dict[str, str]:
    """Return the environment of a separate site in `folder`."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "SECRET_KEY")}
    return {**kept, "DATA_DIR": str(folder / "var"), "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **changes}
