"""Sends IQ requests and matches their answers (RFC 6120, 8.2.3), with one slixmpp handler for all of them."""

import asyncio
import contextlib
import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from slixmpp import JID, InvalidJID
from slixmpp.xmlstream import StanzaBase
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher.base import MatcherBase

from pubsubcache.conf import settings
from pubsubcache.exceptions import InvalidRequest, ServiceError, ServiceUnreachable, TooLarge, service_error
from pubsubcache.utils.xmlform import split_tag
from pubsubcache.utils.xmlparse import XML, XMLNS
from pubsubcache.xmpp.stream import GuardedStream
from pubsubcache.xmpp.turns import Turns

STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
_NOT_IN_NAMESPACE = re.compile('["&<}]')  # slixmpp does not escape namespaces
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Answer(MatcherBase):
    """Matches the answers to pending requests."""

    def match(self, xml: StanzaBase) -> bool:
        return bool(self._criteria.awaits(xml.xml))


class _NoAnswer(ServiceUnreachable):
    """The service did not answer a request in time."""


@dataclass(frozen=True, slots=True)
class _Pending:
    senders: frozenset[str]
    service: str
    answer: asyncio.Future[Element]


class Requests:
    """The requests of one client, scheduled by `Turns`.

    The state of silent services is lost with the client, because they may have seemed silent due to its connection.
    """

    def __init__(self, client: GuardedStream) -> None:
        self._client = client
        self._pending: dict[str, _Pending] = {}
        self._turns = Turns()
        self._lost: ServiceUnreachable | None = ServiceUnreachable("There is no session yet.")
        client.register_handler(Callback("Answers", _Answer(self), self._answered))

    def begin(self) -> None:
        """Start to accept requests."""
        self._lost = None

    def fail_all(self, error: ServiceUnreachable) -> None:
        """Fail all pending requests, and all new ones until `begin`, with `error`."""
        self._lost = error
        pending, self._pending = self._pending, {}
        for request in pending.values():
            if not request.answer.done():
                request.answer.set_exception(type(error)(str(error)))

    def silent(self) -> frozenset[str]:
        """Return the domains to which no requests are sent at present, because they did not answer."""
        return self._turns.silent()

    async def send(self, kind: str, to: str, payload: Element) -> Element:
        """Send an IQ and wait for the answer.

        Args:
            kind: Type of the IQ, "get" or "set".
            to: JID of the receiver.
            payload: Payload of the IQ.

        Returns:
            The `<iq/>` of the answer.

        Raises:
            ServiceError: The answer is an error.
            TooLarge: The answer is over `MAX_STANZA_SIZE`.
            ServiceUnreachable: There was no turn or no answer within `IQ_TIMEOUT`, the connection was lost, or the
                service is silent.
            InvalidRequest: The payload cannot be sent as XML, or `to` is not a JID.
        """
        _check(payload)
        try:
            receiver = JID(to)
        except InvalidJID as error:
            raise InvalidRequest(f"{to!r} is not a JID.") from error
        self._check_session()
        turn = await self._turns.take(receiver.domain or self._client.boundjid.domain)
        with turn.used():
            self._check_session()
            try:
                answer = await self._exchange(kind, receiver, payload)
            except _NoAnswer:
                turn.timed_out()
                raise
        if answer.get("type") == "error":
            raise stanza_error(answer)
        return answer

    def _check_session(self) -> None:
        if self._lost is not None:
            raise type(self._lost)(str(self._lost))

    async def ping(self, to: str) -> None:
        """Ping a JID (XEP-0199) without waiting for a turn. Return after the answer or the timeout."""
        with contextlib.suppress(ServiceUnreachable):
            await self._exchange("get", JID(to), Element("{urn:xmpp:ping}ping"))

    async def _exchange(self, kind: str, to: JID, payload: Element) -> Element:
        iq = self._client.Iq(stype=kind, sto=to, sid=self._client.new_id())
        iq.append(payload)
        future: asyncio.Future[Element] = asyncio.get_running_loop().create_future()
        domain = to.domain or self._client.boundjid.domain
        self._pending[iq["id"]] = _Pending(self._senders(to), domain, future)
        try:
            self._client.send(iq)
            async with asyncio.timeout(settings.IQ_TIMEOUT):
                return await future
        except TimeoutError as error:
            raise _NoAnswer(f"{to} did not answer within {settings.IQ_TIMEOUT:g} seconds.") from error
        finally:
            self._pending.pop(iq["id"], None)

    def _senders(self, to: JID) -> frozenset[str]:
        """Return the JIDs that may answer a request to `to` (RFC 6120, 8.1.2.1 and 10.3)."""
        own = self._client.boundjid
        if to.full in ("", own.bare, own.domain, own.full):
            return frozenset({to.full, "", own.bare, own.domain, own.full})
        return frozenset({to.full})

    def awaits(self, stanza: Element) -> bool:
        """Return whether a stanza answers a pending request and comes from its receiver."""
        if stanza.tag != f"{{{self._client.default_ns}}}iq" or stanza.get("type") not in ("result", "error"):
            return False
        request = self._pending.get(stanza.get("id", ""))
        try:
            return request is not None and JID(stanza.get("from", "")).full in request.senders
        except InvalidJID:
            return False

    def skipped(self, stanza: Element, reason: str) -> None:
        """Fail the request that a skipped stanza answers, if any, with `TooLarge`."""
        if self.awaits(stanza):
            request = self._pending.pop(stanza.get("id", ""))
            self._turns.heard_from(request.service, self._client.stanza_size)
            if not request.answer.done():
                request.answer.set_exception(TooLarge(reason))

    def _answered(self, stanza: StanzaBase) -> None:
        request = self._pending.pop(stanza["id"])
        self._turns.heard_from(request.service, self._client.stanza_size)
        if not request.answer.done():
            request.answer.set_result(stanza.xml)


def _check(payload: Element) -> None:
    """Raise `InvalidRequest` if XML or slixmpp cannot represent the payload, which would end the stream."""
    for element in payload.iter():
        namespace = split_tag(element.tag)[0]
        if namespace in (XML, XMLNS) or _NOT_IN_NAMESPACE.search(namespace):
            raise InvalidRequest(f"The namespace {namespace!r} cannot be sent.")
        for text in (element.text, element.tail, *element.attrib.values()):
            if text and (found := _NOT_XML.search(text)):
                raise InvalidRequest(f"The character U+{ord(found[0]):04X} cannot be sent in XML.")


def stanza_error(stanza: Element) -> ServiceError:
    """Convert a stanza of type "error" to an exception (RFC 6120, 8.3).

    An application-specific condition, such as `closed-node` (XEP-0060), precedes the text.
    """
    condition, words, own = "undefined-condition", "", ""
    error = next((child for child in stanza if split_tag(child.tag)[1] == "error"), None)
    for child in () if error is None else error:
        namespace, name = split_tag(child.tag)
        if namespace != STANZAS:
            own = f"{name} {child.get('feature', '')}".strip()
        elif name == "text":
            words = (child.text or "").strip()
        else:
            condition = name
    return service_error(condition, ": ".join(part for part in (own, words) if part))
