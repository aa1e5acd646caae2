"""XML stream of a slixmpp client with limits on received data (RFC 6120, 11 and 13).

Stanzas that the server relays for others never end the stream: those that are too large, or that cannot be handled, are
skipped. Errors of the server itself end it.
"""

import math
import re
import socket
from contextlib import suppress
from typing import Any
from xml.etree.ElementTree import Element

from slixmpp import ClientXMPP

from pubsubcache.conf import settings
from pubsubcache.utils import xmlform
from pubsubcache.utils.cleaning import get_logger, one_line
from pubsubcache.utils.slices import SLICE
from pubsubcache.utils.xmlform import XML, split_tag
from pubsubcache.utils.xmlparse import Event, Refused, StanzaParser, XmlError

logger = get_logger(__name__)

_PROLOG = re.compile(rb"^(?:\s+|<\?[^>]*\?>)*")
_TAG = re.compile(rb"<[A-Za-z_]")
MAX_PROLOG = 4096
STANZAS = ("message", "presence", "iq")
PIECE = 4096  # bytes parsed before the time is checked
WRAPPING = 16  # levels between a stanza and an item in it
QUICKACK = getattr(socket, "TCP_QUICKACK", None)  # Linux only


class GuardedStream(ClientXMPP):
    """Client stream that ends when the server violates the protocol.

    Violations are a document type definition, XML that is not well-formed, and a stanza far longer than
    `MAX_STANZA_SIZE`. They are reported to `stream_refused`.

    Attributes:
        stanza_size: Size in bytes of the stanza that is being handled. It may be wrong by `PIECE`.
    """

    stanza_size = 0

    def init_parser(self) -> None:
        """Start a new XML document, as after TLS and after authentication."""
        # An item truncated at this depth still exceeds xmlform.MAX_DEPTH, so it is left out.
        self.parser: Any = StanzaParser(settings.MAX_STANZA_SIZE, xmlform.MAX_DEPTH + WRAPPING, self.is_hollow)
        self._prolog: bytes | None = b""
        self._unread = bytearray()
        self._received = 0  # bytes after the last stanza

    def data_received(self, data: bytes | str) -> None:
        """Parse received data and dispatch complete stanzas.

        Parsing that takes longer than a slice continues in the next round of the event loop. Nothing more is taken from
        the socket until then.
        """
        if self.parser is None:
            return
        self.received_at = self.loop.time()
        self._acknowledge()
        goes_on = bool(self._unread)
        self._unread += data.encode() if isinstance(data, str) else data
        if not goes_on:
            self._read(self.loop.time() + SLICE)

    def _acknowledge(self) -> None:
        """Acknowledge the received segments at once (TCP_QUICKACK).

        Otherwise Linux delays acknowledgements by up to 40 ms. A server that uses Nagle's algorithm, as Prosody does by
        default, holds its next answer back until the last one is acknowledged.
        """
        # Linux soon returns to delayed acknowledgements, so the option is set again each time.
        if QUICKACK is not None and (connection := self.transport and self.transport.get_extra_info("socket")):
            with suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, QUICKACK, 1)

    def read_rest(self) -> None:
        """Parse at once all that has come from the socket."""
        self._read(math.inf)

    def _read(self, until: float) -> None:
        while self._unread and self.parser is not None:
            piece = bytes(self._unread[:PIECE])
            del self._unread[:PIECE]
            self._feed(piece)
            if self._unread and self.loop.time() >= until:
                self._set_reading(False)
                self.loop.call_soon(self._read_on)
                return

    def _read_on(self) -> None:
        self._set_reading(True)
        self._read(self.loop.time() + SLICE)

    def _set_reading(self, on: bool) -> None:
        if self.transport is not None:
            self.transport.resume_reading() if on else self.transport.pause_reading()

    def _feed(self, octets: bytes) -> None:
        if self._prolog is not None and not (octets := self._without_dtd(octets)):
            return
        parser = self.parser
        parser.limit = settings.MAX_STANZA_SIZE
        if not parser.skipping:
            self._received += len(octets)
        try:
            for event in parser.feed(octets):
                self.stanza_size, self._received = self._received, 0
                if self._handle_event(event) or self.parser is not parser:
                    self._unread.clear()
                    return
        except XmlError as error:
            self._refuse("not-well-formed", f"the server sent XML that is not well-formed ({error})")
        except Refused as error:
            self._refuse("policy-violation", f"the server sent {error}")

    def _without_dtd(self, octets: bytes) -> bytes:
        """Return the start of a document once its first tag has been received, else b"".

        The tag must be readable as ASCII, which also rejects encodings that could hide a DTD (RFC 6120, 11.6).
        """
        self._prolog = octets = (self._prolog or b"") + octets
        rest = _PROLOG.sub(b"", octets, count=1)
        if _TAG.match(rest):
            self._prolog = None
            return octets
        if rest[:2] == b"<!":
            self.stream_refused("restricted-xml", "the server sent a document type definition or a comment")
        elif rest not in (b"", b"<") and (rest[:2] != b"<?" or len(octets) > MAX_PROLOG):
            self.stream_refused("invalid-xml", "the server does not speak XMPP")
        return b""

    def _handle_event(self, event: Event) -> bool:
        """Handle an event of the parser. Return whether the stream has ended."""
        kind, element = event
        match kind:
            case "open":
                self.start_stream_handler(element)  # type: ignore[no-untyped-call]
            case "stanza":
                self._dispatch(element)
            case "skipped":
                return self._skip(element)
            case "close":
                self.disconnect_reason = "End of stream"
                self.abort()
                return True
        return False

    def _dispatch(self, stanza: Element) -> None:
        if self._is_stanza(stanza):
            self.stanza_received()
        # slixmpp copies the attributes of a request to its answer, and does not escape their namespaces.
        for key in [key for key in stanza.attrib if split_tag(key)[0] not in ("", XML)]:
            del stanza.attrib[key]
        try:
            if stanza.tag == f"{{{self.default_ns}}}message":
                self.message_received(stanza)  # nothing of slixmpp is to see it, and it takes long to look
            else:
                self._spawn_event(stanza)
        except Exception:
            logger.exception("Skipped a stanza from %s because handling it failed.", _sender(stanza))
            self._answer_error(stanza, "internal-server-error")
            self.stanza_skipped(stanza, "Handling the answer failed.")

    def _skip(self, stanza: Element) -> bool:
        """Skip a stanza over the limit. Return whether that ended the stream."""
        limit = f"{settings.MAX_STANZA_SIZE} bytes"
        if not self._is_stanza(stanza):
            self.stream_refused("policy-violation", f"the server sent an element longer than {limit}")
            return True
        self.stanza_received()
        logger.warning("Skipped a stanza from %s: it is longer than %s.", _sender(stanza), limit)
        self._answer_error(stanza, "not-acceptable")
        self.stanza_skipped(stanza, f"The answer is longer than {limit}.")
        return False

    def _refuse(self, condition: str, reason: str) -> None:
        """End the stream. The stanza that caused it counts as handled, so that the server does not resend it."""
        stanza = self.parser.unfinished
        if not self.parser.skipping and (stanza is None or self._is_stanza(stanza)):
            self.stanza_received()
        self.stream_refused(condition, reason)

    def _answer_error(self, stanza: Element, condition: str) -> None:
        if split_tag(stanza.tag) == (self.default_ns, "iq") and stanza.get("type") in ("get", "set") and self.bound:
            make: Any = self.make_iq_error
            make(stanza.get("id", ""), "cancel", condition, ito=stanza.get("from", "")).send()

    def _is_stanza(self, element: Element) -> bool:
        namespace, name = split_tag(element.tag)
        return namespace == self.default_ns and name in STANZAS

    def is_hollow(self, stanza: Element, tag: str, attributes: dict[str, str]) -> bool:
        """Whether nobody will look at the content of a grandchild of a stanza, so that it need not be read."""
        raise NotImplementedError

    def stanza_received(self) -> None:
        """Count a message, presence or IQ as handled (XEP-0198), even if it was skipped or refused."""
        raise NotImplementedError

    def message_received(self, message: Element) -> None:
        """Handle a message."""
        raise NotImplementedError

    def stanza_skipped(self, stanza: Element, reason: str) -> None:
        """Handle a stanza that was skipped. `reason` is a readable sentence."""
        raise NotImplementedError

    def stream_refused(self, condition: str, reason: str) -> None:
        """End the stream with a stream error. `reason` is a readable clause."""
        raise NotImplementedError

    def send_raw(self, data: str | bytes) -> None:
        """Write to the socket; do nothing if the connection is lost."""
        if self.transport is not None:
            super().send_raw(data)


def _sender(stanza: Element) -> str:
    return one_line(stanza.get("from") or "the server", 200)
