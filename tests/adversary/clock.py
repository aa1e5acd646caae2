"""A fake wall clock for single processes (libfaketime). Monotonic time is not changed."""

from pathlib import Path

from project.sample.process import ServerError


def library() -> Path:
    """Return the library to preload. Raises `ServerError` when it is not installed."""
    for found in sorted(Path("/usr").glob("lib*/**/faketime/libfaketimeMT.so.1")):
        return found
    raise ServerError(
        "libfaketime is not installed: `sudo apt-get install faketime` brings it, and so does `make test`."
    )


class Clock:
    """A wall clock with an offset in seconds, for the processes that run with `environment`.

    The offset can be changed while they run, with immediate effect. It is stored in `file`.
    """

    def __init__(self, file: Path, offset: float = 0) -> None:
        self._file = file
        self.offset = offset

    @property
    def offset(self) -> float:
        """The number of seconds that the clock is ahead; negative if it is behind."""
        return self._offset

    @offset.setter
    def offset(self, seconds: float) -> None:
        self._offset = seconds
        draft = self._file.with_suffix(".new")
        draft.write_text(f"{seconds:+f}\n")
        draft.replace(self._file)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that make a process use this clock."""
        return {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }
