"""Test that a node is hidden if its owner is deleted or has blocked us, but not after a short outage."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.utils import timezone

from pubsubcache.analysers import registry
from pubsubcache.cache import get_items
from pubsubcache.exceptions import PubsubCacheError, ServiceError, ServiceUnreachable
from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.services.sessions import sessions
from pubsubcache.store import in_thread, nodes, scheduling
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.types import ItemsPage, NodeAddress
from tests.fakes import FakeService, in_loop, note_analyser

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

ALICE = "alice@example.org"
PEP = NodeAddress("bob@example.net", "urn:example:notes")
COMPONENT = NodeAddress("pubsub.example.net", "urn:example:notes")
BLOCKED = ServiceError("service-unavailable")


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    Account.objects.create(jid=ALICE)
    with (
        registry.temporarily(note_analyser(), replace=True),
        patch.multiple(nodes, UNAVAILABLE_ANSWERS=3, UNAVAILABLE_PERIOD=600.0),
    ):
        yield


async def read(service: FakeService, address: NodeAddress = PEP, **options: Any) -> ItemsPage:
    with sessions.offered(ALICE, service):
        return await get_items(ALICE, address.service, address.name, **options)


@in_thread
def row() -> PubsubNode:
    return PubsubNode.objects.get()


@in_thread
def pass_time(seconds: float) -> None:
    """Move the times of all nodes into the past."""
    for node in PubsubNode.objects.all():
        for name in ("unavailable_since", "next_attempt"):
            if (value := getattr(node, name)) is not None:
                setattr(node, name, value - timedelta(seconds=seconds))
        node.save()


@in_thread
def due() -> list[int]:
    return scheduling.due(Account.objects.get().pk, 10, token=0)


async def synced(address: NodeAddress = PEP) -> FakeService:
    service = FakeService()
    service.fill(3, address)
    await read(service, address)
    await sync_node(service, (await row()).pk)
    return service


async def fail(service: FakeService, *errors: Exception) -> None:
    for error in errors:
        service.errors = dict.fromkeys(("get_items", "get_item_ids", "subscribe"), error)
        with pytest.raises(PubsubCacheError):
            await sync_node(service, (await row()).pk)


@in_loop
async def test_account_that_stays_unavailable_is_hidden_and_comes_back() -> None:
    service = await synced()
    await fail(service, BLOCKED, BLOCKED)
    await pass_time(601)
    assert len((await read(service)).items) == 3
    await fail(service, BLOCKED)
    node = await row()
    assert (node.sync_state, node.item_count, node.subscribed) == ("ERROR", 0, False)
    assert node.sync_error == "The service has answered service-unavailable 3 times in a row."
    assert not await in_thread(PubsubItem.objects.exists)()
    with pytest.raises(ServiceError, match="service-unavailable"):
        await read(service)
    assert await due() == []
    await pass_time(4000)
    assert await due() == [node.pk]
    await fail(service, BLOCKED)
    assert "4 times" in (await row()).sync_error
    service.errors = {}
    await sync_node(service, node.pk)
    node = await row()
    assert (node.sync_state, node.item_count, node.unavailable_count) == ("COMPLETED", 3, 0)


@in_loop
async def test_hidden_node_is_synchronised_after_a_successful_read() -> None:
    service = await synced()
    await fail(service, BLOCKED, BLOCKED)
    await pass_time(601)
    await fail(service, BLOCKED)
    service.errors = {}
    assert len((await read(service)).items) == 3
    assert await due() == [(await row()).pk]


@in_loop
async def test_many_answers_within_a_short_time_hide_nothing() -> None:
    service = await synced()
    await fail(service, *[BLOCKED] * 10)
    assert (await row()).item_count == 3
    page = await read(service)
    assert (len(page.items), page.stale) == (3, True)


@in_loop
async def test_reads_do_not_count() -> None:
    service = await synced()
    await fail(service, BLOCKED)
    await pass_time(601)
    for _ in range(10):
        assert (await read(service)).stale
        with pytest.raises(ServiceError):
            await read(service, use_cache=False)
    node = await row()
    assert (node.unavailable_count, node.item_count) == (1, 3)


@pytest.mark.parametrize(
    "other", [ServiceError("internal-server-error"), ServiceError("remote-server-not-found"), None]
)
@in_loop
async def test_any_other_answer_resets_the_count(other: Exception | None) -> None:
    service = await synced()
    await fail(service, BLOCKED, BLOCKED)
    await pass_time(601)
    if other is None:
        service.errors = {}
        await sync_node(service, (await row()).pk)
    else:
        await fail(service, other)
    await fail(service, BLOCKED)
    node = await row()
    assert (node.unavailable_count, node.item_count) == (1, 3)


@in_loop
async def test_missing_answers_do_not_count() -> None:
    service = await synced()
    await fail(service, BLOCKED, BLOCKED, ServiceUnreachable("silent"))
    await pass_time(601)
    await fail(service, ServiceUnreachable("silent"))
    node = await row()
    assert (node.unavailable_count, node.item_count) == (2, 3)


@in_loop
async def test_component_that_is_down_hides_nothing() -> None:
    service = await synced(COMPONENT)
    await fail(service, BLOCKED, BLOCKED)
    await pass_time(601)
    await fail(service, *[BLOCKED] * 5)
    node = await row()
    assert (node.unavailable_count, node.item_count) == (0, 3)


@in_loop
async def test_time_in_the_future_is_not_trusted() -> None:
    service = await synced()
    await fail(service, BLOCKED, BLOCKED)
    await pass_time(-86_400)
    await fail(service, BLOCKED)
    node = await row()
    assert node.item_count == 3
    assert node.unavailable_since is not None
    assert node.unavailable_since <= timezone.now()
