"""Test that remote text becomes one clean line of bounded length in logs, errors and status fields."""

import io
import json
import logging
import pickle
import re
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pubsubcache import exceptions
from pubsubcache.exceptions import (
    InvalidRequest,
    ParseError,
    PubsubCacheError,
    ServiceError,
    ServiceUnreachable,
    service_error,
)
from pubsubcache.services.remote import decode_answer, encode_error
from pubsubcache.utils.cleaning import MAX_LENGTH, MAX_RECORD, MAX_TRACEBACK_LINES, CleanRecords, get_logger, one_line
from pubsubcache.utils.jid import normalise
from pubsubcache.utils.xmlform import from_text
from pubsubcache.xmpp.requests import stanza_error

hostile = st.text(st.characters(), max_size=50) | st.text(
    st.sampled_from("\n\r\t\0\x1b[31m\x85\u2028\u202e\u2066\ud800\udfff a"), max_size=50
)
long_texts = st.builds(lambda text, times: text * times, hostile, st.sampled_from([1, 1000]))


def is_clean(text: str, limit: int = MAX_LENGTH) -> bool:
    text.encode()
    controls = set(range(0x20)) | set(range(0x7F, 0xA0)) | {0x2028, 0x2029} | set(range(0x202A, 0x202F))
    controls |= set(range(0x2066, 0x206A))
    return len(text) <= limit and len(text.splitlines()) <= 1 and not controls & {ord(letter) for letter in text}


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Capture the log of the application with a plain handler, as a site may configure it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    root = logging.getLogger("pubsubcache")
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)


@given(long_texts, st.integers(10, 200))
def test_text_becomes_one_bounded_line(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert is_clean(line, limit)
    assert one_line(line, limit) == line


def test_normal_text_is_unchanged() -> None:
    text = "Zażółć gęślą jaźń, 日本語, עברית, 👩\u200d🌾 \\x1b"
    assert one_line(text) == text


def test_controls_become_visible() -> None:
    assert one_line("a\nb\x1b[31m\0\x9b\u202e\ud800") == "a b\\x1b[31m\\x00\\x9b\\u202e\\ud800"


def test_a_long_text_ends_with_an_ellipsis() -> None:
    assert one_line("x" * 11, 10) == "x" * 9 + "…"


@given(long_texts, long_texts)
def test_errors_are_clean_in_every_class(condition: str, text: str) -> None:
    for kind in vars(exceptions).values():
        if isinstance(kind, type) and issubclass(kind, PubsubCacheError) and not issubclass(kind, ServiceError):
            assert is_clean(str(kind(text)))
    error = service_error(condition, text)
    assert is_clean(error.condition, 100)
    assert is_clean(error.text, 500)
    assert is_clean(str(error))
    again = pickle.loads(pickle.dumps(error))
    assert (again.condition, again.text) == (error.condition, error.text)


@given(long_texts)
@example("\ud800" * 20)  # longer when it is clean
def test_errors_of_another_process_are_clean(text: str) -> None:
    for error in (ServiceUnreachable(text), ServiceError(text, text)):
        with pytest.raises(type(error), match=f"^{re.escape(str(error))}$"):
            decode_answer(encode_error(error), object)
        arguments = [text, text] if isinstance(error, ServiceError) else [text]
        with pytest.raises((type(error), ServiceUnreachable)) as caught:
            decode_answer(json.dumps({"error": type(error).__name__, "arguments": arguments}), object)
        assert is_clean(str(caught.value))


def test_the_error_of_a_stanza_is_clean() -> None:
    ours, theirs = "urn:ietf:params:xml:ns:xmpp-stanzas", f"urn:{'x' * 900}"
    text = "&#10;&#x85;" * 100_000
    inner = f"<forbidden xmlns='{ours}'/><text xmlns='{ours}'>{text}</text><{'y' * 100_000} xmlns='{theirs}'/>"
    error = stanza_error(from_text(f"<iq><error>{inner}</error></iq>"))
    assert error.condition == "forbidden"
    assert is_clean(str(error))
    odd = stanza_error(from_text(f"<iq><error><{'y' * 100_000} xmlns='{ours}'/></error></iq>"))
    assert odd.condition == "undefined-condition"


@given(hostile)
def test_errors_that_quote_their_input_are_clean(text: str) -> None:
    for call, kind in ((normalise, InvalidRequest), (from_text, ParseError)):
        try:
            call(text * 1000)
        except kind as error:
            assert is_clean(str(error))


def test_record_is_one_line_with_any_handler(written: io.StringIO) -> None:
    logger = get_logger("pubsubcache.tests")
    logger.warning("From %s: %s", "a\nERROR forged", "x" * 6_000_000)
    line = written.getvalue().removesuffix("\n")
    assert is_clean(line, MAX_RECORD + 10)
    assert line.startswith("WARNING From a ERROR forged: xxx")


def test_traceback_cannot_forge_records(written: io.StringIO) -> None:
    logger = get_logger("pubsubcache.tests")
    try:
        raise ValueError("no\nERROR forged\u2028ERROR forged\x1b[31m" + "\nERROR forged" * 10_000)
    except ValueError:
        logger.exception("It failed.")
    first, *lines = written.getvalue().removesuffix("\n").split("\n")
    assert first == "ERROR It failed."
    assert "ValueError: no" in written.getvalue()
    assert len(lines) <= MAX_TRACEBACK_LINES + 1
    assert all(line.startswith("  ") and is_clean(line, MAX_LENGTH + 2) for line in lines)


def test_message_that_does_not_match_its_arguments_is_logged(written: io.StringIO) -> None:
    get_logger("pubsubcache.tests").warning("%d items", "many")
    assert "%d items" in written.getvalue()


def test_logger_has_one_filter() -> None:
    logger = get_logger("pubsubcache.tests")
    assert get_logger("pubsubcache.tests") is logger
    assert sum(isinstance(found, CleanRecords) for found in logger.filters) == 1
