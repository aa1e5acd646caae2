"""Sends requests to the worker that holds an account's session, over the channel layer.

A message requests one method of `PubsubService`. The answer is sent in pieces, because layers limit the size of a
message. A lost message costs time, never data: the caller times out after `RPC_TIMEOUT`.
"""

import asyncio
import json
import time
import uuid
from typing import Any, TypeVar

import msgspec
from asgiref.sync import async_to_sync
from cryptography.fernet import InvalidToken

from pubsubcache import exceptions
from pubsubcache.conf import settings
from pubsubcache.exceptions import InvalidRequest, PubsubCacheError, ServiceError, ServiceUnreachable, TooLarge
from pubsubcache.services.layer import get_channel_layer, leads_out
from pubsubcache.types import Directory, Item, ItemsRequest, NodeAddress, Rsm, ServicePage, Subscription
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

Answer = TypeVar("Answer")

WORKERS_GROUP = "pubsubcache-workers"
PIECE = 256 * 1024  # characters in one message
ANSWER_FACTOR = 4  # an answer is a stanza in JSON, where one byte may take three characters
# What layers raise for a message that was encrypted with another key, is damaged, or has another structure.
UNREADABLE = (InvalidToken, ValueError, TypeError, LookupError, AttributeError)
UNDECODABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)  # invalid JSON, or JSON of another structure
UNREADABLE_PAUSE = 0.005  # seconds; keeps a flood of unreadable messages from taking the whole processor
DROPPED_LOG_INTERVAL = 10.0
METHODS = frozenset(
    {"get_items", "get_item_ids", "get_node_metadata", "subscribe", "unsubscribe", "get_subscriptions", "browse"}
)
_ERRORS: dict[str, type[PubsubCacheError]] = {
    name: kind
    for name, kind in vars(exceptions).items()
    if isinstance(kind, type) and issubclass(kind, PubsubCacheError)
}


class _Dropped:
    """Counts dropped messages, and limits the rate at which they are logged."""

    def __init__(self) -> None:
        self._number = 0
        self._next_log = 0.0

    def add(self, reason: str) -> None:
        """Count a dropped message. `reason` completes the sentence "dropped because"."""
        self._number += 1
        if (now := time.monotonic()) >= self._next_log:
            logger.warning("Channel messages dropped: %d; the last because %s.", self._number, reason)
            self._number, self._next_log = 0, now + DROPPED_LOG_INTERVAL


dropped = _Dropped()


def reaches_workers() -> bool:
    """Whether the channel layer reaches other processes."""
    return leads_out(get_channel_layer())


def worker_channel(worker: str) -> str:
    """Return the channel of the worker named `worker`."""
    return f"{settings.CHANNEL}.{worker}"


async def awake() -> None:
    """Tell all workers to check for due work. Never raises: workers also check by themselves, only later."""
    layer = get_channel_layer()
    try:
        await layer.group_send(WORKERS_GROUP, {"type": "pubsub.wake"})
    except Exception as error:  # each layer has its own errors
        logger.warning("The workers could not be woken: %s", error)


def wake() -> None:
    """Tell all workers to check for due work: `awake` for synchronous code."""
    async_to_sync(awake)()


class RemoteService:
    """A `PubsubService` that sends its requests to the worker that holds the account's session."""

    def __init__(self, account_jid: str, worker: str) -> None:
        self.account_jid = account_jid
        self.worker = worker

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ServicePage:
        return (await self._ask("get_items", address, Page, encode_request(request))).opened()

    async def get_item_ids(self, address: NodeAddress) -> list[str]:
        return await self._ask("get_item_ids", address, list[str])

    async def get_node_metadata(self, address: NodeAddress) -> dict[str, tuple[str, ...]]:
        return await self._ask("get_node_metadata", address, dict[str, tuple[str, ...]])

    async def subscribe(self, address: NodeAddress) -> Subscription:
        return await self._ask("subscribe", address, Subscription)

    async def unsubscribe(self, address: NodeAddress, subid: str = "") -> None:
        await self._ask("unsubscribe", address, object, json.dumps(subid))

    async def get_subscriptions(self, address: NodeAddress) -> list[Subscription]:
        return await self._ask("get_subscriptions", address, list[Subscription])

    async def browse(self, service: str) -> Directory:
        return await self._ask("browse", NodeAddress(service, ""), Directory)

    async def _ask(self, method: str, address: NodeAddress, kind: type[Answer], argument: str = "null") -> Answer:
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
            "argument": argument,
        }
        try:
            async with asyncio.timeout(settings.RPC_TIMEOUT):
                await layer.send(worker_channel(self.worker), message)
                return decode_answer(await self._receive(layer, reply), kind)
        except TimeoutError:
            raise ServiceUnreachable(f"The worker that holds {self.account_jid} did not answer in time.") from None
        except PubsubCacheError:
            raise
        except Exception as error:  # ChannelFull, or the layer's connection
            raise ServiceUnreachable(f"The worker that holds {self.account_jid} cannot be reached: {error}") from error

    @staticmethod
    async def _receive(layer: Any, reply: str) -> str:
        """Receive an answer. Its pieces may arrive in any order. Raises `TooLarge`."""
        pieces: dict[int, str] = {}
        size, most = 0, ANSWER_FACTOR * settings.MAX_STANZA_SIZE
        while True:
            message = await receive(layer, reply)
            match message:
                case {"number": int(number), "of": int(of), "body": str(body)} if body and 0 <= number < of:
                    size += len(body)
                    pieces.setdefault(number, body)
                case _:
                    dropped.add("it is not a piece of an answer")
                    continue
            if size > most:
                raise TooLarge(f"The worker's answer is longer than {most} characters.")
            if len(pieces) == of:
                return "".join(pieces[number] for number in sorted(pieces))


