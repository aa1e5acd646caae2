"""Test that notifications never wait for another service and that none is lost silently."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError
from django.test import override_settings

from pubsubcache.analysers import registry
from pubsubcache.exceptions import ServiceUnreachable
from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.store import in_thread
from pubsubcache.syncing import floods, notifications
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.syncing.notifications import EventApplier
from pubsubcache.types import NodeAddress, PubsubEvent
from tests.fakes import FakeService, in_loop, make_item, node_event, note_analyser, publish_event, retract_event

pytestmark = pytest.mark.django_db

ALICE = "alice@example.org"
NODE = "urn:example:notes"
SILENT = NodeAddress("silent.example.net", NODE)
SECOND = NodeAddress(SILENT.service, f"{NODE}/second")
GOOD = NodeAddress("good.example.net", NODE)
ALL = (SILENT, SECOND, GOOD)


@pytest.fixture(autouse=True)
def _analyser() -> Iterator[None]:
    with registry.temporarily(note_analyser(), replace=True):
        yield


@dataclass
class World:
    """Three nodes in sync at two services, one of which can stop answering, and the applier of their notifications."""

    service: FakeService
    pks: dict[NodeAddress, int]
    silent: bool = False
    speaks: asyncio.Event = field(default_factory=asyncio.Event)
    unanswered: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    invalidations: list[int] = field(default_factory=list)
    overflows: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.applier = EventApplier(
            ALICE,
            self.service,
            on_invalidated=self.invalidations.append,
            on_overflow=lambda: self.overflows.append(True),
        )
        real = self.service.get_items

        async def get_items(address: NodeAddress, request: Any) -> Any:
            if self.silent and address.service == SILENT.service:
                self.unanswered += 1
                self.asked.set()
                await self.speaks.wait()
            return await real(address, request)

        self.service.get_items = get_items  # type: ignore[method-assign]

    def publish(self, address: NodeAddress, name: str, title: str = "", **more: Any) -> PubsubEvent:
        """Publish an item at the service; return the notification."""
        return publish_event(self.service.publish(name, title, address), address=address, **more)

    def feed(self, *notifications: PubsubEvent) -> None:
        for notification in notifications:
            self.applier.feed(notification)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.applier.run())
        try:
            async with asyncio.timeout(60):
                yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    @in_thread
    def titles(self, address: NodeAddress) -> dict[str, str]:
        items = PubsubItem.objects.filter(node_id=self.pks[address]).in_order()
        return {item.name: item.parsed["title"] for item in items}

    @in_thread
    def is_fresh(self, address: NodeAddress) -> bool:
        return PubsubNode.objects.get(pk=self.pks[address]).checked_at is not None

    async def invalidated(self, address: NodeAddress) -> None:
        """Wait until a node is invalidated."""
        while await self.is_fresh(address):
            pass


@in_thread
def _make_node(address: NodeAddress) -> int:
    account, _ = Account.objects.get_or_create(jid=ALICE)
    judgement = {"registry_fingerprint": registry.fingerprint(), "to_sync": True}
    node = PubsubNode(account=account, service=address.service, name=address.name, analyser="note", **judgement)
    node.save()
    return node.pk


async def world() -> World:
    service, pks = FakeService(), {}
    for address in ALL:
        service.fill(2, address)
        pks[address] = await _make_node(address)
        await sync_node(service, pks[address])
    return World(service, pks)


def bare(address: NodeAddress, *names: str) -> PubsubEvent:
    """Return a notification without payloads."""
    return publish_event(*(make_item(name) for name in names), address=address, has_payload=False)


# A service that does not answer


@in_loop
async def test_silent_service_does_not_delay_other_nodes() -> None:
    here = await world()
    here.silent = True
    async with here.running():
        here.feed(bare(SILENT, "item-000"), here.publish(SECOND, "new"), here.publish(GOOD, "new"))
        await here.applier.join(GOOD)
        await here.applier.join(SECOND)
        assert "new" in await here.titles(GOOD)
        assert "new" in await here.titles(SECOND)
        await here.asked.wait()
        assert here.unanswered == 1


@in_loop
async def test_node_that_waits_for_its_service_is_not_fresh() -> None:
    here = await world()
    here.silent = True
    async with here.running():
        here.feed(bare(SILENT, "item-000"))
        await here.invalidated(SILENT)
        assert await here.is_fresh(SECOND)
        assert await here.is_fresh(GOOD)
        assert not here.invalidations


@in_loop
async def test_node_that_waits_is_invalidated_again_when_more_arrives() -> None:
    """It may have been synchronised in between, before the new notification."""
    here = await world()
    here.silent = True
    async with here.running():
        here.feed(bare(SILENT, "item-000"))
        await here.invalidated(SILENT)
        here.silent = False
        await sync_node(here.service, here.pks[SILENT])
        assert await here.is_fresh(SILENT)
        here.feed(here.publish(SILENT, "later"))
        await here.invalidated(SILENT)


@in_loop
async def test_notifications_of_a_node_stay_in_order_across_a_fetch() -> None:
    here = await world()
    here.silent = True
    here.service.publish("bare", "fetched", SILENT)
    here.service.publish("edited", "fetched", SILENT)
    here.service.publish("retracted", "fetched", SILENT)
    async with here.running():
        with patch.object(notifications, "BATCH_SIZE", 3):
            here.feed(bare(SILENT, "bare", "edited", "retracted"))
            await here.asked.wait()
            here.feed(
                publish_event(make_item("edited", "later"), address=SILENT),
                retract_event("retracted", "item-000", address=SILENT),
            )
            await here.invalidated(SILENT)
            assert "edited" not in await here.titles(SILENT)
            here.speaks.set()
            await here.applier.join()
    titles = await here.titles(SILENT)
    assert titles == {"item-001": "Title of item-001", "bare": "fetched", "edited": "later"}
    assert here.invalidations == [here.pks[SILENT]]


@pytest.mark.parametrize("kind", ["purge", "delete"])
@in_loop
async def test_purge_and_deletion_are_applied_after_waiting_notifications(kind: str) -> None:
    here = await world()
    here.silent = True
    async with here.running():
        here.feed(bare(SILENT, "item-000"))
        await here.asked.wait()
        here.feed(node_event(kind, SILENT))
        here.speaks.set()
        await here.applier.join()
    assert await here.titles(SILENT) == {}
    exists = await in_thread(PubsubNode.objects.filter(pk=here.pks[SILENT]).exists)()
    assert exists == (kind == "purge")


@in_loop
async def test_short_fetch_keeps_the_node_fresh() -> None:
    here = await world()
    here.service.publish("new", "fetched", SILENT)
    async with here.running():
        here.feed(bare(SILENT, "new"))
        await here.applier.join()
    assert (await here.titles(SILENT))["new"] == "fetched"
    assert await here.is_fresh(SILENT)
    assert not here.invalidations


@in_loop
async def test_fetch_without_answer_times_out() -> None:
    here = await world()
    here.silent = True
    with override_settings(PUBSUBCACHE_IQ_TIMEOUT=0.05):
        async with here.running():
            here.feed(bare(SILENT, "item-000"))
            await here.asked.wait()
            here.feed(here.publish(SILENT, "later"))
            await here.applier.join()
    assert "later" in await here.titles(SILENT)
    assert here.invalidations == [here.pks[SILENT]]
    assert not await here.is_fresh(SILENT)


@in_loop
async def test_silent_service_gets_few_requests_and_fails_all_waiting_nodes() -> None:
    here = await world()
    here.silent = True
    addresses = [NodeAddress(SILENT.service, f"{NODE}/{number}") for number in range(10)]
    for address in addresses:
        here.pks[address] = await _make_node(address)
        here.service.fill(1, address)
    with override_settings(PUBSUBCACHE_IQ_TIMEOUT=0.3):
        async with here.running():
            here.feed(*(bare(address, "item-000") for address in addresses))
            await here.applier.join()
    assert here.unanswered == 2
    assert sorted(here.invalidations) == sorted(here.pks[address] for address in addresses)


@in_loop
async def test_join_of_another_node_does_not_wait_for_a_fetch() -> None:
    here = await world()
    here.silent = True
    async with here.running():
        here.feed(bare(SILENT, "item-000"))
        await here.asked.wait()
        waiting = asyncio.create_task(here.applier.join(SILENT))
        await here.applier.join(GOOD)
        assert not waiting.done()
        here.speaks.set()
        await waiting


@in_loop
async def test_finish_cancels_fetches_and_applies_the_rest() -> None:
    here = await world()
    here.silent = True
    with override_settings(PUBSUBCACHE_IQ_TIMEOUT=1000.0):
        async with here.running():
            here.feed(bare(SILENT, "item-000"))
            await here.asked.wait()
            here.feed(here.publish(SILENT, "later"), bare(SECOND, "item-000"), here.publish(GOOD, "new"))
            await here.applier.finish()
    assert "later" in await here.titles(SILENT)
    assert "new" in await here.titles(GOOD)
    assert sorted(here.invalidations) == sorted([here.pks[SILENT], here.pks[SECOND]])
    assert here.unanswered == 1


# Floods


@in_loop
async def test_flood_does_not_affect_other_nodes() -> None:
    with patch.multiple(notifications, MAX_EVENTS=50, BATCH_SIZE=10):
        here = await world()
        here.feed(here.publish(GOOD, "new"), here.publish(SECOND, "new"))
        here.feed(*(publish_event(make_item(f"flood-{number}"), address=SILENT) for number in range(100)))
        async with here.running():
            await here.applier.join()
    assert "new" in await here.titles(GOOD)
    assert "new" in await here.titles(SECOND)
    assert here.invalidations == [here.pks[SILENT]]
    assert await here.is_fresh(GOOD)
    assert await here.is_fresh(SECOND)
    assert not here.overflows


@in_loop
async def test_flood_is_not_applied_and_its_nodes_are_revalidated_when_it_is_over() -> None:
    here = await world()
    now = 1000.0
    here.applier._floods._clock = lambda: now
    with patch.object(floods, "BURST", 50.0), patch.object(floods, "INTERVAL", 0.01):
        async with here.running():
            for number in range(100):
                here.feed(here.publish(SILENT, f"flood-{number}"), here.publish(SECOND, f"flood-{number}"))
            here.feed(here.publish(GOOD, "new"))
            assert here.applier.is_shed(SILENT.service, SILENT.name)
            assert not here.applier.is_shed(GOOD.service, GOOD.name)
            await here.applier.join()
            assert sorted(here.applier.flooded) == sorted([here.pks[SILENT], here.pks[SECOND]])
            assert not here.invalidations
            assert not await here.is_fresh(SILENT)
            now += floods.BURST / floods.RATE
            while here.applier.flooded:  # noqa: ASYNC110  (only the clock ends it)
                await asyncio.sleep(0.01)
            await here.applier.join()
    assert set(here.invalidations) == {here.pks[SILENT], here.pks[SECOND]}
    assert not any(name.startswith("flood") for name in await here.titles(SILENT))
    assert "new" in await here.titles(GOOD)
    assert await here.is_fresh(GOOD)
    assert here.applier.dropped["flood"] == 200


@in_loop
async def test_end_while_a_flood_lasts_leaves_its_nodes_invalid() -> None:
    here = await world()
    with patch.object(floods, "BURST", 10.0):
        async with here.running():
            for number in range(100):
                here.feed(here.publish(SILENT, f"flood-{number}"))
            await here.applier.join()
            await sync_node(here.service, here.pks[SILENT])
            assert await here.is_fresh(SILENT)
            here.feed(here.publish(SILENT, "last"))
            await here.applier.finish()
    assert not await here.is_fresh(SILENT)


@in_loop
async def test_flood_of_unknown_nodes_invalidates_only_nodes_of_its_service() -> None:
    with patch.object(notifications, "MAX_EVENTS", 50):
        here = await world()
        here.feed(here.publish(GOOD, "new"))
        for number in range(60):
            here.feed(publish_event(make_item("x"), address=NodeAddress(SILENT.service, f"strange-{number}")))
        async with here.running():
            await here.applier.join()
    assert "new" in await here.titles(GOOD)
    assert sorted(here.invalidations) == sorted([here.pks[SILENT], here.pks[SECOND]])
    assert await here.is_fresh(GOOD)


@in_loop
async def test_overflow_caused_by_many_services_invalidates_all_nodes() -> None:
    with patch.object(notifications, "MAX_EVENTS", 200):
        here = await world()
        for number in range(201):
            here.feed(publish_event(make_item("x"), address=NodeAddress(f"{number}.example.com", NODE)))
        async with here.running():
            await here.applier.join()
    assert here.overflows == [True]
    assert sorted(here.invalidations) == sorted(here.pks.values())
    assert not await here.is_fresh(GOOD)


@in_loop
async def test_notification_of_many_items_takes_several_turns_in_order() -> None:
    here = await world()
    items = [make_item(f"new-{number:02}") for number in range(25)]
    with patch.object(notifications, "BATCH_SIZE", 10):
        here.feed(publish_event(*items, address=GOOD))
        async with here.running():
            await here.applier.join()
    node = await in_thread(PubsubNode.objects.get)(pk=here.pks[GOOD])
    assert list(await here.titles(GOOD))[2:] == [item.id for item in items]
    assert node.revision == 3


# Sessions, leases and cancellation


@in_loop
async def test_nothing_fed_before_void_is_written_after_it() -> None:
    here = await world()
    here.silent = True
    here.applier.close()
    async with here.running():
        here.feed(publish_event(make_item("item-000", "old"), address=GOOD))
        here.applier.open()
        here.feed(bare(SILENT, "item-000"))
        await here.asked.wait()
        await here.applier.join(GOOD)
        here.applier.close()
        here.feed(publish_event(make_item("item-001", "old"), address=GOOD))
        here.applier.void()
        here.feed(publish_event(make_item("item-000", "new"), address=GOOD))
        here.applier.open()
        here.speaks.set()
        await here.applier.join()
    assert await here.titles(GOOD) == {"item-000": "new", "item-001": "Title of item-001"}
    assert here.applier.dropped == {"void": 2}
    assert set(here.invalidations) == {here.pks[GOOD], here.pks[SILENT]}


@in_loop
async def test_batch_being_applied_is_not_written_after_void(monkeypatch: pytest.MonkeyPatch) -> None:
    here = await world()
    prepare, reached, go_on = notifications.prepare, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any) -> Any:
        reached.set()
        await go_on.wait()
        return await prepare(*args)

    monkeypatch.setattr(notifications, "prepare", slow)
    async with here.running():
        here.feed(here.publish(GOOD, "new"))
        await reached.wait()
        here.applier.void()
        go_on.set()
        await here.applier.join()
    assert "new" not in await here.titles(GOOD)
    assert here.invalidations == [here.pks[GOOD]]


@in_loop
async def test_batch_being_applied_waits_while_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    here = await world()
    prepare, reached = notifications.prepare, asyncio.Event()

    async def closing(*args: Any) -> Any:
        here.applier.close()
        reached.set()
        return await prepare(*args)

    monkeypatch.setattr(notifications, "prepare", closing)
    async with here.running():
        here.feed(here.publish(GOOD, "new"))
        await reached.wait()
        for _ in range(5):
            assert "new" not in await here.titles(GOOD)
        here.applier.open()
        await here.applier.join()
    assert "new" in await here.titles(GOOD)


@in_loop
async def test_nothing_is_applied_while_closed_and_all_in_order_after() -> None:
    here = await world()
    async with here.running():
        here.applier.close()
        here.feed(here.publish(GOOD, "new", "first"), here.publish(GOOD, "new", "second"))
        here.applier._queue.invalidate(SECOND)
        waiting = asyncio.create_task(here.applier.join(GOOD))
        await in_thread(lambda: None)()  # longer than the start of a turn takes
        assert "new" not in await here.titles(GOOD)
        assert await here.is_fresh(SECOND)
        here.applier.open()
        await waiting
        await here.applier.join()
    assert (await here.titles(GOOD))["new"] == "second"
    assert here.invalidations == [here.pks[SECOND]]


@in_loop
async def test_notifications_of_a_cancelled_run_stay_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    here = await world()
    here.silent = True
    reached = asyncio.Event()

    async def stuck(*args: Any) -> Any:
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(notifications, "prepare", stuck)
        async with here.running():
            here.feed(bare(SILENT, "item-000"))
            await here.asked.wait()
            here.feed(here.publish(GOOD, "new", "first"))
            await reached.wait()
            here.feed(here.publish(GOOD, "new", "second"))
    assert "new" not in await here.titles(GOOD)
    here.silent = False
    here.service.publish("item-000", "fetched", SILENT)
    async with here.running():
        await here.applier.join()
    assert (await here.titles(GOOD))["new"] == "second"
    assert (await here.titles(SILENT))["item-000"] == "fetched"
    assert not here.applier.dropped


# The database


@in_loop
async def test_node_is_delayed_after_a_refused_write_while_others_continue(monkeypatch: pytest.MonkeyPatch) -> None:
    here = await world()
    apply_changes = notifications.apply_changes

    def refusing(pk: int, changes: Any) -> Any:
        if pk == here.pks[SILENT]:
            raise OperationalError("out of range")
        return apply_changes(pk, changes)

    monkeypatch.setattr(notifications, "apply_changes", refusing)
    monkeypatch.setattr(notifications, "DELAY", 1000.0)
    monkeypatch.setattr(notifications, "MAX_DELAY", 1000.0)
    async with here.running():
        here.feed(here.publish(SILENT, "new"), here.publish(GOOD, "new"))
        await here.applier.join(GOOD)
    assert "new" in await here.titles(GOOD)


@in_loop
async def test_batch_that_the_database_refuses_loses_no_order(monkeypatch: pytest.MonkeyPatch) -> None:
    here = await world()
    apply_changes, order = notifications.apply_changes, []

    def refusing(pk: int, changes: Any) -> Any:
        order.append(pk)
        if pk == here.pks[SILENT] and order.count(pk) < 3:
            raise OperationalError("out of range")
        return apply_changes(pk, changes)

    monkeypatch.setattr(notifications, "apply_changes", refusing)
    async with here.running():
        here.feed(here.publish(SILENT, "first"), here.publish(GOOD, "new"))
        await here.applier.join(GOOD)
        here.feed(here.publish(SILENT, "second"))
        await here.applier.join()
    assert list(await here.titles(SILENT))[2:] == ["first", "second"]
    assert not here.invalidations


@in_loop
async def test_failed_write_affects_only_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    here = await world()
    apply_changes = notifications.apply_changes

    def failing(pk: int, changes: Any) -> Any:
        if pk == here.pks[SILENT]:
            raise ServiceUnreachable("no more")
        return apply_changes(pk, changes)

    monkeypatch.setattr(notifications, "apply_changes", failing)
    async with here.running():
        here.feed(here.publish(SILENT, "new"), here.publish(GOOD, "new"))
        await here.applier.join()
    assert "new" in await here.titles(GOOD)
    assert here.invalidations == [here.pks[SILENT]]
