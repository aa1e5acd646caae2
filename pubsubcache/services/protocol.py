"""The protocol for requests to a pubsub service.

An XMPP session of this process implements it (`pubsubcache.xmpp`), and so does the client of the worker that holds the
session (`pubsubcache.services.remote`).
"""

from typing import Protocol

from pubsubcache.types import Directory, ItemsRequest, NodeAddress, ServicePage, Subscription


class PubsubService(Protocol):
    """Requests to pubsub services on behalf of an account.

    Every method may raise:
        ServiceError: The service refused. The subclass depends on the error condition.
        ServiceUnreachable: The service cannot be reached, or did not answer in time.
        TooLarge: The answer exceeds a limit.
    """

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ServicePage:
        """Request items (XEP-0060, 6.5). The answer is neither reordered nor retried."""
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
        """Return the values of the node's metadata (XEP-0060, 5.4) by field name; empty if there is none."""
        ...

    async def get_subscriptions(self, address: NodeAddress) -> list[Subscription]:
        """List the account's subscriptions to a node (XEP-0060, 5.6)."""
        ...

    async def browse(self, service: str) -> Directory:
        """Return what a service lists about itself (XEP-0030, 3 and 4): the first entries, without paging."""
        ...
