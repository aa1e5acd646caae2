"""Test the limits for requests of other processes, in total and per service."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest

from pubsubcache.exceptions import PubsubCacheError, ServiceUnreachable
from pubsubcache.services import consumers, remote
from pubsubcache.services.consumers import MAX_REQUESTS, MAX_REQUESTS_OF_SERVICE, PubsubConsumer
from pubsubcache.services.sessions import sessions
from pubsubcache.types import NodeAddress
from tests.fakes import FakeService

ALICE = "alice@example.org"
GOOD, SILENT = "good.example.org", "silent.example.org"


class FakeLayer:
    """Records the answers by channel."""

    def __init__(self) -> None:
        self._answers: dict[str, asyncio.Future[str]] = {}

    def _answer(self, channel: str) -> "asyncio.Future[str]":
        return self._answers.setdefault(channel, asyncio.get_running_loop().create_future())

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        self._answer(channel).set_result(message["body"])

    async def of(self, channel: str) -> Any:
        """Return the result sent to `channel`, or raise the error."""
        return remote.decode_answer(await asyncio.wait_for(self._answer(channel), 60), object)


class Desk:
    """Consumer for tests; the services in `silent` do not answer."""

    def __init__(self, layer: FakeLayer) -> None:
        self.layer = layer
        self.silent = asyncio.Event()
        self.waiting: Counter[str] = Counter()
        self._number = 0

    async def ask(self, service: str, **changes: Any) -> str:
        """Send a request; return the channel of its answer."""
        self._number += 1
        message = {
            "type": "pubsub.request",
            "reply": f"reply-{self._number}",
            "account": ALICE,
            "method": "get_item_ids",
            "service": service,
            "node": "n",
            "argument": "null",
        }
        await PubsubConsumer().pubsub_request(message | changes)
        return f"reply-{self._number}"

    async def get_item_ids(self, address: Any) -> list[str]:
        if not address.service.endswith(GOOD):
            self.waiting[address.service] += 1
            await self.silent.wait()
        return ["a"]


@contextmanager
def _patched(layer: FakeLayer) -> Iterator[None]:
    with (
        patch.object(consumers, "get_channel_layer", lambda: layer),
        patch.object(consumers, "_desk", consumers._Desk()),
    ):
        yield


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    layer = FakeLayer()
    made = Desk(layer)
    service = FakeService()
    service.get_item_ids = made.get_item_ids  # type: ignore[method-assign]
    with _patched(layer), sessions.offered(ALICE, service):
        yield made
        made.silent.set()
        await asyncio.gather(*consumers._desk._tasks)
        await asyncio.sleep(0)  # runs the callbacks of finished tasks
        assert not consumers._desk._answering
        assert not consumers._desk._refusing


async def test_good_service_is_served_beside_many_requests_to_a_silent_one(desk: Desk) -> None:
    channels = [await desk.ask(f"user{number}@{SILENT}") for number in range(300)]
    assert await desk.layer.of(await desk.ask(GOOD)) == ["a"]
    assert desk.waiting.total() == MAX_REQUESTS_OF_SERVICE
    with pytest.raises(ServiceUnreachable, match="busy with other requests"):
        await desk.layer.of(channels[-1])


async def test_requests_in_progress_are_bounded_and_leave_room(desk: Desk) -> None:
    for number in range(12):
        for _ in range(200):
            await desk.ask(f"silent-{number}.example.org")
    await asyncio.sleep(0)
    assert desk.waiting.total() < MAX_REQUESTS
    assert len(consumers._desk._tasks) <= 2 * MAX_REQUESTS
    assert await desk.layer.of(await desk.ask(GOOD)) == ["a"]


async def test_accounts_do_not_share_their_bounds(desk: Desk) -> None:
    for _ in range(200):
        await desk.ask(SILENT)
    with sessions.offered("bob@example.org", FakeService()), pytest.raises(PubsubCacheError) as raised:
        await desk.layer.of(await desk.ask(SILENT, account="bob@example.org"))
    assert "busy" not in str(raised.value)


async def test_request_ends_when_its_caller_gives_up(desk: Desk, settings: Any) -> None:
    settings.PUBSUBCACHE_RPC_TIMEOUT = 0.05
    with pytest.raises(ServiceUnreachable, match=r"did not answer within 0\.05 seconds"):
        await desk.layer.of(await desk.ask(SILENT))


async def test_malformed_request_does_not_affect_others(desk: Desk) -> None:
    await PubsubConsumer().pubsub_request({"type": "pubsub.request"})
    assert await desk.layer.of(await desk.ask(GOOD)) == ["a"]


def test_remote_call_over_an_in_memory_layer_names_redis_url() -> None:
    service = remote.RemoteService("alice@example.org", "worker")
    with pytest.raises(ServiceUnreachable, match="REDIS_URL"):
        asyncio.run(service.get_item_ids(NodeAddress("example.org", "node")))
