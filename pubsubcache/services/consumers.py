"""The consumer of the workers' channels: handles requests from other processes, and wake-up calls.

Messages of a channel are handled one after another, so the consumer never waits for the network. Each request is
answered by its own task; the number of tasks is limited, in total and for each service.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from channels.consumer import AsyncConsumer

from pubsubcache.conf import settings
from pubsubcache.exceptions import InvalidRequest, PubsubCacheError, ServiceUnreachable
from pubsubcache.services import remote
from pubsubcache.services.layer import get_channel_layer
from pubsubcache.services.sessions import sessions, wakers
from pubsubcache.types import NodeAddress
from pubsubcache.utils import jid
from pubsubcache.utils.bounds import deadline
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

MAX_REQUESTS = 500  # in progress in one process
MAX_REQUESTS_OF_SERVICE = 100


class _Desk:
    """The requests in progress in this process.

    One service of an account gets at most `MAX_REQUESTS_OF_SERVICE` of them, and at most a quarter of those still free,
    so there is always room for other services.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._answering: Counter[tuple[str, str]] = Counter()
        self._refusing = 0

    def take(self, message: dict[str, Any]) -> None:
        """Start to answer a request, or to refuse it. Does not block.

        If too many refusals are in progress, the request is dropped; its caller times out.
        """
        key = (str(message.get("account")), jid.domain(str(message.get("service"))))
        free = MAX_REQUESTS - self._answering.total()
        if self._answering[key] < min(MAX_REQUESTS_OF_SERVICE, free // 4 + 1) and free > 0:
            self._answering[key] += 1
            self._start(_answer(message), lambda: self._answered(key))
            return
        if self._refusing < MAX_REQUESTS:
            self._refusing += 1
            self._start(_refuse(message), self._refused)
        else:
            logger.warning("A request for %s was dropped: too many are being refused.", key[0])

    def _start(self, work: Coroutine[Any, Any, None], done: Callable[[], None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)  # the event loop keeps only a weak reference
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: done())

    def _answered(self, key: tuple[str, str]) -> None:
        self._answering[key] -= 1
        if not self._answering[key]:
            del self._answering[key]

    def _refused(self) -> None:
        self._refusing -= 1


_desk = _Desk()


class PubsubConsumer(AsyncConsumer):  # type: ignore[misc]
    """Answers requests with the sessions of this process.

    No message ends it, because the messages that wait in its queue would be lost.
    """

    async def __call__(self, scope: Any, receive: Callable[[], Awaitable[dict[str, Any]]], send: Any) -> None:
        """Handle messages until cancelled. It only reads the workers' channels, and has no channel of its own."""
        while True:
            await self.dispatch(await receive())

    async def dispatch(self, message: dict[str, Any]) -> None:
        """Handle a message. Drop it if its type or its fields are unknown."""
        match message:
            case {"type": "pubsub.wake"}:
                await self.pubsub_wake(message)
            case {
                "type": "pubsub.request", "reply": str(), "account": str(), "method": str(), "service": str(),
                "node": str(), "argument": str(),
            }:  # fmt: skip
                await self.pubsub_request(message)
            case _:
                remote.dropped.add("its type or its fields are unknown")

    async def pubsub_request(self, message: dict[str, Any]) -> None:
        """Start to answer a request from `remote.RemoteService`."""
        _desk.take(message)

    async def pubsub_wake(self, message: dict[str, Any]) -> None:
        """Wake the workers of this process."""
        wakers.call()


async def _refuse(message: dict[str, Any]) -> None:
    busy = ServiceUnreachable(f"The worker is busy with other requests to {message.get('service')}.")
    await _send(message, remote.encode_error(busy))


async def _answer(message: dict[str, Any]) -> None:
    seconds = settings.RPC_TIMEOUT  # the caller waits no longer than this
    try:
        async with deadline(seconds, ServiceUnreachable(f"The service did not answer within {seconds:g} seconds.")):
            answer = remote.encode_result(await _perform(message))
    except PubsubCacheError as error:
        answer = remote.encode_error(error)
    except Exception:
        logger.exception("A request over the channel layer failed.")
        answer = remote.encode_error(ServiceUnreachable("The worker failed to answer; see its log."))
    await _send(message, answer)


async def _send(message: dict[str, Any], answer: str) -> None:
    try:
        await remote.send_answer(get_channel_layer(), message["reply"], answer)
    except Exception as error:  # the calling process may have ended, or the layer is down or full
        logger.warning("An answer could not be sent: %s", error)


async def _perform(message: dict[str, Any]) -> Any:
    service = sessions.get(message["account"])
    if service is None:
        raise ServiceUnreachable(f"This worker has no session of {message['account']}.")
    method = message["method"]
    if method not in remote.METHODS:
        raise InvalidRequest(f"Unknown request {method!r}.")
    address = NodeAddress(message["service"], message["node"])
    if method == "get_items":
        return await service.get_items(address, remote.decode_request(message["argument"]))
    if method == "unsubscribe":
        return await service.unsubscribe(address, remote.decode_subid(message["argument"]))
    if method == "browse":
        return await service.browse(address.service)
    return await getattr(service, method)(address)
