"""What we ask of a remote pubsub service, whoever asks it.

The protocol is spoken by an XMPP session of this process (`pubsubcache.xmpp`), and by the messenger to the worker that
holds the session (`pubsubcache.services.remote`).
"""

from typing import Protocol

from pubsubcache.types import ItemsRequest, NodeAddress, ServicePage, Subscription


class PubsubService(Protocol):
    """Requests to the services that an account reaches.

    Every method raises `ServiceError` (in its most telling class) when the service refuses, `ServiceUnreachable`
    when it cannot be asked or does not answer in time, and `TooLarge` when its answer is over a bound.
    """

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ServicePage:
        """Ask for items (XEP-0060, 6.5), as the service gives them: no reordering, no retry."""
        ...

    async def get_item_ids(self, address: NodeAddress) -> list[str]:
        """List the ids of a node's items (XEP-0060, 5.5), in the service's order."""
        ...

    async def subscribe(self, address: NodeAddress) -> Subscription:
        """Subscribe the account's bare JID (XEP-0060, 6.1)."""
        ...

    async def unsubscribe(self, address: NodeAddress, subid: str = "") -> None:
        """End the subscription of the account's bare JID (XEP-0060, 6.2)."""
        ...

    async def get_node_metadata(self, address: NodeAddress) -> dict[str, tuple[str, ...]]:
        """Return the values of the node's meta-data (XEP-0060, 5.4) by field name; empty when there is none."""
        ...
