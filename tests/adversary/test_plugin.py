"""Test that a bot with the plug-in gets an answer or an error from a hostile service, and keeps running."""

import asyncio
from typing import Any

import pytest
from slixmpp.exceptions import IqError, IqTimeout

from tests.acceptance.site import Site
from tests.acceptance.test_plugin import MakeBot, bot, ids
from tests.adversary.component import HostileService, Refusal, Request, deep, entry
from tests.adversary.conftest import MakeHostile

__all__ = ["bot"]


def _refuse(request: Request) -> str:
    raise Refusal("internal-server-error", "no\n" * 100_000)


def _silent(service: HostileService) -> None:
    service.silent = True


def _refusing(service: HostileService) -> None:
    service.answers["get_items"] = _refuse


def _circling(service: HostileService) -> None:
    service.endless_items = service.endless_ids = "circle"


def _endless(service: HostileService) -> None:
    service.endless_items = service.endless_ids = "news"


def _deep(service: HostileService) -> None:
    service.answers["get_items"] = lambda request: service.items_answer(request.node, {"deep": deep(2000)})


def _odd(service: HostileService) -> None:
    odd = '<x xmlns="urn:example:odd"><y xmlns=" "/></x>'
    service.answers["get_items"] = lambda request: service.items_answer(request.node, {"i" * 2049: odd, "": ""})


@pytest.mark.parametrize("manner", [_silent, _refusing, _circling, _endless, _deep, _odd])
async def test_bot_survives_a_hostile_service(
    site: Site, hostile: MakeHostile, bot: MakeBot, manner: Any, settings: Any
) -> None:
    settings.PUBSUBCACHE_MAX_NODE_ITEMS = 1000
    evil, good = await hostile(site.server), await hostile(site.server, "good")
    blog, other = evil.add_node(items=3), good.add_node(items=2)
    client = await bot(site.server)
    for address in (blog, other):
        await client.pubsub.get_items(address.service, address.name)
        await site.in_sync(address)
    manner(evil)
    uncached = evil.add_node(items=3)
    try:
        async with asyncio.timeout(60):
            await client.pubsub.get_items(evil.jid, uncached.name, timeout=3)
    except (IqError, IqTimeout):
        pass
    evil.notify(blog.name, {"new": entry("New"), "odd": deep(500)})
    good.publish(other.name, "new", entry("New"))

    async def notified() -> bool:
        return "new" in await site.names(other)

    await site.until(notified)
    assert "new" in ids(await client.pubsub.get_items(good.jid, other.name))
    assert client.is_connected()
