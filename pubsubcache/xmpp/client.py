"""One login at an XMPP server: how slixmpp is set up for it, and what may go wrong on the way in.

slixmpp by itself tries for ever, offers a refused password once for each mechanism, follows a server's advice to go
elsewhere before TLS, and accepts every contact request. Here a login is tried once, and fails with one sentence.
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

from pubsubcache.cleaning import get_logger, one_line
from pubsubcache.conf import settings
from pubsubcache.exceptions import AuthenticationFailed, ServiceUnreachable, UntrustedServer
from pubsubcache.xmlform import PUBSUB_EVENT, split_tag
from pubsubcache.xmpp import tls
from pubsubcache.xmpp.requests import Requests
from pubsubcache.xmpp.stream import GuardedStream

logger = get_logger(__name__)

EVENT_ITEMS = f"{{{PUBSUB_EVENT}}}items"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
STREAMS = "urn:ietf:params:xml:ns:xmpp-streams"
DIRECT_TLS_PORTS = (5223, 443)
MIN_SCRAM_ITERATIONS = 4096  # RFC 7677, section 4
MAX_SCRAM_ITERATIONS = 1_000_000  # slixmpp's own loop takes 2 seconds for so many
CLOSE_TIMEOUT = 4.0

# slixmpp's handlers that would keep state of contacts, answer them, or follow a redirection.
_UNWANTED_HANDLERS = ("IM", "IMError", "Presence", "Roster Update", "Stream Error", "SASL Failure", "SASL Challenge")
_TEMPORARY = ("temporary-auth-failure", "aborted")


@dataclass(frozen=True)
class Login:
    """Who logs in where: the account's bare JID, and where its server is unless DNS is to say (SRV records).

    With `port` 5223 or 443 TLS begins at once, otherwise by STARTTLS. The certificate is to be that of the JID's
    domain, signed by an authority of the system or of `ca_file` (PEM).
    """

    jid: str
    password: str = field(repr=False)
    host: str = ""
    port: int | None = None
    tls_verify: bool = True
    ca_file: str = ""


@dataclass(frozen=True, slots=True)
class StreamState:
    """What is needed to resume a stream (XEP-0198, 5): its id, the stanzas received on it, and the full JID.

    `presence_unsure`: the server may not have got our presence.
    """

    id: str
    handled: int
    jid: str
    presence_unsure: bool


class Client(GuardedStream):
    """A client for one login of `login`, to be made inside the running event loop.

    `on_online` is called with whether the stream `previous` was resumed (XEP-0198), `on_message` with each message
    after that, both synchronously and in the order of the stream. `on_lost` is called with the sender of each message
    that was skipped: what it said is unknown. The items of a notification are not read where `is_shed` says so of its
    sender and its node.
    """

    _run_out_filters = None  # slixmpp looks at it even when the client could not be made

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
        #: Done when the session or the attempt to get one has ended.
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
        self.del_filter("in", self._management._handle_incoming)  # it misses stanzas that slixmpp fails to build
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

    # Coming and going

    async def open(self) -> None:
        """Connect and log in, or resume the stream `previous`.

        Raises `AuthenticationFailed`, `UntrustedServer` or `ServiceUnreachable`, within `CONNECT_TIMEOUT`.
        """
        try:
            saslprep(self.login.password)
        except StringPrepError as error:
            raise AuthenticationFailed(
                f"The password of {self.login.jid} has characters that none can have."
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
        """Where the server is, for people."""
        host, port = self.login.host or self.default_domain, self.login.port
        return f"{host}:{port}" if port else host

    @property
    def state(self) -> StreamState | None:
        """What is needed to resume the stream, once it is lost; None when it cannot be resumed."""
        manager = self._management
        if not self._may_resume or not manager.sm_id:
            return None
        unsure = any(isinstance(stanza, Presence) for _, stanza in manager.unacked_queue)
        return StreamState(manager.sm_id, manager.handled, self.boundjid.full, unsure)

    async def close(self) -> None:
        """End the stream, with a few seconds for the server to agree, and leave nothing behind."""
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
        """End the connection at once, as if it was cut."""
        self.online = False
        self.cancel_connection_attempt()
        self.abort()
        self.transport = self.parser = None
        for task in (self._negotiation, self._keepalive, self._run_out_filters):
            if task is not None:
                task.cancel()
        self._ended()

    def abort(self) -> None:
        """Cut the connection."""
        if (transport := self.transport) is not None:
            transport.abort()

    def end(self, error: ServiceUnreachable) -> None:
        """End the connection because of `error`."""
        self._error = self._error or error
        self.drop()

    @property
    def reason(self) -> ServiceUnreachable:
        """Why the session ended."""
        return self._error or ServiceUnreachable(f"The connection of {self.login.jid} to {self.place} was lost.")

    def _ended(self) -> None:
        self.online = False
        self._early.clear()
        self.requests.fail_all(self.reason)
        if not self._opened.done():
            self._opened.set_exception(self.reason)
            self._opened.exception()  # nobody waits for it when the attempt was given up
        if not self.ended.done():
            self.ended.set_result(None)

    async def _ping_when_silent(self) -> None:
        """Ping the server when nothing came for a while, and cut the connection when nothing comes then either."""
        while self.online:
            silence = self.loop.time() - self.received_at
            if silence < settings.KEEPALIVE_INTERVAL:
                await asyncio.sleep(settings.KEEPALIVE_INTERVAL - silence)
                continue
            asked_at = self.loop.time()
            await self.requests.ping(self.default_domain)
            if self.received_at < asked_at:
                self.end(ServiceUnreachable(f"{self.place} no longer answers {self.login.jid}."))

    # What slixmpp calls

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
        """Give up after one attempt: when to try again is for the session to say."""
        self._current_connection_attempt = None
        error = self._connect_error
        if isinstance(error, ssl.SSLError):
            self._tls_failed(error)
        number = getattr(error, "errno", None) or 0
        detail = os.strerror(number) if number > 0 else "its name has no address"
        self.end(ServiceUnreachable(f"{self.place} cannot be reached for {self.login.jid}: {detail}."))

    def _connect_failed(self, error: object) -> None:
        # A certificate that is not trusted tells more than the address that was tried after it.
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
        """Count a stanza as handled (XEP-0198, 4), once stream management is on."""
        manager = self._management
        if manager.enabled_in:
            manager.handled = (manager.handled + 1) % MAX_SEQ

    def stanza_skipped(self, stanza: Element, reason: str) -> None:
        """Fail the request that a skipped stanza answers, or report the message."""
        if split_tag(stanza.tag)[1] == "message":
            self._on_lost(stanza.get("from", ""))
        self.requests.skipped(stanza, reason)

    def stream_refused(self, condition: str, reason: str) -> None:
        """End the stream with a stream error, never to be resumed: the same would come again.

        What has come is acknowledged first, so that the server does not deliver it to the next session either.
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
            self.end(ServiceUnreachable(f"{self.place} gave {self.login.jid} no session: {error.condition}."))
        finally:
            self._negotiation = None
        return None

    def _check_features(self, features: StreamFeatures) -> None:
        """Raise when the server offers no TLS, or no way to log in that is safe enough."""
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
        """Answer a challenge of SASL, unless its iteration count stops the process or gives the password away."""
        try:
            _check_iterations(base64.b64decode(stanza.xml.text or "").decode())
            sasl: Any = self.plugin["feature_mechanisms"]
            sasl._handle_challenge(stanza)
        except (ValueError, KeyError) as error:
            self.end(ServiceUnreachable(f"{self.place} sent {self.login.jid} a login challenge of no use: {error}."))

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
        """Go on with the old stream. Requests of before it broke have failed already, and are not sent again."""
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
            logger.exception("A message from %s to %s was skipped, as handling it failed.", sender, self.login.jid)
            self._on_lost(message.get("from", ""))


def _check_iterations(challenge: str) -> None:
    """Raise `ValueError` unless the iteration count of a SCRAM challenge, if it has one, is within our bounds.

    With few iterations, whoever poses as the server soon finds the password from the proof (RFC 5802, section 9).
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
    """Return the SASL mechanisms that may be used inside TLS."""
    names = {name for name in MECHANISMS if name.startswith("SCRAM-SHA")}
    return names | {"PLAIN"} if settings.ALLOW_PLAINTEXT_AUTH else names
