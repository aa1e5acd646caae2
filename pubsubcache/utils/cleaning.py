"""Remote text made fit for logs, errors and status fields: one line of bounded length without control characters."""

import logging
import traceback
from typing import Any

MAX_LENGTH = 1000
MAX_RECORD = 2000
MAX_TRACEBACK_LINES = 100

_LINE_BREAKS = "\t\n\v\f\r\x85\u2028\u2029"
_ESCAPED = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0x061C,  # bidirectional marks, embeddings, overrides and isolates: they reorder what a reader sees
    *range(0x200E, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    *range(0xD800, 0xE000),  # lone surrogates, which no encoding can write
)
_TRANSLATION = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _ESCAPED} | {
    ord(character): " " for character in _LINE_BREAKS
}


def one_line(text: object, limit: int = MAX_LENGTH) -> str:
    """Return `text` as one printable line.

    Line breaks and tabs become spaces; other control characters, bidirectional controls and lone surrogates become
    visible escapes. Cleaning twice changes nothing.

    Args:
        text: anything; `str()` is applied.
        limit: the number of characters returned at most. A cut text ends with an ellipsis.
    """
    whole = str(text)
    line = whole[: limit + 1].translate(_TRANSLATION)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def get_logger(name: str) -> logging.Logger:
    """Return the logger `name`, each of whose messages is one clean line, however the site configures logging.

    Use it in place of `logging.getLogger` wherever a message may hold remote text.
    """
    logger = logging.getLogger(name)
    if not any(isinstance(found, CleanRecords) for found in logger.filters):
        logger.addFilter(CleanRecords())
    return logger


class CleanRecords(logging.Filter):
    """Cleans the message and the traceback of each record; drops none."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the message by its clean line, and indent the lines of the traceback."""
        record.msg, record.args = one_line(_message(record), MAX_RECORD), None
        if record.exc_info and not record.exc_text:
            record.exc_text = _traceback(record.exc_info)
        return True


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # as `logging` itself, which reports it and goes on
        return f"{record.msg} (the message could not be formatted: {type(error).__name__})"


def _traceback(exc_info: Any) -> str:
    """Return a traceback of bounded length in which no line can pass for a record."""
    lines = "".join(traceback.format_exception(*exc_info, chain=True)).splitlines()
    if len(lines) > MAX_TRACEBACK_LINES:
        half = MAX_TRACEBACK_LINES // 2
        lines = [*lines[:half], f"… {len(lines) - 2 * half} lines …", *lines[-half:]]
    return "\n".join(f"  {one_line(line)}" for line in lines)
