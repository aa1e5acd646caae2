"""Requests to the worker that holds an account's session, over the channel layer.

A message asks for one method of `PubsubService`; the answer comes in pieces, since a layer bounds a
message's size. A lost message costs time, never data: the caller gives up after `RPC_TIMEOUT`.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

from asgiref.sync import async_to_sync
from cryptography.fernet import InvalidToken

from pubsubcache import exceptions
from pubsubcache.conf import settings
from pubsubcache.exceptions import InvalidRequest, PubsubCacheError, ServiceError, ServiceUnreachable, TooLarge
from pubsubcache.services.layer import get_channel_layer, leads_out
from pubsubcache.types import Item, ItemsRequest, NodeAddress, Rsm, ServicePage, Subscription
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

Answer = TypeVar("Answer")

WORKERS_GROUP = "pubsubcache-workers"
PIECE = 256 * 1024  # characters in one message
ANSWER_FACTOR = 4  # an answer is a stanza in JSON, in which a byte may take three characters
# What a layer raises for a message that is no message: of another key, damaged, of another shape.
UNREADABLE = (InvalidToken, ValueError, TypeError, LookupError, AttributeError)
UNREADABLE_PAUSE = 0.005  # keeps a Redis that answers nothing but nonsense from taking the whole processor
DROPPED_LOG_INTERVAL = 10.0
METHODS = frozenset({"get_items", "get_item_ids", "get_node_metadata", "subscribe", "unsubscribe"})
_ERRORS: dict[str, type[PubsubCacheError]] = {
    name: kind
    for name, kind in vars(exceptions).items()
    if isinstance(kind, type) and issubclass(kind, PubsubCacheError)
}


class _Dropped:
    """Counts messages that were dropped, and logs them seldom: whoever can send one can send many."""

    def __init__(self) -> None:
        self._number = 0
        self._next_log = 0.0

    def add(self, reason: str) -> None:
        """Count a message that was dropped because of `reason`."""
        self._number += 1
        if (now := time.monotonic()) >= self._next_log:
            logger.warning("Channel messages dropped: %d; the last because %s.", self._number, reason)
            self._number, self._next_log = 0, now + DROPPED_LOG_INTERVAL


dropped = _Dropped()


def reaches_workers() -> bool:
    """Whether the channel layer leads out of this process."""
    return leads_out(get_channel_layer())


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
        return await self._ask("get_items", address, decode_page, encode_request(request))

    async def get_item_ids(self, address: NodeAddress) -> list[str]:
        """See `PubsubService`."""
        return await self._ask("get_item_ids", address, _texts)

    async def get_node_metadata(self, address: NodeAddress) -> dict[str, tuple[str, ...]]:
        """See `PubsubService`."""
        return await self._ask("get_node_metadata", address, _decode_metadata)

    async def subscribe(self, address: NodeAddress) -> Subscription:
        """See `PubsubService`."""
        return await self._ask("subscribe", address, _decode_subscription)

    async def unsubscribe(self, address: NodeAddress, subid: str = "") -> None:
        """See `PubsubService`."""
        await self._ask("unsubscribe", address, lambda _: None, subid)

    async def _ask(
        self, method: str, address: NodeAddress, decode: Callable[[Any], Answer], argument: Any = None
    ) -> Answer:
        if not reaches_workers():
            raise ServiceUnreachable(
                f"The session of {self.account_jid} is in another process, which an in-memory channel layer "
                "does not reach: configure channels_redis in CHANNEL_LAYERS (REDIS_URL)."
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
                return decode_answer(await self._receive(layer, reply), decode)
        except TimeoutError:
            raise ServiceUnreachable(f"The worker that holds {self.account_jid} did not answer in time.") from None
        except PubsubCacheError:
            raise
        except Exception as error:  # ChannelFull, or the layer's connection
            raise ServiceUnreachable(f"The worker that holds {self.account_jid} cannot be reached: {error}") from error

    @staticmethod
    async def _receive(layer: Any, reply: str) -> str:
        """Return an answer whose pieces arrive in any order. Raises `TooLarge`."""
        pieces: dict[int, str] = {}
        size, most = 0, ANSWER_FACTOR * settings.MAX_STANZA_SIZE
        while True:
            message = await receive(layer, reply)
            match message:
                case {"number": int(number), "of": int(of), "body": str(body)} if body and 0 <= number < of:
                    size += len(body)
                    pieces.setdefault(number, body)
                case _:
                    dropped.add("it is no piece of an answer")
                    continue
            if size > most:
                raise TooLarge(f"The worker's answer is longer than {most} characters.")
            if len(pieces) == of:
                return "".join(pieces[number] for number in sorted(pieces))


async def receive(layer: Any, channel: str) -> dict[str, Any]:
    """Return the next message of `channel` that can be read and has a type; drop those before.

    Whoever reaches Redis can put anything there. Raises what the layer raises when it cannot be reached.
    """
    while True:
        try:
            message = await layer.receive(channel)
        except UNREADABLE as error:
            dropped.add(f"it cannot be read ({type(error).__name__} {str(error)!r:.200})")
            await asyncio.sleep(UNREADABLE_PAUSE)
            continue
        if isinstance(message, dict) and isinstance(message.get("type"), str):
            return message
        dropped.add("it has no type")


async def send_answer(layer: Any, reply: str, answer: dict[str, Any]) -> None:
    """Send an answer back to the process that asked, in numbered pieces."""
    text = json.dumps(answer)
    starts = range(0, max(len(text), 1), PIECE)
    for number, start in enumerate(starts):
        piece = {"type": "pubsub.answer", "number": number, "of": len(starts), "body": text[start : start + PIECE]}
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


def decode_request(argument: str) -> ItemsRequest:
    """Return the request that `encode_request` made the JSON `argument` of. Raises `InvalidRequest`."""
    try:
        data = json.loads(argument)
        ids = data["item_ids"]
        return ItemsRequest(
            item_ids=None if ids is None else tuple(_texts(ids)),
            max_items=data["max_items"],
            order_by=data["order_by"],
            rsm=None if data["rsm"] is None else _decode_rsm(data["rsm"]),
        )
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"The request cannot be read: {error!s:.200}.") from error


def decode_subid(argument: str) -> str:
    """Return the id of a subscription that is the JSON `argument`, or "". Raises `InvalidRequest`."""
    try:
        return _text(json.loads(argument) or "")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest("The id of the subscription cannot be read.") from error


def _encode_rsm(rsm: Rsm) -> dict[str, Any]:
    return {name: getattr(rsm, name) for name in ("first", "last", "index", "count", "max", "after", "before")}


def encode_page(page: ServicePage) -> dict[str, Any]:
    """Return a service's answer as JSON data."""
    return {
        "items": [[item.id, item.xml, item.publisher] for item in page.items],
        "left_out": {item.id: item.left_out for item in page.items if item.left_out},
        "rsm": None if page.rsm is None else _encode_rsm(page.rsm),
    }


