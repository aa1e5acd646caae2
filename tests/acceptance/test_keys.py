"""Test what the secret key hides from readers of Redis, and its rotation while workers run."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from django.test import override_settings
from redis.asyncio import Redis as Client

from pubsubcache.models import Account
from pubsubcache.store import in_thread
from tests.acceptance.site import Site, entry, make_node, new_name, publish_many
from tests.servers.redis import Redis
from tests.servers.xmpp import TestProsody

OLD = "the key until now. It is as long as keys should be."
NEW = "the key from now on. It is as long as keys should be."
WORDS = "a-very-private-word"


@pytest.fixture
async def site(prosody: TestProsody, redis_server: Redis, live_database: None) -> AsyncIterator[Site]:
    """A site in this process that reaches workers through Redis."""
    prosody.start()
    redis_server.start()
    site = Site(prosody)
    with override_settings(SECRET_KEY=OLD, CHANNEL_LAYERS=layers_with(redis_server, OLD)):
        await site.add_account()
        yield site


def layers_with(server: Redis, *secret_keys: str) -> Any:
    """Return the `CHANNEL_LAYERS` of a site that uses the first of these keys, with the others as fallbacks."""
    with override_settings(SECRET_KEY=secret_keys[0], SECRET_KEY_FALLBACKS=secret_keys[1:]):
        return server.channel_layers


@pytest.fixture
def worker(start_manage: Callable[..., Any], redis_server: Redis) -> Callable[..., Any]:
    """`await worker(SECRET_KEY=...)` starts a worker with this environment and waits until the account is online."""

    async def start(**env: str) -> Any:
        def is_held() -> bool:
            return Account.objects.get().is_online()

        given = {"REDIS_URL": redis_server.url, "SECRET_KEY": OLD, **env}
        return await in_thread(start_manage)("pubsub_worker", env=given, ready=is_held)

    return start


@asynccontextmanager
async def monitoring(server: Redis) -> AsyncIterator[Callable[[], Awaitable[bytes]]]:
    """Yield a function that returns the commands, with their arguments, that the server has received since."""
    reader, writer = await asyncio.open_connection(server.host, server.port, limit=2**26)
    writer.write(b"MONITOR\r\n")
    await reader.readuntil(b"+OK\r\n")

    async def seen() -> bytes:
        async with Client.from_url(server.url) as client:
            await client.echo("the end")
        async with asyncio.timeout(60):
            return await reader.readuntil(b'"the end"')

    yield seen
    writer.close()


async def test_nothing_private_can_be_read_in_redis(site: Site, redis_server: Redis, client: Any, worker: Any) -> None:
    bob = await client(site.server)
    address = await make_node(bob, site.server, new_name(f"{WORDS}-node-"))
    await publish_many(bob, address, 3)
    await bob.publish(address, entry(f"{WORDS}-title"), f"{WORDS}-id")
    await worker()
    async with monitoring(redis_server) as monitored:
        page = await site.read(address, use_cache=False)
        assert any(f"{WORDS}-title" in item.xml for item in page.items)
        seen = await monitored()
    assert seen.count(b"asgispecific.") > 1  # includes the answer
    for private in (WORDS, site.jid, site.server.users[site.user], address.service, "entry", "get_items", "result"):
        assert private.encode() not in seen


async def test_password_under_the_old_key_is_used_by_a_worker_with_the_new_one(
    site: Site, redis_server: Redis, client: Any, worker: Any
) -> None:
    """All processes first get the new key as a fallback; then each starts to use it, in any order."""
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 3)
    await worker(SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=OLD)
    with override_settings(SECRET_KEY_FALLBACKS=[NEW], CHANNEL_LAYERS=layers_with(redis_server, OLD, NEW)):
        assert len((await site.read(address, use_cache=False)).items) == 3


async def test_password_under_the_new_key_is_used_by_a_running_worker_with_the_old_one(
    site: Site, redis_server: Redis, client: Any, worker: Any
) -> None:
    """A process that uses the new key stores the password while a worker still uses the old one."""
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 3)
    await worker(SECRET_KEY_FALLBACKS=NEW)
    layers = layers_with(redis_server, NEW, OLD)
    with override_settings(SECRET_KEY=NEW, SECRET_KEY_FALLBACKS=[OLD], CHANNEL_LAYERS=layers):
        account = await site.account()
        await in_thread(account.save)(update_fields=["password"])
        await in_thread(Account.objects.update)(enabled=False)
        await site.until(is_free)
        await in_thread(Account.objects.update)(enabled=True)
        await site.until(site.is_online)
        assert len((await site.read(address, use_cache=False)).items) == 3


async def is_free() -> bool:
    return not (await in_thread(Account.objects.get)()).worker
