"""Requests to the worker that holds an account's session, over the channel layer.

A message asks for one method of `PubsubService`; the answer comes in pieces, since a layer bounds a
message's size. A lost message costs time, never data: the caller gives up after `RPC_TIMEOUT`.
"""

import asyncio
import json
import uuid
from typing import Any

from asgiref.sync import async_to_sync
from channels.layers import InMemoryChannelLayer, get_channel_layer

from pubsubcache import exceptions
from pubsubcache.cleaning import get_logger
from pubsubcache.conf import settings
from pubsubcache.exceptions import PubsubCacheError, ServiceError, ServiceUnreachable
from pubsubcache.types import Item, ItemsRequest, NodeAddress, Rsm, ServicePage, Subscription

logger = get_logger(__name__)

WORKERS_GROUP = "pubsubcache-workers"
PIECE = 256 * 1024  # characters in one message
METHODS = frozenset(
    {
        "get_items", "get_item_ids", "get_node_metadata", "subscribe", "unsubscribe", "get_subscriptions",
    }
)  # fmt: skip


def reaches_workers() -> bool:
    """Whether the channel layer leads out of this process."""
    layer = get_channel_layer()
    return layer is not None and not isinstance(layer, InMemoryChannelLayer)


def worker_channel(worker: str) -> str:
    """Return the channel that only the worker `worker` listens on."""
    return f"{settings.CHANNEL}.{worker}"


async def awake() -> None:
    """Tell all workers to look at what is due. Never raises: they look by themselves, only later."""
    layer = get_channel_layer()
    try:
        await layer.group_send(WORKERS_GROUP, {"type": "pubsub.wake"})
    except Exception as error:  # the layer's own errors, whichever layer it is
        logger.warning("The workers could not be woken: %s", error)


def wake() -> None:
    """Tell all workers to look at what is due: `awake` for code that is not asynchronous."""
    async_to_sync(awake)()


class RemoteService:
    """The services that an account reaches through the worker that holds its session."""

    def __init__(self, account_jid: str, worker: str) -> None:
        self.account_jid = account_jid
        self.worker = worker

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ServicePage:
        """See `PubsubService`."""
        return decode_page(await self._ask("get_items", address, encode_request(request)))

    async def get_item_ids(self, address: NodeAddress) -> list[str]:
        """See `PubsubService`."""
        return [str(name) for name in await self._ask("get_item_ids", address)]

    async def get_node_metadata(self, address: NodeAddress) -> dict[str, tuple[str, ...]]:
        """See `PubsubService`."""
        answer = await self._ask("get_node_metadata", address)
        return {name: tuple(values) for name, values in answer.items()}

    async def subscribe(self, address: NodeAddress) -> Subscription:
        """See `PubsubService`."""
        return Subscription(**await self._ask("subscribe", address))

    async def unsubscribe(self, address: NodeAddress, subid: str = "") -> None:
        """See `PubsubService`."""
        await self._ask("unsubscribe", address, subid)

    async def get_subscriptions(self, service: str, node: str | None = None) -> list[Subscription]:
        """See `PubsubService`."""
        answer = await self._ask("get_subscriptions", NodeAddress(service, node or ""))
        return [Subscription(**subscription) for subscription in answer]

    async def _ask(self, method: str, address: NodeAddress, argument: Any = None) -> Any:
        if not reaches_workers():
            raise ServiceUnreachable(
                f"The session of {self.account_jid} is in another process, which an in-memory channel layer "
                "does not reach: set REDIS_URL."
            )
        layer = get_channel_layer()
        reply = await layer.new_channel()
        message = {
            "type": "pubsub.request",
            "id": uuid.uuid4().hex,
            "reply": reply,
            "account": self.account_jid,
            "method": method,
            "service": address.service,
            "node": address.name,
            "argument": json.dumps(argument),
        }
        try:
            async with asyncio.timeout(settings.RPC_TIMEOUT):
                await layer.send(worker_channel(self.worker), message)
                return decode_answer(await self._receive(layer, reply))
        except TimeoutError:
            raise ServiceUnreachable(f"The worker that holds {self.account_jid} did not answer in time.") from None
        except PubsubCacheError:
            raise
        except Exception as error:  # ChannelFull, or the layer's connection
            raise ServiceUnreachable(f"The worker that holds {self.account_jid} cannot be reached: {error}") from error

    @staticmethod
    async def _receive(layer: Any, reply: str) -> str:
        pieces: list[str] = []
        while True:
            message = await layer.receive(reply)
            pieces.append(message["body"])
            if message["last"]:
                return "".join(pieces)


async def send_answer(layer: Any, reply: str, answer: dict[str, Any]) -> None:
    """Send an answer back to the process that asked, in pieces."""
    text = json.dumps(answer)
    starts = range(0, max(len(text), 1), PIECE)
    for start in starts:
        piece = {"type": "pubsub.answer", "body": text[start : start + PIECE], "last": start == starts[-1]}
        await layer.send(reply, piece)


def encode_request(request: ItemsRequest) -> dict[str, Any]:
    """Return a request as JSON data."""
    rsm = request.rsm
    return {
        "item_ids": None if request.item_ids is None else list(request.item_ids),
        "max_items": request.max_items,
        "order_by": request.order_by,
        "rsm": None if rsm is None else _encode_rsm(rsm),
    }


def decode_request(data: dict[str, Any]) -> ItemsRequest:
    """Return the request that `encode_request` made `data` of."""
    ids = data["item_ids"]
    return ItemsRequest(
        item_ids=None if ids is None else tuple(ids),
        max_items=data["max_items"],
        order_by=data["order_by"],
        rsm=None if data["rsm"] is None else Rsm(**data["rsm"]),
    )


def _encode_rsm(rsm: Rsm) -> dict[str, Any]:
    return {name: getattr(rsm, name) for name in ("first", "last", "index", "count", "max", "after", "before")}


def encode_page(page: ServicePage) -> dict[str, Any]:
    """Return a service's answer as JSON data."""
    return {
        "items": [[item.id, item.xml, item.publisher] for item in page.items],
        "left_out": {item.id: item.left_out for item in page.items if item.left_out},
        "rsm": None if page.rsm is None else _encode_rsm(page.rsm),
    }


def decode_page(data: dict[str, Any]) -> ServicePage:
    """Return the service's answer that `encode_page` made `data` of."""
    left_out = data.get("left_out", {})  # a worker of an older version sends none
    return ServicePage(
        items=[
            Item(id=name, xml=xml, publisher=publisher, left_out="" if xml else left_out.get(name, ""))
            for name, xml, publisher in data["items"]
        ],
        rsm=None if data["rsm"] is None else Rsm(**data["rsm"]),
    )


def encode_error(error: PubsubCacheError) -> dict[str, Any]:
    """Return an error as the answer that makes the caller raise it."""
    arguments = [error.condition, error.text] if isinstance(error, ServiceError) else [str(error)]
    return {"error": type(error).__name__, "arguments": arguments}


def decode_answer(text: str) -> Any:
    """Return the result in an answer, or raise the error that it carries."""
    answer = json.loads(text)
    if "error" not in answer:
        return answer["result"]
    kind = getattr(exceptions, answer["error"], ServiceUnreachable)
    raise kind(*answer["arguments"])
