"""Test that the stream is read in time slices and in order, and that shed items are not parsed."""

import asyncio
import socket
from typing import Any
from xml.etree.ElementTree import Element

import pytest

from pubsubcache.utils.xmlform import PUBSUB_EVENT
from pubsubcache.xmpp import stream
from pubsubcache.xmpp.stream import GuardedStream

HEADER = b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='1'>"
ITEMS = f"{{{PUBSUB_EVENT}}}items"


class Transport:
    """Records whether the stream reads from its socket, and the options of that."""

    def __init__(self) -> None:
        self.is_reading = True
        self.pauses = 0
        self.is_aborted = False
        self.options: list[tuple[int, int, int]] = []

    def get_extra_info(self, name: str) -> "Transport":
        assert name == "socket"
        return self

    def setsockopt(self, level: int, option: int, value: int) -> None:
        self.options.append((level, option, value))
        if self.is_aborted:
            raise OSError("There is no such socket.")

    def close(self) -> None:
        """Do nothing: the test has no socket."""

    def abort(self) -> None:
        self.is_aborted = True

    def pause_reading(self) -> None:
        self.is_reading = False
        self.pauses += 1

    def resume_reading(self) -> None:
        self.is_reading = True


class Stream(GuardedStream):
    """A stream without a server, whose messages are kept."""

    def __init__(self) -> None:
        super().__init__("alice@example.org", "secret")
        self.messages: list[Element] = []
        self.handled = 0
        self.sizes: list[int] = []
        self.skipped: list[str] = []
        self.hollow = ""
        self.init_parser()
        self.socket_ = Transport()
        self.transport = self.socket_  # type: ignore[assignment]

    def start_stream_handler(self, xml: Element) -> None:
        """Send nothing."""

    def stanza_received(self) -> None:
        self.handled += 1

    def stanza_skipped(self, stanza: Element, reason: str) -> None:
        self.skipped.append(stanza.get("id", ""))
        self.sizes.append(self.stanza_size)

    def stream_refused(self, condition: str, reason: str) -> None:
        raise AssertionError(reason)

    def is_hollow(self, stanza: Element, tag: str, attributes: dict[str, str]) -> bool:
        return tag == ITEMS and stanza.get("from") == self.hollow

    def message_received(self, message: Element) -> None:
        self.messages.append(message)
        self.sizes.append(self.stanza_size)

    @property
    def ids(self) -> list[str]:
        return [message.get("id", "") for message in self.messages]


def message(number: int, sender: str = "a") -> bytes:
    item = "<item id='1'><entry xmlns='urn:x'>text</entry></item>" * 3
    event = f"<event xmlns='{PUBSUB_EVENT}'><items node='n'>{item}</items></event>"
    return f"<message id='{number}' from='{sender}'>{event}</message>".encode()


@pytest.fixture
async def made() -> Stream:
    found = Stream()
    found.data_received(HEADER)
    return found


async def test_much_data_is_read_in_slices_and_in_order(made: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SLICE", 0.0)  # at each check the time slice is over
    made.data_received(b"".join(map(message, range(100))))
    assert 0 < len(made.messages) <= stream.PIECE // len(message(1))
    assert not made.socket_.is_reading
    before = len(made.messages)
    made.data_received(message(100))  # data that arrived nevertheless
    assert len(made.messages) == before
    rounds = 0
    while len(made.messages) < 101 and rounds < 100:
        rounds += 1
        await asyncio.sleep(0)
    assert rounds > 1
    assert made.ids == [str(number) for number in range(101)]
    assert made.handled == 101
    await asyncio.sleep(0)
    assert made.socket_.is_reading
    assert made.socket_.pauses > 1


async def test_little_data_is_read_at_once(made: Stream) -> None:
    made.data_received(message(1))
    assert made.ids == ["1"]
    assert made.socket_.pauses == 0


async def test_rest_is_read_before_the_connection_is_lost(made: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "SLICE", 0.0)
    made.data_received(b"".join(map(message, range(100))))
    made.read_rest()
    assert len(made.messages) == 100
    await asyncio.sleep(0)
    assert made.handled == 100


async def test_data_after_a_new_parser_is_not_read(made: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(made, "message_received", lambda message: made.init_parser())
    made.data_received(message(1) + b"<message" * 10_000)
    made.data_received(HEADER)
    assert made.handled == 1


async def test_data_after_the_end_of_the_stream_is_not_read(made: Stream) -> None:
    made.data_received(message(1) + b"</stream:stream>" + message(2) * 20)
    assert made.ids == ["1"]
    assert made.socket_.is_aborted


async def test_shed_notifications_are_counted_and_their_items_not_built(made: Stream) -> None:
    made.hollow = "evil"
    made.data_received(message(1, "evil") + message(2, "good") + message(3, "evil"))
    assert made.handled == 3
    items = [message.find(f"{{{PUBSUB_EVENT}}}event/{ITEMS}") for message in made.messages]
    assert [None if found is None else (found.get("node"), len(found)) for found in items] == [
        ("n", 0), ("n", 3), ("n", 0),
    ]  # fmt: skip


async def test_segments_are_acknowledged_at_once(made: Stream) -> None:
    """A server that uses Nagle's algorithm waits for the acknowledgement of one answer before it sends the next."""
    for number in range(3):
        before = len(made.socket_.options)
        made.data_received(message(number))
        assert made.socket_.options[before:] == [(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)]
    made.socket_.is_aborted = True
    made.data_received(message(3))
    assert made.ids == ["0", "1", "2", "3"]


async def test_size_of_each_stanza_is_known_to_a_piece(made: Stream) -> None:
    sent = [message(1), message(2, "x" * 100_000), message(3), message(4)]
    made.data_received(b"".join(sent))
    made.read_rest()
    assert made.ids == ["1", "2", "3", "4"]
    for size, octets in zip(made.sizes, sent, strict=True):
        assert abs(size - len(octets)) <= stream.PIECE


async def test_size_of_a_skipped_stanza_is_not_that_of_the_next(made: Stream, settings: Any) -> None:
    settings.PUBSUBCACHE_MAX_STANZA_SIZE = 20_000
    made.data_received(message(1, "x" * 15_000) * 4)  # is not skipped
    made.data_received(b"<message id='2'>" + b"x" * 60_000 + b"</message>" + message(3))
    made.read_rest()
    assert made.ids == ["1", "1", "1", "1", "3"]
    assert made.skipped == ["2"]
    assert 20_000 <= made.sizes[-2] <= 20_000 + stream.PIECE
    assert made.sizes[-1] <= stream.PIECE
