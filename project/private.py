"""Keeps the files of the site's data folder from other users of the machine."""

import os
import stat
from pathlib import Path

OTHERS_READ_OR_WRITE = 0o066
OTHERS = 0o077
PATTERNS = ("db.sqlite3*", "secret_key*", "admin_password*")


def make_private(folder: Path, *, ours: bool, database: Path | None = None) -> None:
    """Let nobody else read what the site keeps in `folder`, whatever the umask and whatever was made before.

    Args:
        folder: The data folder.
        ours: Whether nothing but the site's data is in there, so that the folder itself may be closed.
        database: A SQLite database in it, or None. Made with its folder if it is not there: SQLite would make it
            readable as the umask says, and gives the files beside it the same mode.
    """
    if database is not None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not database.exists():
                database.touch(mode=0o600)
        except OSError:  # as while an image is built; who needs the database is told so by opening it
            return
    if ours and _mode(folder) & OTHERS_READ_OR_WRITE:
        folder.chmod(0o700)
    for path in (path for pattern in PATTERNS for path in folder.glob(pattern)):
        if _mode(path) & OTHERS:
            path.chmod(0o600)


def _mode(path: Path) -> int:
    """Return the mode of a file or folder that we own, 0 for what we can or should not change."""
    try:
        found = path.lstat()
    except FileNotFoundError:  # SQLite has removed it
        return 0
    mine = found.st_uid == os.geteuid() and not stat.S_ISLNK(found.st_mode)
    return stat.S_IMODE(found.st_mode) if mine else 0
