"""slixmpp client for a single login at an XMPP server, with strict rules for TLS and authentication.

By default, slixmpp retries forever, offers a rejected password again with each mechanism, follows redirects before TLS,
and accepts every contact request. This client tries to log in once and reports a failure as one sentence.
"""

import asyncio
import base64
import os
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from slixmpp.exceptions import IqError, IqTimeout
from slixmpp.plugins.xep_0198.stream_management import MAX_SEQ
from slixmpp.stanza import Presence, StreamFeatures
from slixmpp.util.sasl.client import MECHANISMS, saslprep
from slixmpp.util.stringprep_profiles import StringPrepError
from slixmpp.xmlstream import StanzaBase
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from pubsubcache.conf import settings
from pubsubcache.exceptions import AuthenticationFailed, ServiceUnreachable, UntrustedServer
from pubsubcache.utils.cleaning import get_logger, one_line
from pubsubcache.utils.xmlform import PUBSUB_EVENT, split_tag
from pubsubcache.xmpp import tls
from pubsubcache.xmpp.requests import Requests
from pubsubcache.xmpp.stream import GuardedStream

logger = get_logger(__name__)

EVENT_ITEMS = f"{{{PUBSUB_EVENT}}}items"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
STREAMS = "urn:ietf:params:xml:ns:xmpp-streams"
KEEPALIVE_INTERVAL = 30.0  # seconds without a sign of the server before it is pinged
DIRECT_TLS_PORTS = (5223, 443)
MIN_SCRAM_ITERATIONS = 4096  # RFC 7677, section 4
MAX_SCRAM_ITERATIONS = 1_000_000  # take 2 seconds in slixmpp
CLOSE_TIMEOUT = 4.0

# Handlers of slixmpp that would store contacts, answer them, or follow a redirect.
_UNWANTED_HANDLERS = ("IM", "IMError", "Presence", "Roster Update", "Stream Error", "SASL Failure", "SASL Challenge")
_TEMPORARY = ("temporary-auth-failure", "aborted")


@dataclass(frozen=True)
class Login:
    """Credentials of an account and the address of its server.

    Attributes:
        jid: Bare JID of the account.
        password: Password of the account.
        host: Host name or address of the server; "" to look it up in DNS (SRV records).
        port: Port of the server, or None. Ports 5223 and 443 use direct TLS, all others STARTTLS.
        tls_verify: Whether the certificate must be valid for the domain of the JID.
        ca_file: PEM file with additional certificate authorities, or "".
    """

    jid: str
    password: str = field(repr=False)
    host: str = ""
    port: int | None = None
    tls_verify: bool = True
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class StreamState:
    """State that is needed to resume a stream (XEP-0198, 5).

    Attributes:
        id: Id of the stream.
        handled: Number of stanzas received on it.
        jid: Full JID.
        presence_unacknowledged: Whether the server may not have received the client's presence.
    """

    id: str
    handled: int
    jid: str
    presence_unacknowledged: bool


