"""Sends the cache's requests over the existing session of a slixmpp client."""

import asyncio
from contextvars import ContextVar
from xml.etree.ElementTree import Element

from slixmpp import JID, ClientXMPP, Iq
from slixmpp.exceptions import IqError, IqTimeout

from pubsubcache.conf import settings
from pubsubcache.exceptions import ServiceUnreachable
from pubsubcache.types import Directory, ItemsRequest, NodeAddress, ServicePage, Subscription
from pubsubcache.xmpp import pubsub
from pubsubcache.xmpp.requests import stanza_error

#: Timeout of a request in seconds; None for `IQ_TIMEOUT`. Each read sets its own.
request_timeout: ContextVar[float | None] = ContextVar("request_timeout", default=None)


class ClientService:
    """Implements `PubsubService` for the account of a slixmpp client.

    Errors have the exception of slixmpp as their `__cause__`.
    """

    def __init__(self, client: ClientXMPP) -> None:
        self._client = client
        self.online: bool = client.session_bind_event.is_set()
        for event in ("session_start", "session_resumed"):
            client.add_event_handler(event, self._came_online)
        client.add_event_handler("disconnected", self._went_offline)

    def close(self) -> None:
        """Remove the event handlers from the client."""
        self.online = False
        for event in ("session_start", "session_resumed"):
            self._client.del_event_handler(event, self._came_online)
        self._client.del_event_handler("disconnected", self._went_offline)

    def _came_online(self, event: object) -> None:
        self.online = True

    def _went_offline(self, event: object) -> None:
        self.online = False

    async def ask(self, kind: pubsub.IqType, to: str, payload: Element) -> Element:
        """Send an IQ and wait for the answer.

        Returns:
            The `<iq/>` of the answer.

        Raises:
            ServiceError: The answer is an error.
            ServiceUnreachable: There is no session, it was lost, or there was no answer within `request_timeout`.
        """
        if not self.online:
            raise ServiceUnreachable(f"{self._client.boundjid.bare} has no session.")
        iq = self._client.Iq(stype=kind, sto=JID(to))
        iq.append(payload)
        if (timeout := request_timeout.get()) is None:
            timeout = settings.IQ_TIMEOUT
        try:
            answer = await self._unless_lost(iq.send(timeout=timeout))  # type: ignore[no-untyped-call]
        except IqError as error:
            raise stanza_error(error.iq.xml) from error
        except IqTimeout as error:
            raise ServiceUnreachable(f"{to} did not answer in time.") from error
        return answer.xml

    async def _unless_lost(self, future: "asyncio.Future[Iq]") -> Iq:
        """Return the result of `future`. Raises `ServiceUnreachable` if the connection is lost first."""
        await asyncio.wait({future, self._client.disconnected}, return_when=asyncio.FIRST_COMPLETED)
        if not future.done():
            future.cancel()
            raise ServiceUnreachable(f"The session of {self._client.boundjid.bare} was lost.")
        return future.result()

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ServicePage:
        return await pubsub.get_items(self.ask, address, request)

    async def get_item_ids(self, address: NodeAddress) -> list[str]:
        return await pubsub.get_item_ids(self.ask, address)

    async def subscribe(self, address: NodeAddress) -> Subscription:
        return await pubsub.subscribe(self.ask, address, self._client.boundjid.bare)

    async def unsubscribe(self, address: NodeAddress, subid: str = "") -> None:
        await pubsub.unsubscribe(self.ask, address, self._client.boundjid.bare, subid)

    async def get_node_metadata(self, address: NodeAddress) -> dict[str, tuple[str, ...]]:
        return await pubsub.get_node_metadata(self.ask, address)

    async def get_subscriptions(self, address: NodeAddress) -> list[Subscription]:
        return await pubsub.get_subscriptions(self.ask, address)

    async def browse(self, service: str) -> Directory:
        return await pubsub.browse(self.ask, service)
