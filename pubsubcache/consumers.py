"""The consumer of the workers' channels: requests of web processes, and calls to look at what is due.

Messages of a channel are handled one after another, so nothing here waits for the network: requests are
answered by tasks of their own.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from channels.consumer import AsyncConsumer
from channels.layers import get_channel_layer

from pubsubcache import rpc
from pubsubcache.exceptions import InvalidRequest, PubsubCacheError, ServiceUnreachable
from pubsubcache.service import sessions, wakers
from pubsubcache.types import NodeAddress, ServicePage, Subscription

logger = logging.getLogger(__name__)

_tasks: set[asyncio.Task[None]] = set()


class PubsubConsumer(AsyncConsumer):  # type: ignore[misc]
    """Answers for the sessions of this process. No message ends it: those that wait in its queue would be lost."""

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[dict[str, Any]]], send: Any) -> None:
        """Handle messages until cancelled; only the workers' channels lead here, no channel of its own."""
        while True:
            await self.dispatch(await receive())

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Handle a message; drop one of an unknown type or of another shape."""
        match message:
            case {"type": "pubsub.wake"}:
                await self.pubsub_wake(message)
            case {
                "type": "pubsub.request", "reply": str(), "account": str(), "method": str(), "service": str(),
                "node": str(), "argument": str(),
            }:  # fmt: skip
                await self.pubsub_request(message)
            case _:
                rpc.dropped.add("its type or its fields are unknown")

    async def pubsub_request(self, message: dict[str, Any]) -> None:
        """Start to answer a request of `rpc.RemoteService`."""
        task = asyncio.create_task(_answer(message))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    async def pubsub_wake(self, message: dict[str, Any]) -> None:
        """Have the worker look at what is due."""
        wakers.call()


async def _answer(message: dict[str, Any]) -> None:
    try:
        answer = {"result": await _perform(message)}
    except PubsubCacheError as error:
        answer = rpc.encode_error(error)
    except Exception:
        logger.exception("A request over the channel layer failed.")
        answer = rpc.encode_error(ServiceUnreachable("The worker failed to answer; its log says why."))
    try:
        await rpc.send_answer(get_channel_layer(), message["reply"], answer)
    except Exception as error:  # the asking process may be gone, the layer down or full
        logger.warning("An answer could not be sent: %s", error)


async def _perform(message: dict[str, Any]) -> Any:
    service = sessions.get(message["account"])
    if service is None:
        raise ServiceUnreachable(f"This worker has no session of {message['account']} (any more).")
    method = message["method"]
    if method not in rpc.METHODS:
        raise InvalidRequest(f"There is no request {method!r}.")
    address = NodeAddress(message["service"], message["node"])
    if method == "get_items":
        return _encode(await service.get_items(address, rpc.decode_request(message["argument"])))
    if method == "get_subscriptions":
        return _encode(await service.get_subscriptions(address.service, address.name or None))
    if method == "unsubscribe":
        return await service.unsubscribe(address, rpc.decode_subid(message["argument"]))
    return _encode(await getattr(service, method)(address))


def _encode(result: Any) -> Any:
    if isinstance(result, ServicePage):
        return rpc.encode_page(result)
    if isinstance(result, Subscription):
        return asdict(result)
    if isinstance(result, list):
        return [_encode(member) for member in result]
    return result
