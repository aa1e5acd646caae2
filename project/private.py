"""Protects the files in the data folder of the site from other users of the machine."""

import os
import stat
from pathlib import Path

OTHERS_READ_OR_WRITE = 0o066
OTHERS = 0o077
PATTERNS = ("db.sqlite3*", "secret_key*", "admin_password*")


def make_private(folder: Path, *, exclusive: bool, database: Path | None = None) -> None:
    """Remove the permissions of other users for the site's files in `folder`, whatever the umask.

    Args:
        folder: The data folder.
        exclusive: Whether it only contains data of the site, so that the folder itself may be made private.
        database: A SQLite database in it, or None. It is created together with the folder if it is missing, because
            SQLite would apply the umask, and uses the same mode for the files beside it.
    """
    if database is not None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not database.exists():
                database.touch(mode=0o600)
        except OSError:  # for example while an image is built; opening the database reports the error
            return
    if exclusive and _mode(folder) & OTHERS_READ_OR_WRITE:
        folder.chmod(0o700)
    for path in (path for pattern in PATTERNS for path in folder.glob(pattern)):
        if _mode(path) & OTHERS:
            path.chmod(0o600)


def _mode(path: Path) -> int:
    """Return the mode of a file or folder of the current user, or 0 if it must not be changed."""
    try:
        found = path.lstat()
    except FileNotFoundError:  # removed by SQLite meanwhile
        return 0
    mine = found.st_uid == os.geteuid() and not stat.S_ISLNK(found.st_mode)
    return stat.S_IMODE(found.st_mode) if mine else 0
