"""Test requests through a Redis that others can write to: unreadable messages do not break any request."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import pytest
from channels.layers import get_channel_layer
from channels_redis.core import RedisChannelLayer
from django.test import override_settings
from redis.asyncio import Redis as Client

from pubsubcache.exceptions import ItemNotFound
from pubsubcache.keys import channel_layer_keys
from pubsubcache.services import remote
from pubsubcache.services.sessions import sessions
from pubsubcache.types import Directory, Entry, ItemsRequest, NodeAddress
from pubsubcache.worker import PubsubWorker
from tests.fakes import ADDRESS, FakeService
from tests.servers.redis import Redis

ALICE = "alice@example.org"
ASK = {"type": "pubsub.request", "reply": "x", "account": ALICE, "method": "get_items", "service": "s", "node": "n"}
SHAPES: list[Any] = [
    {"type": "pubsub.unknown"},
    {"type": "http.request", "body": b"x"},
    {"type": "_private"},
    {"type": "dispatch", "message": {}},
    {"type": "pubsub.answer"},
    {"type": 7},
    {"type": ["pubsub.wake"]},
    {"no": "type"},
    {},
    {"type": "pubsub.request"},
    {**ASK, "argument": None},
    {**ASK, "argument": "{"},
    {**ASK, "argument": "[" * 100_000},
    {**ASK, "argument": '{"new": ' + "[" * 100_000},
    {**ASK, "argument": json.dumps({"item_ids": "abc", "max_items": "7", "order_by": 1, "rsm": []})},
    {**ASK, "argument": json.dumps({"item_ids": [{}], "max_items": None, "order_by": None, "rsm": {}})},
    {**ASK, "method": "__class__", "argument": "null"},
    {**ASK, "account": {}, "argument": "null"},
]
GARBAGE = [b"", b"x", b"gAAAAABnonsense", b"\xc1", b"\x93", msgpack.packb(7), msgpack.packb([1]), os.urandom(500)]


@pytest.fixture
def redis(redis_server: Redis) -> Iterator[Redis]:
    redis_server.start()
    yield redis_server


@asynccontextmanager
async def working(service: FakeService) -> AsyncIterator[remote.RemoteService]:
    """Run a worker with a session of alice's on the channel layer; yield the remote service that reaches it."""
    worker = PubsubWorker(channel_layer=get_channel_layer())
    with sessions.offered(ALICE, service):
        task = asyncio.create_task(worker.work())
        try:
            yield remote.RemoteService(ALICE, worker.name)
        finally:
            worker.stop()
            await task


async def put(server: Redis, key: str, *messages: bytes) -> None:
    """Put messages at the front of a channel, as anyone with access to Redis can."""
    async with Client.from_url(server.url) as client:
        now = time.time() - 5
        await client.zadd(key, {os.urandom(12) + message: now for message in messages})


async def names(service: remote.RemoteService) -> list[str]:
    async with asyncio.timeout(60):
        return [item.id for item in (await service.get_items(ADDRESS, ItemsRequest())).items]


@pytest.mark.parametrize("encrypted", [True, False])
async def test_unreadable_messages_break_no_request(redis: Redis, live_database: None, encrypted: bool) -> None:
    layers = redis.channel_layers
    if not encrypted:
        del layers["default"]["CONFIG"]["symmetric_encryption_keys"]
    service = FakeService()
    wanted = service.fill(3)
    with override_settings(CHANNEL_LAYERS=layers):
        prefix = get_channel_layer().client_prefix

        async def into_the_answer(*_: Any) -> None:
            await put(redis, f"asgispecific.{prefix}!", *GARBAGE)

        service.hook = into_the_answer
        async with working(service) as messenger:
            for channel in ("pubsubcache", remote.worker_channel(messenger.worker)):
                await put(redis, f"asgi{channel}", *GARBAGE, *map(msgpack.packb, SHAPES))
            for _ in range(3):
                assert await names(messenger) == wanted
            for shape in SHAPES:
                await put(redis, f"asgi{remote.worker_channel(messenger.worker)}", msgpack.packb(shape))
                assert await names(messenger) == wanted


