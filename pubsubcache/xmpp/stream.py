"""The XML stream with bounds on what the other side may send (RFC 6120, 11 and 13).

What a server relays of strangers never ends the stream: a stanza is skipped when it is too large or when handling it
fails. What the server itself gets wrong does end it.
"""

import math
import re
from typing import Any
from xml.etree.ElementTree import Element

from slixmpp import ClientXMPP

from pubsubcache.cleaning import get_logger, one_line
from pubsubcache.conf import settings
from pubsubcache.slices import SLICE
from pubsubcache.xmlform import XML, split_tag
from pubsubcache.xmlparse import Event, Refused, StanzaParser, XmlError

logger = get_logger(__name__)

_PROLOG = re.compile(rb"^(?:\s+|<\?[^>]*\?>)*")
_TAG = re.compile(rb"<[A-Za-z_]")
MAX_PROLOG = 4096
STANZAS = ("message", "presence", "iq")
PIECE = 4096  # bytes parsed between two looks at the time
WRAPPING = 16  # elements that an item may be nested in within its stanza


class GuardedStream(ClientXMPP):
    """A client stream that ends when the server sends what no server may.

    That is a document type definition, XML that is not well-formed, or a stanza that goes on far beyond
    `MAX_STANZA_SIZE`. `stream_refused` is then called with the reason.
    """

    def init_parser(self) -> None:
        """Begin a new XML document, as after TLS and after authentication."""
        # An item that is cut at this depth is still deeper than items may be, and so refused by itself.
        depth = settings.MAX_ITEM_DEPTH + WRAPPING
        self.parser: Any = StanzaParser(settings.MAX_STANZA_SIZE, depth, self.is_hollow)
        self._prolog: bytes | None = b""
        self._unread = bytearray()

    def data_received(self, data: bytes | str) -> None:
        """Parse what has come from the socket and dispatch each stanza that it completes.

        What takes longer than a slice of time goes on in the next round of the event loop, and nothing more is taken
        from the socket until then.
        """
        if self.parser is None:
            return
        self.received_at = self.loop.time()
        goes_on = bool(self._unread)
        self._unread += data.encode() if isinstance(data, str) else data
        if not goes_on:
            self._read(self.loop.time() + SLICE)

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
        try:
            for event in parser.feed(octets):
                if self._handle_event(event) or self.parser is not parser:
                    self._unread.clear()
                    return
        except XmlError as error:
            self._refuse("not-well-formed", f"the server sent XML that is not well-formed ({error})")
        except Refused as error:
            self._refuse("policy-violation", f"the server sent {error}")

    def _without_dtd(self, octets: bytes) -> bytes:
        """Return what may be parsed of the beginning of a document: nothing before its first tag is in sight.

        That tag is to be seen as ASCII, which also keeps encodings out that would hide a DTD (RFC 6120, 11.6).
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
        """Act on what the parser found. Returns whether the stream has ended."""
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
        # slixmpp writes the attributes of a request back in its answer, and namespaces without escaping them.
        for key in [key for key in stanza.attrib if split_tag(key)[0] not in ("", XML)]:
            del stanza.attrib[key]
        try:
            if stanza.tag == f"{{{self.default_ns}}}message":
                self.message_received(stanza)  # nothing of slixmpp is to see it, and it takes long to look
            else:
                self._spawn_event(stanza)
        except Exception:
            logger.exception("A stanza from %s was skipped, as handling it failed.", _sender(stanza))
            self._answer_error(stanza, "internal-server-error")
            self.stanza_skipped(stanza, "Handling the answer failed.")

    def _skip(self, stanza: Element) -> bool:
        """Skip a stanza over the limit. Returns whether that ended the stream."""
        limit = f"{settings.MAX_STANZA_SIZE} bytes"
        if not self._is_stanza(stanza):
            self.stream_refused("policy-violation", f"the server sent an element longer than {limit}")
            return True
        self.stanza_received()
        logger.warning("A stanza from %s was skipped: it is longer than %s.", _sender(stanza), limit)
        self._answer_error(stanza, "not-acceptable")
        self.stanza_skipped(stanza, f"The answer is longer than {limit}.")
        return False

    def _refuse(self, condition: str, reason: str) -> None:
        """End the stream, with the stanza that is the reason counted as handled: it must not come again."""
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
        """Count a message, presence or IQ as handled (XEP-0198): handled, skipped or refused."""
        raise NotImplementedError

    def message_received(self, message: Element) -> None:
        """Handle a message."""
        raise NotImplementedError

    def stanza_skipped(self, stanza: Element, reason: str) -> None:
        """Take note of a stanza that nobody has handled. `reason` is a sentence for people."""
        raise NotImplementedError

    def stream_refused(self, condition: str, reason: str) -> None:
        """End the stream with a stream error. `reason` is a clause for people."""
        raise NotImplementedError

    def send_raw(self, data: str | bytes) -> None:
        """Write to the socket; once the connection is lost there is nobody to write to, and nobody to tell."""
        if self.transport is not None:
            super().send_raw(data)


def _sender(stanza: Element) -> str:
    return one_line(stanza.get("from") or "the server", 200)
