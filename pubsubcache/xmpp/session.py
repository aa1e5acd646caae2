"""XMPP session of an account, kept open by a worker or opened for a few requests.

`Session` implements the protocol `pubsubcache.services.protocol.PubsubService`. It is bound to the event loop in which
it was created.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal
from xml.etree.ElementTree import Element

from slixmpp import InvalidJID

from pubsubcache.conf import settings
from pubsubcache.exceptions import AuthenticationFailed, ServiceUnreachable, UntrustedServer
from pubsubcache.types import Directory, ItemsRequest, NodeAddress, PubsubEvent, ServicePage, Subscription
from pubsubcache.utils import backoff
from pubsubcache.utils.cleaning import get_logger
from pubsubcache.utils.jid import account
from pubsubcache.xmpp import pubsub
from pubsubcache.xmpp.client import Client, Login, StreamState
from pubsubcache.xmpp.forms import Fields
from pubsubcache.xmpp.notifications import parse_message

__all__ = ["Login", "Session", "SessionStatus", "open_session"]

logger = get_logger(__name__)

State = Literal["offline", "connecting", "online", "auth_failed", "error"]
STOP_TIMEOUT = 5.0
RECONNECT_DELAY = 1.0  # seconds before a lost session is opened again; doubles each time
LOG_LEVELS = {"connecting": logging.DEBUG, "auth_failed": logging.WARNING, "error": logging.WARNING}
# Notifications are headlines, which go to all resources with a non-negative priority (RFC 6121, 8.5.2.1.1). A higher
# priority would divert chat messages from the other clients of the account.
PRIORITY = 0


@dataclass(frozen=True)
class SessionStatus:
    """State of a session.

    Attributes:
        state: The state.
        detail: The reason as one sentence, or "".
        session_started: Start of the current session (UTC), since when it has not missed any notifications.
        resumed: Whether the session resumed a lost stream, including the stanzas sent meanwhile (XEP-0198).
    """

    state: State
    detail: str = ""
    session_started: datetime | None = None
    resumed: bool = False


class Session:
    """An XMPP session of an account.

    The callbacks are called synchronously and in the order of the stream. They must not block.

    Args:
        login: Credentials and server.
        on_event: Called with each notification.
        on_status: Called with each change of state.
        is_shed: Tells by sender and node whether the items of a notification may be skipped.
        presence: Whether to send presence. Without it, the server sends no notifications.

    Raises:
        InvalidRequest: The JID of the login is not that of an account.
    """

    def __init__(
        self,
        login: Login,
        *,
        on_event: Callable[[PubsubEvent], None] | None = None,
        on_status: Callable[[SessionStatus], None] | None = None,
        is_shed: Callable[[str, str], bool] = lambda sender, node: False,
        presence: bool = True,
    ) -> None:
        self.login = replace(login, jid=account(login.jid))
        self.status = SessionStatus("offline")
        #: Start of the last session that did not resume a stream (UTC).
        self.started_at: datetime | None = None
        self._on_event = on_event
        self._on_status = on_status
        self._is_shed = is_shed
        self._presence = presence
        self._client: Client | None = None
        self._stream: StreamState | None = None
        self._main: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def online(self) -> bool:
        """Whether requests can be sent."""
        return self._client is not None and self._client.online

    @property
    def silent(self) -> frozenset[str]:
        """Domains to which no requests are sent at present, because they did not answer."""
        return frozenset() if self._client is None else self._client.requests.silent()

    async def run(self) -> None:
        """Keep the session open until `stop`; reconnect with growing delays when the connection is lost.

        Raises:
            AuthenticationFailed: The server rejected the login, which is not retried.
        """
        if self._stopped:
            return
        self._main = asyncio.create_task(self._keep_open())
        try:
            await asyncio.wait({self._main})
        except asyncio.CancelledError:
            await self.stop()
            raise
        if not self._main.cancelled():
            self._main.result()

    async def stop(self) -> None:
        """End the session and `run`, within `STOP_TIMEOUT`. May be called at any time, also repeatedly."""
        first, self._stopped = not self._stopped, True
        if self._main is not None:
            if first:
                self._main.cancel()
            await asyncio.wait({self._main}, timeout=STOP_TIMEOUT)
        elif self._client is not None:
            await self._client.close()
        if self._client is not None:
            self._client.drop()

    # Keeping the session open

    async def _keep_open(self) -> None:
        failures = 0
        try:
            while True:
                began = asyncio.get_running_loop().time()
                try:
                    await self._connect()
                    await self._stay()
                except AuthenticationFailed as error:
                    self._report("auth_failed", str(error))
                    raise
                except UntrustedServer as error:
                    failures = backoff.LONGEST_AFTER
                    self._report("error", str(error))
                except ServiceUnreachable as error:
                    # Reset the delay only after a session that lasted, to avoid rapid reconnects.
                    if asyncio.get_running_loop().time() - began > settings.RECONNECT_MAX_DELAY:
                        failures = 0
                    self._report("offline", str(error))
                except Exception:
                    logger.exception("Internal error in the session of %s.", self.login.jid)
                    failures = backoff.LONGEST_AFTER
                    self._report(
                        "error", f"Internal error in the session of {self.login.jid}; see the log for details."
                    )
                failures += 1
                first, most = RECONNECT_DELAY, settings.RECONNECT_MAX_DELAY
                await asyncio.sleep(backoff.delay(failures, first, most, spread=0.5))
        finally:
            await self._finish()

    async def _connect(self) -> None:
        self._report("connecting")
        try:
            self._client = Client(
                self.login,
                self._came_online,
                self._got_message,
                on_lost=self._lost_message,
                previous=self._stream,
                is_shed=self._is_shed,
            )
        except InvalidJID as error:
            raise AuthenticationFailed(f"{self.login.jid} is not a valid JID of an account.") from error
        await self._client.open()

    async def _stay(self) -> None:
        """Wait until the session is lost, and raise the reason as `ServiceUnreachable`."""
        client = self._online_client()
        await client.ended
        self._stream = client.state
        raise client.reason

    async def _finish(self) -> None:
        try:
            if self._client is not None:
                await self._client.close()
        finally:
            if self.status.state not in ("auth_failed", "offline"):
                self._report("offline", f"The session of {self.login.jid} was ended.")

    def _came_online(self, resumed: bool) -> None:
        client = self._online_client()
        if not resumed:
            self.started_at = datetime.now(UTC)
        if self._presence and (not resumed or (self._stream and self._stream.presence_unacknowledged)):
            client.send_presence(pshow="xa", ppriority=PRIORITY)
        self._stream = None
        self._report("online", resumed=resumed)

    def _got_message(self, message: Element) -> None:
        if self._on_event is None:
            return
        for event in parse_message(message, self.login.jid):
            try:
                self._on_event(event)
            except Exception:
                logger.exception("Lost a notification for %s from node %s.", self.login.jid, event.node)

    def _lost_message(self, sender: str) -> None:
        if self._on_event is not None:
            self._on_event(PubsubEvent(sender=sender or self.login.jid, node="", kind="lost"))

    def _report(self, state: State, detail: str = "", *, resumed: bool = False) -> None:
        self.status = status = SessionStatus(state, detail, self.started_at, resumed)
        words = detail or f"{self.login.jid} is {'online again' if resumed else state}."
        logger.log(LOG_LEVELS.get(state, logging.INFO), "%s", words)
        if self._on_status is None:
            return
        try:
            self._on_status(status)
        except Exception:
            logger.exception("Failed to report the state %s of %s.", state, self.login.jid)

    # Requests

    def _online_client(self) -> Client:
        """Return the client of the online session. Raises `ServiceUnreachable` if it is not online."""
        if self._client is None or not self._client.online:
            raise self._unreachable()
        return self._client

    def _unreachable(self) -> ServiceUnreachable:
        reason = self.status.detail or f"{self.login.jid} has no session."
        return ServiceUnreachable(reason)

    async def ask(self, kind: pubsub.IqType, to: str, payload: Element) -> Element:
        """Send an IQ and wait for the answer.

        Returns:
            The `<iq/>` of the answer.

        Raises:
            ServiceError: The answer is an error.
            ServiceUnreachable: There is no session, it was lost, or there was no answer within `IQ_TIMEOUT`.
        """
        return await self._online_client().requests.send(kind, to, payload)

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ServicePage:
        """Request items (XEP-0060, 6.5) and return them in the order of the service, without retries."""
        return await pubsub.get_items(self.ask, address, request)

    async def get_item_ids(self, address: NodeAddress) -> list[str]:
        """List the ids of all items of a node (XEP-0060, 5.5), in the order of the service."""
        return await pubsub.get_item_ids(self.ask, address)

    async def subscribe(self, address: NodeAddress) -> Subscription:
        """Subscribe the bare JID of the account (XEP-0060, 6.1)."""
        return await pubsub.subscribe(self.ask, address, self.login.jid)

    async def unsubscribe(self, address: NodeAddress, subid: str = "") -> None:
        """Unsubscribe the bare JID of the account (XEP-0060, 6.2), if it is subscribed."""
        await pubsub.unsubscribe(self.ask, address, self.login.jid, subid)

    async def get_subscriptions(self, address: NodeAddress) -> list[Subscription]:
        """List the subscriptions of the account to a node (XEP-0060, 5.6)."""
        return await pubsub.get_subscriptions(self.ask, address)

    async def browse(self, service: str) -> Directory:
        """Return what a service lists about itself (XEP-0030, 3 and 4)."""
        return await pubsub.browse(self.ask, service)

    async def get_features(self, service: str) -> frozenset[str]:
        """Return the features of a service (XEP-0030, 3)."""
        return await pubsub.get_features(self.ask, service)

    async def get_node_metadata(self, address: NodeAddress) -> dict[str, tuple[str, ...]]:
        """Return the metadata of a node (XEP-0060, 5.4): values by field name, such as `pubsub#access_model`."""
        return await pubsub.get_node_metadata(self.ask, address)

    async def publish(self, address: NodeAddress, payload: Element, item_id: str | None = None) -> str:
        """Publish an item (XEP-0060, 7.1) and return its id."""
        return await pubsub.publish(self.ask, address, payload, item_id)

    async def retract(self, address: NodeAddress, item_id: str, *, notify: bool = True) -> None:
        """Retract an item (XEP-0060, 7.2)."""
        await pubsub.retract(self.ask, address, item_id, notify=notify)

    async def create_node(self, address: NodeAddress, config: Fields | None = None) -> None:
        """Create a node (XEP-0060, 8.1), optionally with configuration fields such as `pubsub#max_items`."""
        await pubsub.create_node(self.ask, address, config)

    async def configure(self, address: NodeAddress, fields: Fields) -> None:
        """Change configuration fields of a node (XEP-0060, 8.2)."""
        await pubsub.configure(self.ask, address, fields)

    async def purge_node(self, address: NodeAddress) -> None:
        """Remove all items of a node (XEP-0060, 8.5)."""
        await pubsub.purge_node(self.ask, address)

    async def delete_node(self, address: NodeAddress) -> None:
        """Delete a node (XEP-0060, 8.4)."""
        await pubsub.delete_node(self.ask, address)


@contextlib.asynccontextmanager
async def open_session(login: Login) -> AsyncIterator[Session]:
    """Open a session for the duration of an `async with` block, without notifications.

    Raises:
        AuthenticationFailed: The server rejected the login.
        UntrustedServer: TLS is missing, or the certificate is not trusted.
        ServiceUnreachable: The server cannot be reached, or did not open a session within `CONNECT_TIMEOUT`.
    """
    session = Session(login, presence=False)
    try:
        await session._connect()
        yield session
    finally:
        await session.stop()
