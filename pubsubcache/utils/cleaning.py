"""Cleans remote text for logs, errors and status fields: one line of bounded length without control characters."""

import logging
import traceback
from typing import Any

from pubsubcache.utils.texts import without_piles

MAX_LENGTH = 1000
MAX_RECORD = 2000
MAX_PILED = 4000  # characters of a text, among them combining ones, that are looked at for a short label
MAX_TRACEBACK_LINES = 100

_LINE_BREAKS = "\t\n\v\f\r\x85\u2028\u2029"
_ESCAPED = (
    *range(0x20),
    *range(0x7F, 0xA0),
    0x061C,  # bidirectional marks, embeddings, overrides and isolates, which reorder the displayed text
    *range(0x200E, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    *range(0xD800, 0xE000),  # lone surrogates, which cannot be encoded
)
_TRANSLATION = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _ESCAPED} | {
    ord(character): " " for character in _LINE_BREAKS
}
_VISIBLE = {code: escape for code, escape in _TRANSLATION.items() if chr(code) not in _LINE_BREAKS}


def one_line(text: object, limit: int = MAX_LENGTH) -> str:
    """Return `text` as one printable line.

    Line breaks and tabs become spaces; other control characters, bidirectional controls and lone surrogates become
    visible escapes. The function is idempotent.

    Args:
        text: Any object; it is converted with `str()`.
        limit: Maximum length of the result in characters. Truncated text ends with an ellipsis.
    """
    whole = str(text)
    line = whole[: limit + 1].translate(_TRANSLATION)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def visible(text: str) -> str:
    """Return `text` with visible escapes for control characters and bidirectional controls, but with its lines."""
    return text.translate(_VISIBLE)


def label(text: object, limit: int) -> str:
    """Return `text` as one line for pages: like `one_line`, and with few combining characters on each letter."""
    return one_line(without_piles(str(text)[: MAX_PILED + limit]), limit)


def get_logger(name: str) -> logging.Logger:
    """Return the logger `name` with a filter that cleans its messages, however the site configures logging.

    Use it instead of `logging.getLogger` wherever a message may contain remote text.
    """
    logger = logging.getLogger(name)
    if not any(isinstance(found, CleanRecords) for found in logger.filters):
        logger.addFilter(CleanRecords())
    return logger


class CleanRecords(logging.Filter):
    """Logging filter that cleans the message and the traceback of each record. It drops no records."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = one_line(_message(record), MAX_RECORD), None
        if record.exc_info and not record.exc_text:
            record.exc_text = _traceback(record.exc_info)
        return True


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # like `logging`, which reports it and continues
        return f"{record.msg} (the message could not be formatted: {type(error).__name__})"


def _traceback(exc_info: Any) -> str:
    """Format a traceback with bounded length. All lines are indented, so none can be mistaken for a log record."""
    lines = "".join(traceback.format_exception(*exc_info, chain=True)).splitlines()
    if len(lines) > MAX_TRACEBACK_LINES:
        half = MAX_TRACEBACK_LINES // 2
        lines = [*lines[:half], f"… {len(lines) - 2 * half} lines …", *lines[-half:]]
    return "\n".join(f"  {one_line(line)}" for line in lines)
