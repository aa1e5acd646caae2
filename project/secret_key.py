"""Generates the secret key of a site that has none, and stores it in a file that only its owner can read."""

import os
from pathlib import Path

from django.core.management.utils import get_random_secret_key


def local_secret_key(folder: Path) -> str:
    """Return the key in `folder`/secret_key, and create it on the first call.

    The file is created atomically, so processes that start at the same time get the same key.
    """
    path = folder / "secret_key"
    try:
        return path.read_text()
    except FileNotFoundError:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = folder / f"secret_key.{os.getpid()}"
    draft.touch(mode=0o600)
    draft.write_text(get_random_secret_key() + get_random_secret_key())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # another process was first; use its key
    finally:
        draft.unlink()
    return path.read_text()
