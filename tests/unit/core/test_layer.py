"""Test the channel layer of a site without `CHANNEL_LAYERS`."""

import sys
from typing import Any

import pytest
from django.utils.module_loading import import_string

from pubsubcache import checks, conf
from pubsubcache.exceptions import ServiceUnreachable
from pubsubcache.services import remote
from pubsubcache.services.layer import get_channel_layer
from pubsubcache.types import NodeAddress


@pytest.fixture(autouse=True)
def _no_layers(settings: Any) -> None:
    del settings.CHANNEL_LAYERS


async def test_workers_of_the_process_are_woken_without_a_configured_layer() -> None:
    layer = get_channel_layer()
    await layer.group_add(remote.WORKERS_GROUP, "listener")
    await remote.awake()
    assert await remote.receive(layer, "listener") == {"type": "pubsub.wake"}
    await layer.flush()


async def test_other_processes_are_unreachable_without_a_configured_layer() -> None:
    assert not remote.reaches_workers()
    with pytest.raises(ServiceUnreachable, match=r"CHANNEL_LAYERS \(REDIS_URL\)"):
        await remote.RemoteService("alice@example.org", "w").get_item_ids(NodeAddress("s", "n"))


def test_missing_layer_package_is_reported(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels_redis.core.RedisChannelLayer"}}
    assert checks.check_channel_layers(None) == []
    monkeypatch.setitem(sys.modules, "channels_redis.core", None)
    (error,) = checks.check_channel_layers(None)
    assert error.id == "pubsubcache.E004"
    assert "'default'" in error.msg
    assert "pubsubcache[redis]" in str(error.hint)


def test_only_the_default_layer_is_created() -> None:
    assert get_channel_layer("other") is None


def test_router_for_sites_that_route_the_channel_still_exists() -> None:
    router = import_string("pubsubcache.routing.channel_router")
    assert set(router.application_mapping) == {conf.settings.CHANNEL}