async def test_plain_messages_are_ignored_if_encryption_is_on(
    redis: Redis, live_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a forged request nor a forged answer has an effect."""
    service = FakeService()
    wanted = service.fill(3)
    with override_settings(CHANNEL_LAYERS=redis.channel_layers):
        prefix = get_channel_layer().client_prefix
        forged = json.dumps({"result": {"items": [["forged", "<item/>", None]], "rsm": None}})
        replies: list[str] = []

        async def forge(*_: Any) -> None:
            piece = {"type": "pubsub.answer", "number": 0, "of": 1, "body": forged}
            message = {**piece, "__asgi_channel__": replies[-1]}
            await put(redis, f"asgispecific.{prefix}!", msgpack.packb(message))

        async def new_channel(*_: Any) -> str:
            replies.append(f"specific.{prefix}!{len(replies)}")
            return replies[-1]

        monkeypatch.setattr(get_channel_layer(), "new_channel", new_channel)

        service.hook = forge
        async with working(service) as messenger:
            request = {
                **ASK,
                "method": "subscribe",
                "service": ADDRESS.service,
                "node": ADDRESS.name,
                "argument": "null",
            }
            await put(redis, f"asgi{remote.worker_channel(messenger.worker)}", msgpack.packb(request))
            assert await names(messenger) == wanted
    assert [method for method, _ in service.requests] == ["get_items"]


async def test_keys_rotate_between_processes_that_know_both(redis: Redis) -> None:
    """Each process encrypts with its own first key, which is the old or the new one."""
    old, new = "the secret key of before " * 2, "the secret key of now " * 2
    config = redis.channel_layers["default"]["CONFIG"]
    layers = [
        RedisChannelLayer(**{**config, "symmetric_encryption_keys": channel_layer_keys(*keys)})
        for keys in [(new, [old]), (old, [new]), (old, [])]
    ]
    rotated, rotating, behind = layers
    for number, (sender, reader) in enumerate([(rotated, rotating), (rotating, rotated), (behind, rotated)]):
        await sender.send(f"rotation-{number}", {"type": "x"})
        async with asyncio.timeout(60):
            assert await remote.receive(reader, f"rotation-{number}") == {"type": "x"}
    await rotated.send("rotation", {"type": "not for who has the old key alone"})
    await rotating.send("rotation", {"type": "for all"})
    async with asyncio.timeout(60):
        assert await remote.receive(behind, "rotation") == {"type": "for all"}
    for layer in layers:
        await layer.close_pools()


async def test_every_kind_of_request_is_answered(redis: Redis, live_database: None) -> None:
    service = FakeService(paging="ids")
    wanted = service.fill(3)
    with override_settings(CHANNEL_LAYERS=redis.channel_layers):
        async with working(service) as messenger:
            assert await messenger.get_item_ids(ADDRESS) == wanted
            assert (await messenger.subscribe(ADDRESS)).state == "subscribed"
            await messenger.unsubscribe(ADDRESS, "subid")
            assert await messenger.get_node_metadata(ADDRESS) == service.metadata
            assert await messenger.get_subscriptions(ADDRESS) == []
            service.directory = Directory(["pubsub/pep"], [Entry("s", "n", "News")], is_cut=True)
            assert await messenger.browse("s") == service.directory
            page = await messenger.get_items(ADDRESS, ItemsRequest(rsm={"max": 2}))  # type: ignore[arg-type]
            assert ([item.id for item in page.items], page.rsm and page.rsm.count) == (wanted[:2], 3)
            with pytest.raises(ItemNotFound):
                await messenger.get_items(NodeAddress("s", "nothing"), ItemsRequest())