class Client(GuardedStream):
    """Client for a single login. It must be created inside the running event loop.

    The callbacks are called synchronously and in the order of the stream.

    Args:
        login: Credentials and server.
        on_online: Called with whether the stream `previous` was resumed (XEP-0198).
        on_message: Called with each message after that.
        on_lost: Called with the sender of each message that was skipped, so its content is unknown.
        previous: State of a lost stream to resume.
        is_shed: Tells by sender and node whether the items of a notification are skipped.
    """

    _run_out_filters = None  # slixmpp reads it even if the constructor failed

    def __init__(
        self,
        login: Login,
        on_online: Callable[[bool], None],
        on_message: Callable[[Element], None],
        on_lost: Callable[[str], None] = lambda sender: None,
        previous: StreamState | None = None,
        is_shed: Callable[[str, str], bool] = lambda sender, node: False,
    ) -> None:
        super().__init__(
            login.jid,
            login.password,
            plugin_config={"feature_mechanisms": {"use_mechs": _mechanisms(), "encrypted_plain": True}},
            ssl_context=tls.context(login.tls_verify, login.ca_file),
            loop=asyncio.get_running_loop(),
        )
        self.login = login
        self.online = False
        self._on_online = on_online
        self._on_message = on_message
        self._on_lost = on_lost
        self._is_shed = is_shed
        self._early: list[Element] = []
        self._previous = previous
        self._opened: asyncio.Future[None] = self.loop.create_future()
        self._negotiation: asyncio.Task[object] | None = None
        self._keepalive: asyncio.Task[None] | None = None
        self._error: ServiceUnreachable | None = None
        self._connect_error: object = None
        self._may_resume = True
        self.received_at = self.loop.time()
        #: Done when the session, or the attempt to open one, has ended.
        self.ended: asyncio.Future[None] = self.loop.create_future()
        self._configure()
        self.requests = Requests(self)

    def _configure(self) -> None:
        for name in _UNWANTED_HANDLERS:
            self.remove_handler(name)
        self.auto_authorize, self.auto_subscribe = None, False
        self.del_event_handler("session_start", self._start_keepalive)
        for plugin in ("xep_0030", "xep_0198", "xep_0199"):
            self.register_plugin(plugin)
        self.del_filter("in", self._management._handle_incoming)  # does not count stanzas that slixmpp cannot parse
        self._prepare_to_resume()
        self._handle("Stream error", f"{{{self.stream_ns}}}error", self._stream_error)
        self._handle("SASL failure", f"{{{SASL}}}failure", self._refused)
        self._handle("SASL challenge", f"{{{SASL}}}challenge", self._challenged)
        self._handle("Resumed", "{urn:xmpp:sm:3}resumed", self._resumed)
        self.add_event_handler("connection_failed", self._connect_failed)
        self.add_event_handler("ssl_invalid_chain", self._tls_failed)
        self.add_event_handler("stream_negotiated", self._negotiated)

    @property
    def _management(self) -> Any:
        return self.plugin["xep_0198"]

    def _prepare_to_resume(self) -> None:
        self.remove_handler("Stream Management Resumed")
        if self._previous is not None:
            manager = self._management
            manager.sm_id, manager.handled = self._previous.id, self._previous.handled

    def _handle(self, name: str, tag: str, function: Callable[[StanzaBase], None]) -> None:
        self.register_handler(Callback(name, MatchXPath(tag), function))

    # Connecting and disconnecting

    async def open(self) -> None:
        """Connect and log in, or resume the stream `previous`, within `CONNECT_TIMEOUT`.

        Raises:
            AuthenticationFailed: The server rejected the login, or offers no safe mechanism.
            UntrustedServer: TLS is missing, or the certificate is not trusted.
            ServiceUnreachable: The server cannot be reached, or did not open a session in time.
        """
        try:
            saslprep(self.login.password)
        except StringPrepError as error:
            raise AuthenticationFailed(
                f"The password of {self.login.jid} contains characters that are not allowed in passwords."
            ) from error
        self._connect()
        try:
            async with asyncio.timeout(settings.CONNECT_TIMEOUT):
                await asyncio.shield(self._opened)
        except TimeoutError as error:
            limit = f"{settings.CONNECT_TIMEOUT:g} seconds"
            raise ServiceUnreachable(f"Logging in as {self.login.jid} at {self.place} took over {limit}.") from error
        finally:
            if not self.online:
                self.drop()

    def _connect(self) -> None:
        host, port = self.login.host, self.login.port
        if host or port:
            port = port or self.default_port
            self.enable_direct_tls = port in DIRECT_TLS_PORTS
            self.enable_starttls = not self.enable_direct_tls
            attempt = self.connect(host or self.default_domain, port)
        else:
            attempt = self.connect()
        attempt.add_done_callback(self._attempted)

    def _attempted(self, attempt: "asyncio.Future[object]") -> None:
        if not attempt.cancelled() and (error := attempt.exception()) is not None:
            self.end(ServiceUnreachable(f"{self.place} cannot be reached for {self.login.jid}: {error}."))

    @property
    def place(self) -> str:
        """Address of the server for messages."""
        host, port = self.login.host or self.default_domain, self.login.port
        return f"{host}:{port}" if port else host

    @property
    def state(self) -> StreamState | None:
        """State to resume the stream after it was lost, or None if it cannot be resumed."""
        manager = self._management
        if not self._may_resume or not manager.sm_id:
            return None
        unacknowledged = any(isinstance(stanza, Presence) for _, stanza in manager.unacked_queue)
        return StreamState(manager.sm_id, manager.handled, self.boundjid.full, unacknowledged)

    async def close(self) -> None:
        """Close the stream, wait up to `CLOSE_TIMEOUT` for the server to close it too, and clean up."""
        try:
            if self.transport is not None:
                if self._management.enabled_in:
                    self._management.send_ack()
                self.online = False
                self.send_raw(self.stream_footer)
                await asyncio.wait({self.ended}, timeout=CLOSE_TIMEOUT)
        finally:
            self.drop()

    def drop(self) -> None:
        """Drop the connection at once and clean up, without closing the stream."""
        self.online = False
        self.cancel_connection_attempt()
        self.abort()
        self.transport = self.parser = None
        for task in (self._negotiation, self._keepalive, self._run_out_filters):
            if task is not None:
                task.cancel()
        self._ended()

    def abort(self) -> None:
        """Abort the transport."""
        if (transport := self.transport) is not None:
            transport.abort()

    def end(self, error: ServiceUnreachable) -> None:
        """Drop the connection and record `error` as the reason."""
        self._error = self._error or error
        self.drop()

    @property
    def reason(self) -> ServiceUnreachable:
        """The error that ended the session."""
        return self._error or ServiceUnreachable(f"The connection of {self.login.jid} to {self.place} was lost.")

    def _ended(self) -> None:
        self.online = False
        self._early.clear()
        self.requests.fail_all(self.reason)
        if not self._opened.done():
            self._opened.set_exception(self.reason)
            self._opened.exception()  # avoids a warning if nobody awaits the future
        if not self.ended.done():
            self.ended.set_result(None)

    async def _ping_when_silent(self) -> None:
        """Ping the server after `KEEPALIVE_INTERVAL` of silence, and drop the connection if it does not answer."""
        while self.online:
            silence = self.loop.time() - self.received_at
            if silence < KEEPALIVE_INTERVAL:
                await asyncio.sleep(KEEPALIVE_INTERVAL - silence)
                continue
            asked_at = self.loop.time()
            await self.requests.ping(self.default_domain)
            if self.received_at < asked_at:
                self.end(ServiceUnreachable(f"{self.place} no longer answers {self.login.jid}."))

    # Called by slixmpp

    def connection_lost(self, exception: BaseException | None) -> None:
        """Note that the connection is gone, after all that came before."""
        self.read_rest()
        if isinstance(exception, ssl.SSLError):
            self._tls_failed(exception)
        if self.transport is not None and self._error is None:
            detail = f" ({exception.strerror})" if isinstance(exception, OSError) and exception.strerror else ""
            self._error = ServiceUnreachable(f"The connection of {self.login.jid} to {self.place} was lost{detail}.")
        super().connection_lost(exception)
        self.drop()

    def reschedule_connection_attempt(self) -> None:
        """Fail after one attempt instead of rescheduling; the session decides when to retry."""
        self._current_connection_attempt = None
        error = self._connect_error
        if isinstance(error, ssl.SSLError):
            self._tls_failed(error)
        number = getattr(error, "errno", None) or 0
        detail = os.strerror(number) if number > 0 else "its name has no address"
        self.end(ServiceUnreachable(f"{self.place} cannot be reached for {self.login.jid}: {detail}."))

    def _connect_failed(self, error: object) -> None:
        # Keep an error about the certificate, which is more useful than that of the next address tried.
        if not isinstance(self._connect_error, ssl.SSLCertVerificationError):
            self._connect_error = error

    def _tls_failed(self, error: ssl.SSLError) -> None:
        name = self.default_domain
        if isinstance(error, ssl.SSLCertVerificationError):
            words = f"The certificate of {name} at {self.place} is not trusted: {tls.reason(error)}."
        else:
            words = f"TLS with {name} at {self.place} failed: {tls.reason(error)}."
        self.end(UntrustedServer(words))

    def is_hollow(self, stanza: Element, tag: str, attributes: dict[str, str]) -> bool:
        """Whether an element is the `<items/>` of a notification that is shed."""
        return tag == EVENT_ITEMS and self._is_shed(stanza.get("from") or self.login.jid, attributes.get("node", ""))

    def stanza_received(self) -> None:
        """Count a stanza as handled (XEP-0198, 4) if stream management is enabled."""
        manager = self._management
        if manager.enabled_in:
            manager.handled = (manager.handled + 1) % MAX_SEQ

    def stanza_skipped(self, stanza: Element, reason: str) -> None:
        """Report a skipped message as lost, or fail the request that a skipped stanza answers."""
        if split_tag(stanza.tag)[1] == "message":
            self._on_lost(stanza.get("from", ""))
        self.requests.skipped(stanza, reason)

    def stream_refused(self, condition: str, reason: str) -> None:
        """End the stream with a stream error. It is never resumed, because the server would resend the same data.

        Acknowledge the received stanzas first, so that the server does not deliver them to the next session.
        """
        if self._management.enabled_in:
            self._management.send_ack()
        self.send_raw(f"<stream:error><{condition} xmlns='{STREAMS}'/></stream:error>{self.stream_footer}")
        self._may_resume = False
        self.end(ServiceUnreachable(f"The stream of {self.login.jid} was ended: {reason}."))

    async def _handle_stream_features(self, features: StreamFeatures) -> bool | None:
        self._negotiation = asyncio.current_task()
        try:
            self._check_features(features)
            return await super()._handle_stream_features(features)
        except ServiceUnreachable as error:
            self.end(error)
        except (IqError, IqTimeout) as error:
            self.end(
                ServiceUnreachable(f"{self.place} did not open a session for {self.login.jid}: {error.condition}.")
            )
        finally:
            self._negotiation = None
        return None

    def _check_features(self, features: StreamFeatures) -> None:
        """Raise an error if the server offers neither TLS nor a safe mechanism to log in."""
        encrypted = self._encrypted
        if not encrypted and "starttls" not in features["features"]:
            raise UntrustedServer(f"{self.place} offers no TLS, so {self.login.jid} does not log in.")
        if not encrypted or self.authenticated:
            return
        offered = set(features["mechanisms"])
        if not offered & _mechanisms():
            names = ", ".join(sorted(offered)) or "nothing"
            advice = " (PUBSUBCACHE_ALLOW_PLAINTEXT_AUTH would allow PLAIN)" if "PLAIN" in offered else ""
            raise AuthenticationFailed(f"{self.place} offers {self.login.jid} no safe way to log in: {names}{advice}.")

    @property
    def _encrypted(self) -> bool:
        return self.transport is not None and self.transport.get_extra_info("ssl_object") is not None

    def _challenged(self, stanza: StanzaBase) -> None:
        """Answer a SASL challenge, unless its iteration count is unsafe or would block the process."""
        try:
            _check_iterations(base64.b64decode(stanza.xml.text or "").decode())
            sasl: Any = self.plugin["feature_mechanisms"]
            sasl._handle_challenge(stanza)
        except (ValueError, KeyError) as error:
            self.end(ServiceUnreachable(f"{self.place} sent {self.login.jid} an invalid login challenge: {error}."))

    def _refused(self, stanza: StanzaBase) -> None:
        condition = stanza["condition"] or "not-authorized"
        kind = ServiceUnreachable if condition in _TEMPORARY else AuthenticationFailed
        self.end(kind(f"{self.place} does not accept the login of {self.login.jid}: {condition}."))

    def _stream_error(self, stanza: StanzaBase) -> None:
        words = f"{self.place} ended the stream of {self.login.jid}: {stanza['condition']}"
        if text := str(stanza["text"] or "").strip()[:200]:
            words += f" ({text})"
        self._error = self._error or ServiceUnreachable(f"{words}.")

    def _negotiated(self, _: object) -> None:
        if self.bound and self._encrypted:
            self._come_online(resumed=False)

    def _resumed(self, stanza: StanzaBase) -> None:
        """Continue the previous stream. Its pending requests have already failed and are not sent again."""
        if self._previous is None or not self._encrypted:
            return
        manager = self._management
        manager.last_ack = stanza["h"]
        self.set_jid(self._previous.jid)
        self.session_bind_event.set()
        manager._handle_resumed(stanza)
        self._come_online(resumed=True)

    def _come_online(self, *, resumed: bool) -> None:
        if self._opened.done():
            return
        self.online = True
        self.requests.begin()
        self._keepalive = asyncio.create_task(self._ping_when_silent())
        self._opened.set_result(None)
        self._on_online(resumed)
        early, self._early = self._early, []
        for message in early:
            self._pass_on(message)

    def message_received(self, message: Element) -> None:
        """Pass a message on, once the session has begun."""
        if self.online:
            self._pass_on(message)
        elif self.bound and self._encrypted:
            self._early.append(message)

    def _pass_on(self, message: Element) -> None:
        try:
            self._on_message(message)
        except Exception:  # slixmpp would answer the sender
            sender = one_line(message.get("from", ""), 200)
            logger.exception("Skipped a message from %s to %s because handling it failed.", sender, self.login.jid)
            self._on_lost(message.get("from", ""))


def _check_iterations(challenge: str) -> None:
    """Raise `ValueError` if the iteration count of a SCRAM challenge is out of bounds.

    With few iterations, an attacker who impersonates the server can find the password from the client's proof (RFC
    5802, section 9).
    """
    counts = re.findall(r"(?:^|,)i=([^,]*)", challenge)
    if len(counts) > 1 or not all(re.fullmatch(r"[0-9]{1,20}", count) for count in counts):
        raise ValueError("no usable iteration count")
    for count in map(int, counts):
        if count < MIN_SCRAM_ITERATIONS:
            raise ValueError(f"too few iterations ({count}, at least {MIN_SCRAM_ITERATIONS} are safe)")
        if count > MAX_SCRAM_ITERATIONS:
            raise ValueError("too many iterations")


def _mechanisms() -> set[str]:
    """Return the SASL mechanisms that are allowed inside TLS."""
    names = {name for name in MECHANISMS if name.startswith("SCRAM-SHA")}
    return names | {"PLAIN"} if settings.ALLOW_PLAINTEXT_AUTH else names
