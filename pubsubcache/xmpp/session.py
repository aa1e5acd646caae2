"""An account's session: kept open, or opened for a few requests.

A session speaks the protocol `pubsubcache.service.PubsubService`. It stays on the event loop that it was made in.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal
from xml.etree.ElementTree import Element

from slixmpp import InvalidJID

from pubsubcache.cleaning import get_logger
from pubsubcache.conf import settings
from pubsubcache.exceptions import AuthenticationFailed, ServiceUnreachable, UntrustedServer
from pubsubcache.jid import account
from pubsubcache.types import ItemsRequest, NodeAddress, PubsubEvent, ServicePage, Subscription
from pubsubcache.xmpp import pubsub
from pubsubcache.xmpp.client import Client, Login, StreamState
from pubsubcache.xmpp.forms import Fields
from pubsubcache.xmpp.notifications import parse_message

__all__ = ["Login", "Session", "SessionStatus", "open_session"]

logger = get_logger(__name__)

State = Literal["offline", "connecting", "online", "auth_failed", "error"]
STOP_TIMEOUT = 5.0
LOG_LEVELS = {"connecting": logging.DEBUG, "auth_failed": logging.WARNING, "error": logging.WARNING}
# Notifications are headlines, which go to every resource whose priority is not negative (RFC 6121, 8.5.2.1.1);
# any higher one would draw chats away from the account's other clients.
PRIORITY = 0


@dataclass(frozen=True)
class SessionStatus:
    """How a session is: `detail` says why in one sentence, `session_started` (UTC) since when it has missed nothing.

    `resumed`: it is online again on the stream that was lost, with all that came in between (XEP-0198).
    """

    state: State
    detail: str = ""
    session_started: datetime | None = None
    resumed: bool = False


class Session:
    """A session of `login`.

    `on_event` gets each notification and `on_status` each change of state, synchronously and in the order of the
    stream; neither may block. `is_shed` says of a sender and a node whether the items of its notifications need not be
    read. Without `presence` the server sends no notifications. Raises `InvalidRequest` when
    the login's JID is not that of an account.
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
        #: When the last session began that did not resume its stream (UTC).
        self.started_at: datetime | None = None
        self._on_event = on_event
        self._on_status = on_status
        self._is_shed = is_shed
        self._presence = presence
        self._client: Client | None = None
        self._stream: StreamState | None = None
        self._main: asyncio.Task[None] | None = None
        self._stopped = False
        self._finished: ServiceUnreachable | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def online(self) -> bool:
        """Whether requests can be sent."""
        return self._client is not None and self._client.online

    @property
    def silent(self) -> frozenset[str]:
        """The domains of services that are not asked at present, as they did not answer."""
        return frozenset() if self._client is None else self._client.requests.silent()

    async def run(self) -> None:
        """Keep the session open until `stop`: connect, and connect again with growing delays after any loss.

        Raises `AuthenticationFailed` when the server refuses the login, without trying again.
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
        """End the session and `run`, within 5 seconds. May be called at any time, and again."""
        first, self._stopped = not self._stopped, True
        if self._main is not None:
            if first:
                self._main.cancel()
            await asyncio.wait({self._main}, timeout=STOP_TIMEOUT)
        elif self._client is not None:
            await self._client.close()
        if self._client is not None:
            self._client.drop()

    async def wait_online(self, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Return when the session is online.

        Raises `ServiceUnreachable` after `timeout` seconds or when the session was stopped, and
        `AuthenticationFailed` when the login was refused.
        """
        if self.online:
            return
        if self._finished is not None:
            raise type(self._finished)(str(self._finished))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            async with asyncio.timeout(timeout):
                await future
        except TimeoutError as error:
            raise self._unreachable() from error
        finally:
            self._waiting.discard(future)

    # Keeping open

    async def _keep_open(self) -> None:
        delay = settings.RECONNECT_DELAY
        try:
            while True:
                began = asyncio.get_running_loop().time()
                try:
                    await self._connect()
                    await self._stay()
                except AuthenticationFailed as error:
                    self._finished = error
                    self._report("auth_failed", str(error))
                    raise
                except UntrustedServer as error:
                    delay = settings.RECONNECT_MAX_DELAY
                    self._report("error", str(error))
                except ServiceUnreachable as error:
                    # Only a session that lasted earns a quick return: one that ends at once would be a storm.
                    if asyncio.get_running_loop().time() - began > settings.RECONNECT_MAX_DELAY:
                        delay = settings.RECONNECT_DELAY
                    self._report("offline", str(error))
                except Exception:
                    logger.exception("The session of %s met an error of ours.", self.login.jid)
                    delay = settings.RECONNECT_MAX_DELAY
                    self._report("error", f"The session of {self.login.jid} met an error; the log has the details.")
                await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311
                delay = min(delay * 2, settings.RECONNECT_MAX_DELAY)
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
            raise AuthenticationFailed(f"{self.login.jid} cannot be the JID of an account.") from error
        await self._client.open()

    async def _stay(self) -> None:
        """Wait until the session is lost, and raise why as `ServiceUnreachable`."""
        client = self._online_client()
        await client.ended
        self._stream = client.state
        raise client.reason

    async def _finish(self) -> None:
        self._finished = self._finished or ServiceUnreachable(f"The session of {self.login.jid} was ended.")
        try:
            if self._client is not None:
                await self._client.close()
        finally:
            if self.status.state not in ("auth_failed", "offline"):
                self._report("offline", str(self._finished))
            self._wake(self._finished)

    def _wake(self, error: ServiceUnreachable | None) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_exception(type(error)(str(error))) if error else future.set_result(None)

    def _came_online(self, resumed: bool) -> None:
        client = self._online_client()
        if not resumed:
            self.started_at = datetime.now(UTC)
        if self._presence and (not resumed or (self._stream and self._stream.presence_unsure)):
            client.send_presence(pshow="xa", ppriority=PRIORITY)
        self._stream = None
        self._report("online", resumed=resumed)
        self._wake(None)

    def _got_message(self, message: Element) -> None:
        if self._on_event is None:
            return
        for event in parse_message(message, self.login.jid):
            try:
                self._on_event(event)
            except Exception:
                logger.exception("A notification for %s of node %s was lost.", self.login.jid, event.node)

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
            logger.exception("The state %s of %s was not taken note of.", state, self.login.jid)

    # Requests

    def _online_client(self) -> Client:
        """Return the client, which there is as long as the session is online. Raises `ServiceUnreachable`."""
        if self._client is None or not self._client.online:
            raise self._unreachable()
        return self._client

    def _unreachable(self) -> ServiceUnreachable:
        why = self.status.detail or f"{self.login.jid} has no session."
        return ServiceUnreachable(why)

    async def ask(self, kind: pubsub.IqType, to: str, payload: Element) -> Element:
        """Send an IQ and return the `<iq/>` that answers it.

        Raises `ServiceError` when the answer is an error, `ServiceUnreachable` at once without a session, when it
        is lost meanwhile, and after `IQ_TIMEOUT`.
        """
        return await self._online_client().requests.send(kind, to, payload)

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ServicePage:
        """Ask for items (XEP-0060, 6.5), as the service gives them: no reordering, no retry."""
        return await pubsub.get_items(self.ask, address, request)

    async def get_item_ids(self, address: NodeAddress) -> list[str]:
        """List the ids of a node's items (XEP-0060, 5.5), in the service's order."""
        return await pubsub.get_item_ids(self.ask, address)

    async def subscribe(self, address: NodeAddress) -> Subscription:
        """Subscribe the account's bare JID (XEP-0060, 6.1)."""
        return await pubsub.subscribe(self.ask, address, self.login.jid)

    async def unsubscribe(self, address: NodeAddress, subid: str = "") -> None:
        """End the subscription of the account's bare JID (XEP-0060, 6.2), if there is one."""
        await pubsub.unsubscribe(self.ask, address, self.login.jid, subid)

    async def get_subscriptions(self, service: str, node: str | None = None) -> list[Subscription]:
        """List the account's own subscriptions at a service, of one node or of all (XEP-0060, 5.6)."""
        return await pubsub.get_subscriptions(self.ask, service, node)

    async def get_features(self, service: str) -> frozenset[str]:
        """Return the features that a service says it has (XEP-0030, 3)."""
        return await pubsub.get_features(self.ask, service)

    async def get_node_metadata(self, address: NodeAddress) -> dict[str, tuple[str, ...]]:
        """Return the metadata of a node (XEP-0060, 5.4): values by field, such as `pubsub#access_model`."""
        return await pubsub.get_node_metadata(self.ask, address)

    async def publish(self, address: NodeAddress, payload: Element, item_id: str | None = None) -> str:
        """Publish an item (XEP-0060, 7.1) and return its id."""
        return await pubsub.publish(self.ask, address, payload, item_id)

    async def retract(self, address: NodeAddress, item_id: str, *, notify: bool = True) -> None:
        """Retract an item (XEP-0060, 7.2)."""
        await pubsub.retract(self.ask, address, item_id, notify=notify)

    async def create_node(self, address: NodeAddress, config: Fields | None = None) -> None:
        """Create a node (XEP-0060, 8.1), with configuration fields such as `pubsub#max_items` if given."""
        await pubsub.create_node(self.ask, address, config)

    async def configure(self, address: NodeAddress, fields: Fields) -> None:
        """Change fields of a node's configuration (XEP-0060, 8.2)."""
        await pubsub.configure(self.ask, address, fields)

    async def purge_node(self, address: NodeAddress) -> None:
        """Remove all items of a node (XEP-0060, 8.5)."""
        await pubsub.purge_node(self.ask, address)

    async def delete_node(self, address: NodeAddress) -> None:
        """Delete a node (XEP-0060, 8.4)."""
        await pubsub.delete_node(self.ask, address)


@contextlib.asynccontextmanager
async def open_session(login: Login) -> AsyncIterator[Session]:
    """Log in once, for a few requests; the server sends no notifications.

    Raises `AuthenticationFailed`, `UntrustedServer` or `ServiceUnreachable` within `CONNECT_TIMEOUT`.
    """
    session = Session(login, presence=False)
    try:
        await session._connect()
        yield session
    finally:
        await session.stop()
