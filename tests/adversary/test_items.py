"""Test that an odd item is left out while the rest of its node is answered and cached."""

from typing import Any

import pytest

from pubsubcache.utils import xmlform
from tests.acceptance.site import Site
from tests.adversary.component import deep, entry
from tests.adversary.conftest import MakeHostile

pytestmark = pytest.mark.one_server

#: The id and the payload of each odd item, by name.
ODD_ITEMS = {
    "too deep": ("odd", deep(60)),
    "too large": ("odd", entry("x" * 50_000)),
    "too long an id": ("i" * 2049, entry("Long")),
}


@pytest.fixture(autouse=True)
def narrow(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xmlform, "MAX_DEPTH", 50)
    settings.PUBSUBCACHE_MAX_ITEM_SIZE = 40_000


@pytest.mark.parametrize("kind", ODD_ITEMS)
async def test_odd_item_is_left_out_and_the_rest_is_cached(site: Site, hostile: MakeHostile, kind: str) -> None:
    service, (name, payload) = await hostile(site.server), ODD_ITEMS[kind]
    address = service.add_node(items={"first": entry("First"), name: payload, "last": entry("Last")})
    live = await site.read(address)
    assert [item.id for item in live.items if item.id != name] == ["first", "last"]
    page = await site.cached(address)
    assert [item.id for item in page.items] == ["first", "last"]
    assert not page.stale


@pytest.mark.parametrize("kind", ODD_ITEMS)
async def test_notification_of_an_odd_item_keeps_the_node_fresh(site: Site, hostile: MakeHostile, kind: str) -> None:
    service, (name, payload) = await hostile(site.server), ODD_ITEMS[kind]
    address = service.add_node(items=2)
    await site.cached(address)
    service.publish(address.name, name, payload)
    service.publish(address.name, "last", entry("Last"))

    async def notified() -> bool:
        return await site.names(address) == ["item-0", "item-1", "last"]

    await site.until(notified)
    await site.in_sync(address)
    assert [item.id for item in (await site.read(address)).items] == ["item-0", "item-1", "last"]
