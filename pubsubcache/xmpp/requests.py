"""Requests that wait for their answer: one handler for all of them, whatever their number (RFC 6120, 8.2.3)."""

import asyncio
import contextlib
import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from slixmpp import JID, ClientXMPP, InvalidJID
from slixmpp.xmlstream import StanzaBase
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher.base import MatcherBase

from pubsubcache.conf import settings
from pubsubcache.exceptions import InvalidRequest, ServiceError, ServiceUnreachable, TooLarge, service_error
from pubsubcache.xmlform import split_tag
from pubsubcache.xmlparse import XML, XMLNS
from pubsubcache.xmpp.turns import Turns

STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
_NOT_IN_NAMESPACE = re.compile('["&<}]')  # slixmpp writes namespaces as they are
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class _Answer(MatcherBase):
    """Matches the answers to the requests of `criteria`."""

    def match(self, xml: StanzaBase) -> bool:
        return bool(self._criteria.awaits(xml.xml))


class _NoAnswer(ServiceUnreachable):
    """A request was not answered in time."""


@dataclass(frozen=True, slots=True)
class _Pending:
    senders: frozenset[str]
    service: str
    answer: asyncio.Future[Element]


class Requests:
    """The requests of one client. Services take turns, and one that does not answer is left alone: see `Turns`.

    What is known of silent services ends with the client: they may have seemed silent because its connection was.
    """

    def __init__(self, client: ClientXMPP) -> None:
        self._client = client
        self._pending: dict[str, _Pending] = {}
        self._turns = Turns()
        self._lost: ServiceUnreachable | None = ServiceUnreachable("There is no session yet.")
        client.register_handler(Callback("Answers", _Answer(self), self._answered))

    def begin(self) -> None:
        """Accept requests from now on."""
        self._lost = None

    def fail_all(self, error: ServiceUnreachable) -> None:
        """Fail the requests that wait, and all new ones until `begin`, with `error`."""
        self._lost = error
        pending, self._pending = self._pending, {}
        for request in pending.values():
            if not request.answer.done():
                request.answer.set_exception(type(error)(str(error)))

    def silent(self) -> frozenset[str]:
        """Return the domains that are not asked at present, as they did not answer."""
        return self._turns.silent()

    async def send(self, kind: str, to: str, payload: Element) -> Element:
        """Send an IQ of the type `kind` and return the `<iq/>` that answers it.

        Raises `ServiceError` when it is an error, `TooLarge` when it is over `MAX_STANZA_SIZE`, `ServiceUnreachable`
        when there is no turn or no answer within `IQ_TIMEOUT`, when the connection is lost meanwhile and at once for a
        silent service, and `InvalidRequest` when it cannot be said in XML or `to` is not a JID.
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
        """Ask `to` for a sign of life (XEP-0199), out of turn; return when it came or is overdue."""
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
        """Return who may answer a request to `to` (RFC 6120, 8.1.2.1 and 10.3)."""
        own = self._client.boundjid
        if to.full in ("", own.bare, own.domain, own.full):
            return frozenset({to.full, "", own.bare, own.domain, own.full})
        return frozenset({to.full})

    def awaits(self, stanza: Element) -> bool:
        """Whether `stanza` answers one of our requests, and comes from whom it was sent to."""
        if stanza.tag != f"{{{self._client.default_ns}}}iq" or stanza.get("type") not in ("result", "error"):
            return False
        request = self._pending.get(stanza.get("id", ""))
        try:
            return request is not None and JID(stanza.get("from", "")).full in request.senders
        except InvalidJID:
            return False

    def skipped(self, stanza: Element, reason: str) -> None:
        """Fail the request that `stanza` answers, if there is one, with `TooLarge`."""
        if self.awaits(stanza):
            request = self._pending.pop(stanza.get("id", ""))
            if not request.answer.done():
                request.answer.set_exception(TooLarge(reason))

    def _answered(self, stanza: StanzaBase) -> None:
        request = self._pending.pop(stanza["id"])
        self._turns.heard_from(request.service, sum(1 for _ in stanza.xml.iter()))
        if not request.answer.done():
            request.answer.set_result(stanza.xml)


def _check(payload: Element) -> None:
    """Raise `InvalidRequest` for what would end the stream, as XML or slixmpp has no way to write it."""
    for element in payload.iter():
        namespace = split_tag(element.tag)[0]
        if namespace in (XML, XMLNS) or _NOT_IN_NAMESPACE.search(namespace):
            raise InvalidRequest(f"The namespace {namespace!r} cannot be sent.")
        for text in (element.text, element.tail, *element.attrib.values()):
            if text and (found := _NOT_XML.search(text)):
                raise InvalidRequest(f"The character U+{ord(found[0]):04X} cannot be sent in XML.")


def stanza_error(stanza: Element) -> ServiceError:
    """Return the error that a stanza of the type error stands for (RFC 6120, 8.3).

    A condition of the application's own, such as `closed-node` (XEP-0060), goes before the text.
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