def decode_page(data: Any) -> ServicePage:
    """Return the service's answer that `encode_page` made `data` of. Raises as `decode_answer` expects."""
    left_out = data.get("left_out", {})  # a worker of an older version sends none
    items = [
        Item(
            id=_text(name),
            xml=_text(xml),
            publisher=_opt_text(publisher),
            left_out="" if xml else _text(left_out.get(name, "")),
        )
        for name, xml, publisher in _list(data["items"])
    ]
    return ServicePage(items=items, rsm=None if data["rsm"] is None else _decode_rsm(data["rsm"]))


def _decode_rsm(data: Any) -> Rsm:
    texts = {name: _opt_text(data[name]) for name in ("first", "last", "after", "before")}
    numbers = {name: _opt_number(data[name]) for name in ("index", "count", "max")}
    return Rsm(**texts, **numbers)  # type: ignore[arg-type]


def _decode_metadata(data: Any) -> dict[str, tuple[str, ...]]:
    return {_text(name): tuple(_texts(values)) for name, values in data.items()}


def _decode_subscription(data: Any) -> Subscription:
    return Subscription(**{_text(name): _text(value) for name, value in data.items()})


def _texts(data: Any) -> list[str]:
    return [_text(member) for member in _list(data)]


def _list(data: Any) -> list[Any]:
    if not isinstance(data, list):
        raise TypeError("not a list")
    return data


def _text(data: Any) -> str:
    if not isinstance(data, str):
        raise TypeError("not a text")
    return data


def _opt_text(data: Any) -> str | None:
    return None if data is None else _text(data)


def _opt_number(data: Any) -> int | None:
    if data is not None and type(data) is not int:
        raise TypeError("not a number")
    return data


def encode_error(error: PubsubCacheError) -> dict[str, Any]:
    """Return an error as the answer that makes the caller raise it."""
    arguments = [error.condition, error.text] if isinstance(error, ServiceError) else [str(error)]
    return {"error": type(error).__name__, "arguments": arguments}


def decode_answer(text: str, decode: Callable[[Any], Answer]) -> Answer:
    """Return the result in an answer, or raise the error that it carries.

    Args:
        text: The answer, as `send_answer` was given it, in JSON.
        decode: Makes the result of its JSON data; raises `LookupError`, `TypeError`, `ValueError` or
            `AttributeError` for data of another shape.

    Raises `ServiceUnreachable` when the answer cannot be read.
    """
    try:
        answer = json.loads(text)
        if "error" not in answer:
            return decode(answer["result"])
        error = _ERRORS.get(_text(answer["error"]), ServiceUnreachable)(*_texts(answer["arguments"]))
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as unreadable:
        raise ServiceUnreachable("The worker's answer cannot be read.") from unreadable
    raise error
