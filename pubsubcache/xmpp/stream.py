"""The XML stream with bounds on what the other side may send (RFC 6120, 11 and 13)."""

import re
import xml.etree.ElementTree as ET
from typing import Any
from xml.etree.ElementTree import Element

from slixmpp import ClientXMPP

from pubsubcache.conf import settings

_PROLOG = re.compile(rb"^(?:\s+|<\?[^>]*\?>)*")
_TAG = re.compile(rb"<[A-Za-z_]")
MAX_PROLOG = 4096


class GuardedStream(ClientXMPP):
    """A client stream that ends when the server sends what no server may.

    A document type definition, XML that is not well-formed, or a stanza longer than `MAX_STANZA_SIZE` while it is
    still being received. `stream_refused` is called with the reason.
    """

    def init_parser(self) -> None:
        """Begin a new XML document, as after TLS and after authentication."""
        self.xml_depth = 0
        self.xml_root = None
        self.parser = ET.XMLPullParser(("start", "end"))
        self._prolog: bytes | None = b""
        self._unfinished = 0

    def data_received(self, data: bytes | str) -> None:
        """Parse what has come from the socket and dispatch each stanza that it completes."""
        if self.parser is None:
            return
        octets = data.encode() if isinstance(data, str) else data
        self.received_at = self.loop.time()
        self._unfinished += len(octets)
        if self._prolog is not None and not (octets := self._without_dtd(octets)):
            return
        try:
            self._parse(octets)
        except ET.ParseError as error:
            self.stream_refused("not-well-formed", f"the server sent XML that is not well-formed ({error})")
            return
        if self._unfinished > (limit := settings.MAX_STANZA_SIZE):
            self.stream_refused("policy-violation", f"the server sent a stanza longer than {limit} bytes")

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

    def _parse(self, octets: bytes) -> None:
        parser: Any = self.parser
        parser.feed(octets)
        for event, element in parser.read_events():
            if event == "start":
                self._element_started(element)
            elif self._element_ended(element) or self.parser is not parser:
                return

    def _element_started(self, element: Element) -> None:
        if self.xml_depth == 0:
            self.xml_root = element
            self.start_stream_handler(element)  # type: ignore[no-untyped-call]
        self.xml_depth += 1

    def _element_ended(self, element: Element) -> bool:
        """Dispatch the element when it is a stanza. Returns whether the stream has ended."""
        self.xml_depth -= 1
        if self.xml_depth == 0:
            self.disconnect_reason = "End of stream"
            self.abort()
            return True
        if self.xml_depth == 1:
            self._unfinished = 0
            self._spawn_event(element)
            if self.xml_root is not None:
                self.xml_root.clear()
        return False

    def stream_refused(self, condition: str, reason: str) -> None:
        """End the stream with a stream error. `reason` is a clause for people."""
        raise NotImplementedError

    def send_raw(self, data: str | bytes) -> None:
        """Write to the socket; once the connection is lost there is nobody to write to, and nobody to tell."""
        if self.transport is not None:
            super().send_raw(data)