async def receive(layer: Any, channel: str) -> dict[str, Any]:
    """Return the next message of `channel` that is readable and has a type, and drop any before it.

    Anyone with access to Redis can send arbitrary messages. Raises the errors of the layer if it cannot be reached.
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


async def send_answer(layer: Any, reply: str, text: str) -> None:
    """Send an answer to the calling process, in numbered pieces."""
    starts = range(0, max(len(text), 1), PIECE)
    for number, start in enumerate(starts):
        piece = {"type": "pubsub.answer", "number": number, "of": len(starts), "body": text[start : start + PIECE]}
        await layer.send(reply, piece)


def encode_request(request: ItemsRequest) -> str:
    """Return a request as JSON."""
    return _to_json(request)


def decode_request(argument: str) -> ItemsRequest:
    """Return the request that was encoded by `encode_request`. Raises `InvalidRequest`."""
    try:
        return msgspec.json.decode(argument, type=ItemsRequest)
    except UNDECODABLE as error:
        raise InvalidRequest(f"The request cannot be read: {str(error).rstrip('.'):.200}.") from error


def decode_subid(argument: str) -> str:
    """Return the id of a subscription from its JSON, or "" for null. Raises `InvalidRequest`."""
    try:
        return msgspec.json.decode(argument, type=str | None) or ""
    except UNDECODABLE as error:
        raise InvalidRequest(f"The subscription id cannot be read: {error!s:.200}.") from error


class Page(msgspec.Struct):
    """A `ServicePage` as it is sent.

    Attributes:
        items: The id, XML and publisher of each item.
        rsm: The paging information.
        left_out: Why items were left out, by id.
    """

    items: list[tuple[str, str, str | None]]
    rsm: Rsm | None
    left_out: dict[str, str] = {}

    @classmethod
    def of(cls, page: ServicePage) -> "Page":
        """Convert a `ServicePage`."""
        return cls(
            items=[(item.id, item.xml, item.publisher) for item in page.items],
            rsm=page.rsm,
            left_out={item.id: item.left_out for item in page.items if item.left_out},
        )

    def opened(self) -> ServicePage:
        """Convert back to a `ServicePage`."""
        items = [
            Item(id=item_id, xml=xml, publisher=publisher, left_out="" if xml else self.left_out.get(item_id, ""))
            for item_id, xml, publisher in self.items
        ]
        return ServicePage(items=items, rsm=self.rsm)


class _Answer(msgspec.Struct):
    """A partly decoded answer: its result is still JSON."""

    result: msgspec.Raw = msgspec.Raw()
    error: str = ""


class _Failure(msgspec.Struct):
    """An answer with an error, which the caller raises."""

    error: str
    arguments: list[str]


def encode_result(result: Any) -> str:
    """Return the answer to a successful request."""
    return _to_json({"result": Page.of(result) if isinstance(result, ServicePage) else result})


def encode_error(error: PubsubCacheError) -> str:
    """Return the answer that makes the caller raise `error`."""
    arguments = [error.condition, error.text] if isinstance(error, ServiceError) else [str(error)]
    return _to_json({"error": type(error).__name__, "arguments": arguments})


def _to_json(value: Any) -> str:
    return json.dumps(msgspec.to_builtins(value))  # ASCII, so a piece has as many bytes as characters


def decode_answer(text: str, kind: type[Answer]) -> Answer:
    """Return the result in an answer, or raise its error.

    Args:
        text: The answer.
        kind: The type of the result.

    Raises:
        PubsubCacheError: The error in the answer.
        ServiceUnreachable: The answer cannot be read, or its result has another type.
    """
    try:
        answer = msgspec.json.decode(text, type=_Answer)
        if not answer.error:
            return msgspec.json.decode(answer.result, type=kind)
        failure = msgspec.json.decode(text, type=_Failure)
        error = _ERRORS.get(failure.error, ServiceUnreachable)(*failure.arguments)
    except (*UNDECODABLE, TypeError) as unreadable:
        raise ServiceUnreachable(f"The worker's answer cannot be read: {unreadable!s:.200}.") from unreadable
    raise error
