"""Test notifications: applied in order, accepted by their sender, and never lost silently."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import OperationalError, connection
from django.test import override_settings
from django.utils import timezone

from pubsubcache.analysers import registry
from pubsubcache.exceptions import ServiceUnreachable
from pubsubcache.models import Account, PendingUnsubscription, PubsubItem, PubsubNode
from pubsubcache.signals import items_published, items_retracted, node_deleted, node_purged
from pubsubcache.store import evict, in_thread, nodes
from pubsubcache.syncing import notifications
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.syncing.notifications import EventApplier
from pubsubcache.syncing.revalidation import check_ids
from pubsubcache.types import NodeAddress, Publish, PubsubEvent, Retract, Rsm
from tests.fakes import (
    ADDRESS,
    FakeService,
    in_loop,
    make_item,
    node_event,
    note_analyser,
    publish_event,
    retract_event,
)

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

ALICE = "alice@example.org"
OTHER = NodeAddress(ADDRESS.service, f"{ADDRESS.name}/other")


@pytest.fixture(autouse=True)
def _analyser() -> Iterator[None]:
    with registry.temporarily(note_analyser(), replace=True):
        yield


@dataclass
class Site:
    """A service with a node in sync, and the applier of its notifications."""

    service: FakeService
    pk: int
    unchecked: list[int] = field(default_factory=list)
    invalidated: list[int] = field(default_factory=list)
    overflows: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.applier = EventApplier(
            ALICE, self.service, self.unchecked.append, self.invalidated.append, lambda: self.overflows.append(True)
        )

    async def apply(self, *events: PubsubEvent) -> None:
        """Apply events as one batch."""
        for event in events:
            self.applier.feed(event)
        task = asyncio.create_task(self.applier.run())
        await self.applier.join()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def apply_apart(self, *events: PubsubEvent) -> None:
        """Apply events one by one."""
        for event in events:
            await self.apply(event)

    @in_thread
    def row(self) -> PubsubNode:
        return PubsubNode.objects.get(pk=self.pk)

    @in_thread
    def rows(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in PubsubItem.objects.filter(node_id=self.pk).in_order().values()}

    async def names(self) -> list[str]:
        return list(await self.rows())

    async def checked(self) -> None:
        """Mark the order of all items as confirmed by a check."""

        @in_thread
        def confirm() -> None:
            node = PubsubNode.objects.get(pk=self.pk)
            node.confirmed_position = node.items.in_order().last().position  # type: ignore[union-attr]
            node.save()

        await confirm()

    async def check(self) -> None:
        """Assert that the cache equals the service, including order and counts."""
        rows, node = await self.rows(), await self.row()
        assert {name: row["data"] for name, row in rows.items()} == self.service.xml()
        assert list(rows) == self.service.ids()
        assert (node.item_count, node.evicted_count) == (len(rows), 0)


@in_thread
def _make_node(address: NodeAddress, **fields: Any) -> int:
    held = {"worker": "w", "status": Account.Status.ONLINE, "heartbeat": timezone.now()}
    account, _ = Account.objects.get_or_create(jid=ALICE, defaults=held)
    values = {"service": address.service, "name": address.name, "analyser": "note"}
    values |= {"registry_fingerprint": registry.fingerprint(), "to_sync": True}
    return PubsubNode.objects.create(**({"account": account} | values | fields)).pk


async def site(size: int = 5, **manners: Any) -> Site:
    service = FakeService(**manners)
    service.fill(size)
    pk = await _make_node(ADDRESS)
    await sync_node(service, pk)
    service.requests.clear()
    return Site(service, pk)


@asynccontextmanager
async def recorded_signals() -> AsyncIterator[list[tuple[str, Any]]]:
    """Yield the list of received signals."""
    received: list[tuple[str, Any]] = []
    signals = {"published": items_published, "retracted": items_retracted, "purged": node_purged}
    receivers: list[Callable[..., None]] = []
    for name, signal in (signals | {"deleted": node_deleted}).items():

        def receive(name: str = name, item_ids: Any = None, names: Any = None, **rest: Any) -> None:
            assert item_ids == names, "receivers written for an earlier version must get the same"
            received.append((name, item_ids))

        receivers.append(receive)
        signal.connect(receive)
    yield received
    for signal in (*signals.values(), node_deleted):
        for receive in receivers:
            signal.disconnect(receive)


@in_loop
async def test_item_id_is_the_name_of_the_row() -> None:
    here = await site()
    item = await in_thread(lambda: PubsubItem.objects.filter(node_id=here.pk).in_order().first())()
    assert item is not None
    assert item.item_id == item.name == here.service.ids()[0]


@in_loop
async def test_new_edited_and_retracted_items() -> None:
    here = await site()
    before = await here.rows()
    async with recorded_signals() as received:
        await here.apply_apart(
            publish_event(here.service.publish("new")),
            publish_event(here.service.publish("item-004", "edited")),
            retract_event("item-001"),
        )
    here.service.retract("item-001")
    assert (await here.rows()).keys() == set(here.service.ids())
    after = await here.rows()
    assert after["item-004"]["parsed"] == {"title": "edited"}
    assert after["item-004"]["id"] == before["item-004"]["id"]
    assert after["item-004"]["created"] == before["item-004"]["created"]
    assert after["item-004"]["updated"] > before["item-004"]["updated"]
    assert after["item-000"] == before["item-000"]
    assert after["new"]["created"] == after["new"]["updated"]
    assert received == [("published", ["new"]), ("published", ["item-004"]), ("retracted", ["item-001"])]
    assert here.unchecked
    assert not here.invalidated
    assert not here.applier.dropped


@in_loop
async def test_last_change_of_a_batch_wins() -> None:
    for size in (1, 200):
        await in_thread(lambda: Account.objects.all().delete())()
        with patch.object(notifications, "BATCH_SIZE", size):
            here = await site(3)
            pks = {name: row["id"] for name, row in (await here.rows()).items()}
            service = here.service
            events = [publish_event(service.publish("fast", f"version {number}")) for number in range(20)]
            events += [publish_event(service.publish("brief")), retract_event("brief")]
            service.retract("brief")
            service.retract("item-000")
            events += [retract_event("item-000"), publish_event(service.publish("item-000", "again"))]
            events += [retract_event("never there")]
            await here.apply(*events)
            await here.check()
            rows = await here.rows()
            assert rows["fast"]["parsed"] == {"title": "version 19"}
            if size > 1:
                assert rows["item-000"]["id"] == pks["item-000"]


@in_loop
async def test_one_message_may_hold_several_changes() -> None:
    here = await site(3)
    one, two = here.service.publish("one"), here.service.publish("two")
    here.service.retract("item-001")
    changes = (Publish(item=one), Retract(id="item-001"), Publish(item=two))
    await here.apply(PubsubEvent(sender=ADDRESS.service, node=ADDRESS.name, kind="items", changes=changes))
    await here.check()


@in_loop
async def test_purge_within_a_batch() -> None:
    here = await site(3)
    early = publish_event(here.service.publish("early"))
    for name in here.service.ids():
        here.service.retract(name)
    async with recorded_signals() as received:
        await here.apply(early, node_event("purge"), publish_event(here.service.publish("late")), retract_event("x"))
    await here.check()
    assert received == [("purged", None), ("published", ["late"]), ("retracted", ["x"])]


@in_loop
async def test_purge_also_forgets_evicted_items() -> None:
    here = await site(3)
    await in_thread(evict)(PubsubNode.objects.filter(pk=here.pk))
    await here.apply(node_event("purge"))
    here.service.nodes[ADDRESS].items.clear()
    await here.check()


@in_loop
async def test_deleted() -> None:
    here = await site(3)
    async with recorded_signals() as received:
        await here.apply(publish_event(make_item("a")), node_event("delete"), publish_event(make_item("b")))
    assert not await in_thread(PubsubNode.objects.exists)()
    assert not await in_thread(PubsubItem.objects.exists)()
    assert not await in_thread(PendingUnsubscription.objects.exists)()
    assert received == [("deleted", None)]
    await here.apply(publish_event(make_item("c")))
    assert here.applier.dropped == {"unknown node": 1}


@in_loop
async def test_items_without_a_payload_are_fetched() -> None:
    here = await site(3)
    here.service.publish("new")
    here.service.publish("item-001", "edited")
    bare = [make_item("new"), make_item("item-001"), make_item("gone since")]
    await here.apply(publish_event(*bare, has_payload=False), publish_event(here.service.publish("whole")))
    await here.check()
    assert [request.item_ids for request in here.service.asked()] == [("gone since", "item-001", "new")]
    assert not here.invalidated


@in_loop
async def test_items_that_cannot_be_fetched_invalidate_the_node() -> None:
    here = await site(3)
    before = await here.rows()
    here.service.errors["get_items"] = ServiceUnreachable("away")
    await here.apply(publish_event(make_item("new"), has_payload=False))
    assert await here.rows() == before
    assert here.invalidated == [here.pk]
    assert (await here.row()).checked_at is None


STRANGERS: list[tuple[dict[str, Any], str]] = [
    ({"sender": "evil.example.net"}, "unknown node"),
    ({"sender": "alice@example.org"}, "unknown node"),
    ({"sender": "sub." + ADDRESS.service}, "unknown node"),
    ({"sender": ADDRESS.service + "/resource"}, "full JID"),
    ({"sender": "not a jid"}, "malformed sender"),
    ({"sender": ""}, "unknown node"),
    ({"node": "another"}, "unknown node"),
    ({"node": ""}, "unknown node"),
]


@pytest.mark.parametrize(("more", "reason"), STRANGERS)
@in_loop
async def test_notifications_of_strangers_are_counted_and_dropped(more: dict[str, Any], reason: str) -> None:
    here = await site(3)
    before = await here.rows()
    await here.apply(
        publish_event(make_item("item-000", "forged"), **more),
        retract_event("item-001", **more),
        node_event("purge", **more),
        node_event("delete", **more),
        node_event("configuration", **more),
        node_event("subscription", subscription="none", **more),
    )
    assert await here.rows() == before
    assert here.applier.dropped == {reason: 6}
    assert not here.invalidated
    node = await here.row()
    assert node.subscribed
    assert node.checked_at is not None


@in_loop
async def test_the_sender_is_compared_as_a_jid() -> None:
    here = await site(3)
    await here.apply(publish_event(here.service.publish("new"), sender=ADDRESS.service.upper() + "."))
    await here.check()


@in_loop
async def test_same_node_of_another_account_is_not_changed() -> None:
    here = await site(3)
    bob = await in_thread(Account.objects.create)(jid="bob@example.org")
    theirs = await _make_node(ADDRESS, account=bob)
    await sync_node(here.service, theirs)
    await here.apply(publish_event(make_item("new")), retract_event("item-000"))
    assert await in_thread(PubsubItem.objects.filter(node_id=theirs).count)() == 3


@pytest.mark.parametrize("state", [None, "NO_SYNC", "ERROR"])
@in_loop
async def test_node_that_is_not_in_sync_ignores_notifications(state: str | None) -> None:
    here = await site(0)
    await in_thread(PubsubNode.objects.filter(pk=here.pk).update)(sync_state=state)
    await here.apply(publish_event(make_item("new")))
    assert await here.names() == []
    assert here.applier.dropped == {"node not synchronised": 1}


@in_loop
async def test_nodes_of_a_batch_are_kept_apart() -> None:
    here = await site(2)
    here.service.fill(2, OTHER)
    other = await _make_node(OTHER)
    await sync_node(here.service, other)
    await here.apply(
        publish_event(here.service.publish("a")),
        publish_event(here.service.publish("b", address=OTHER), address=OTHER),
        retract_event("item-000", address=OTHER),
        publish_event(here.service.publish("c")),
    )
    here.service.retract("item-000", OTHER)
    await here.check()
    assert await Site(here.service, other).names() == here.service.ids(OTHER) == ["item-001", "b"]


@pytest.mark.parametrize(
    "event",
    [
        node_event("configuration"),
        node_event("subscription", subscription="none", subscriber=ALICE),
        node_event("subscription", subscription="subscribed", subscriber="ALICE@example.org/home"),
        publish_event(unreadable="an item was too large"),
    ],
)
@in_loop
async def test_notification_of_a_larger_change_invalidates_the_node(event: PubsubEvent) -> None:
    here = await site(2)
    await here.apply(event)
    assert here.invalidated == [here.pk]
    node = await here.row()
    assert node.checked_at is None
    assert node.subscribed == (event.subscription != "none")
    await here.check()


@pytest.mark.parametrize("subscriber", ["bob@example.org", "no jid"])
@in_loop
async def test_subscription_of_another_user_is_ignored(subscriber: str) -> None:
    here = await site(2)
    await here.apply(node_event("subscription", subscription="none", subscriber=subscriber))
    assert (await here.row()).subscribed
    assert not here.invalidated


@in_loop
async def test_item_that_cannot_be_parsed_is_kept() -> None:
    here = await site(2)
    await here.apply(publish_event(here.service.publish("bad", "unparsable")), publish_event(here.service.publish("b")))
    await here.check()
    rows = await here.rows()
    assert (rows["bad"]["parsed"], rows["bad"]["parse_error"]) == (None, "ValueError: no title")
    await here.apply(publish_event(here.service.publish("bad", "good")))
    assert (await here.rows())["bad"]["parse_error"] == ""


@in_loop
async def test_item_with_an_id_too_long_for_indexes_blocks_nothing() -> None:
    here = await site(2)
    dice = random.Random(1)
    name = "".join(chr(dice.randrange(0x4E00, 0x9FFF)) for _ in range(1500))
    await here.apply(publish_event(here.service.publish(name)))
    assert here.invalidated == []
    assert (await here.row()).evicted_count == 1
    here.service.retract(name)
    await here.apply(retract_event(name), publish_event(here.service.publish("next")))
    await here.check()


@in_loop
async def test_repeated_notification_changes_nothing() -> None:
    here = await site(3)
    before = await here.rows()
    async with recorded_signals() as received:
        item = next(item for _, item in here.service.nodes[ADDRESS].items.values() if item.id == "item-002")
        await here.apply_apart(publish_event(item), publish_event(item, delayed=True))
    after = await here.rows()
    for row in (*before.values(), *after.values()):
        row.pop("revision")
    assert after == before
    assert received == []


@in_loop
async def test_delayed_notification_does_not_overwrite_newer_items() -> None:
    """The last item, sent on subscription or presence, may have been edited or retracted since."""
    here = await site(3)
    old = here.service.publish("item-002", "old")
    gone = here.service.publish("gone")
    edited = here.service.publish("item-002", "edited")
    here.service.retract("gone")
    await here.apply(publish_event(edited))
    await here.apply_apart(publish_event(old, delayed=True), publish_event(gone, delayed=True))
    await here.check()
    here.service.requests.clear()
    await here.apply(publish_event(edited, delayed=True))
    await here.check()
    assert here.service.requests == []
    await here.apply(publish_event(here.service.publish("new"), delayed=True))
    await here.check()
    assert not here.invalidated


@pytest.mark.parametrize("delayed", [False, True])
@in_loop
async def test_repeated_notification_invalidates_nothing_where_edits_keep_their_place(delayed: bool) -> None:
    here = await site(3, moves_edited=False)
    await here.apply(publish_event(edited := here.service.publish("item-000", "edited")))
    await check_ids(here.service, here.pk)
    here.unchecked.clear()
    await here.apply(publish_event(edited, delayed=delayed))
    assert not here.unchecked
    await here.check()


# The order that services give


@pytest.mark.parametrize("moves", [False, True])
@in_loop
async def test_position_of_edited_items_is_learned(moves: bool) -> None:
    here = await site(4, moves_edited=moves)
    await here.apply(publish_event(here.service.publish("item-001", "edited")))
    assert here.unchecked == [here.pk]
    assert await check_ids(here.service, here.pk)
    await here.check()
    assert (await here.row()).moves is moves
    here.unchecked.clear()
    here.service.requests.clear()
    await here.apply(publish_event(here.service.publish("item-000", "edited")))
    await here.check()
    assert here.unchecked == ([here.pk] if moves else [])  # an assumed move is checked
    assert here.service.requests == []
    await in_thread(lambda: PubsubNode.objects.filter(pk=here.pk).delete())()
    pk = (await in_thread(nodes.get_or_create_node)(ALICE, OTHER)).pk
    assert (await in_thread(PubsubNode.objects.get)(pk=pk)).moves is None  # there is no other node to learn from
    pk = await _make_node(ADDRESS, moves=moves)
    await in_thread(PubsubNode.objects.filter(name=OTHER.name).delete)()
    learnt = await in_thread(nodes.get_or_create_node)(ALICE, OTHER)
    assert learnt.moves is moves


@in_loop
async def test_edit_of_the_last_item_is_not_conclusive() -> None:
    here = await site(3, moves_edited=True)
    await here.apply(publish_event(here.service.publish("item-002", "edited")))
    assert not here.unchecked
    await here.check()


@pytest.mark.parametrize("manners", [{"paging": "opaque"}, {"paging": "ids", "newest_first": True}, {}])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("size", [0, 1, 30])
@in_loop
async def test_notifications_out_of_order_end_in_the_order_of_the_service(
    size: int, apart: bool, manners: dict[str, Any]
) -> None:
    """ejabberd does this with items that are published at the same moment."""
    here = await site(size, **manners)
    events = [publish_event(here.service.publish(f"new-{number}")) for number in range(4)]
    for event in (events[2], events[0], events[3], events[1]):
        await here.apply(event)
        if apart and event is not events[1]:
            await here.checked()
    assert await check_ids(here.service, here.pk)
    await here.check()
    before = await here.rows()
    with override_settings(PUBSUBCACHE_PAGE_SIZE=1):  # too many for a look at the newest alone
        await here.apply(*(publish_event(here.service.publish(f"more-{number}")) for number in range(6)))
        assert await check_ids(here.service, here.pk)
    await here.check()
    assert {name: row["id"] for name, row in (await here.rows()).items()}.items() >= {
        name: row["id"] for name, row in before.items()
    }.items()


@in_loop
async def test_new_items_take_few_requests_to_check() -> None:
    here = await site(300, paging="opaque")
    for number in range(3):
        await here.apply(publish_event(here.service.publish(f"new-{number}")))
        here.service.requests.clear()
        assert await check_ids(here.service, here.pk)
        assert [request.max_items or request.rsm for request in here.service.asked()] == [Rsm(max=0), 1, 2]
    await here.apply(*(publish_event(here.service.publish(f"burst-{number}")) for number in range(9)))
    here.service.requests.clear()
    assert await check_ids(here.service, here.pk)
    assert [request.max_items or request.rsm for request in here.service.asked()] == [Rsm(max=0), 1, 10]
    await here.check()


@in_loop
async def test_limit_is_learned() -> None:
    """The service keeps the newest five items, and does not notify which ones it drops."""
    here = await site(5)

    async def publish(name: str) -> None:
        event = publish_event(here.service.publish(name))
        here.service.retract(here.service.ids()[0])
        await here.apply(event)

    for number in range(3):
        await publish(f"new-{number}")
        while not await check_ids(here.service, here.pk):
            pass
        await here.check()
    assert (await here.row()).traits.limit == 5
    here.service.requests.clear()
    await publish("next")
    await here.check()
    assert here.service.requests == []
    here.service.publish("a sixth")
    await here.apply(publish_event(here.service.publish("a seventh")))
    while not await check_ids(here.service, here.pk):
        pass
    await here.check()
    assert (await here.row()).traits.limit is None


@pytest.mark.parametrize("evicted", [False, True])
@in_loop
async def test_silent_retraction_is_not_taken_for_a_limit(evicted: bool) -> None:
    here = await site(8)
    if evicted:
        rows = await here.rows()
        old = rows["item-005"]["created"] + timedelta(seconds=1)
        await in_thread(PubsubItem.objects.filter(name__lt="item-005").update)(created=old - timedelta(days=1))
        await in_thread(evict)(PubsubNode.objects.filter(pk=here.pk), created_before=old - timedelta(hours=1))
        here.service.retract("item-005")
    else:
        here.service.retract("item-000")
    await sync_node(here.service, here.pk)
    await here.apply(publish_event(here.service.publish("new")))
    node = await here.row()
    assert node.item_count + node.evicted_count == len(here.service.ids())


@in_loop
async def test_evicted_item_is_stored_again_when_edited() -> None:
    here = await site(4)
    await in_thread(evict)(PubsubNode.objects.filter(pk=here.pk))
    node = await here.row()
    assert (node.item_count, node.evicted_count) == (0, 4)
    await here.apply(publish_event(here.service.publish("item-001", "edited")))
    await here.apply(retract_event("item-002"))
    here.service.retract("item-002")
    node = await here.row()
    assert (node.item_count, node.evicted_count) == (1, 2)
    assert await check_ids(here.service, here.pk)
    await sync_node(here.service, here.pk, fetch_evicted=True)
    await here.check()


# Overflow and database failures


@in_loop
async def test_node_that_fills_the_queue_loses_its_notifications_and_is_invalidated() -> None:
    with patch.object(notifications, "MAX_EVENTS", 3):
        here = await site(0)
        await here.apply(*(publish_event(here.service.publish(f"n{number}")) for number in range(5)))
    assert here.invalidated == [here.pk]
    assert (await here.row()).checked_at is None
    assert not here.overflows
    assert here.applier.dropped == {"overflow": 3}
    assert await here.names() == ["n3", "n4"]


class Failing:
    """Makes the database refuse a number of writes."""

    def __init__(self, times: int, word: str = "INSERT") -> None:
        self.times = times
        self.word = word

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.lstrip().startswith(self.word) and "pubsubcache_pubsubitem" in sql and self.times:
            self.times -= 1
            raise OperationalError("the server closed the connection unexpectedly")
        return execute(sql, params, many, context)


@asynccontextmanager
async def refusing(failing: Failing) -> AsyncIterator[None]:
    await in_thread(lambda: connection.execute_wrappers.append(failing))()
    yield
    await in_thread(lambda: connection.execute_wrappers.remove(failing))()


@in_loop
async def test_events_wait_while_the_database_is_unavailable() -> None:
    here = await site(2)
    async with refusing(Failing(2)):
        await here.apply(publish_event(here.service.publish("new")), retract_event("item-000"))
    here.service.retract("item-000")
    await here.check()
    assert not here.invalidated


@in_loop
async def test_batch_the_database_always_refuses_invalidates_the_node_and_is_dropped() -> None:
    here = await site(2)
    failing = Failing(1000)
    async with refusing(failing):
        await here.apply(publish_event(here.service.publish("new")))
    assert here.invalidated == [here.pk]
    assert failing.times == 995
    await here.apply(publish_event(here.service.publish("next")))
    assert "next" in await here.names()


@in_loop
async def test_failing_receiver_does_not_affect_notifications() -> None:
    def fail(**rest: Any) -> None:
        raise ZeroDivisionError

    items_published.connect(fail)
    try:
        here = await site(2)
        await here.apply(publish_event(here.service.publish("new")))
        await here.check()
        assert not here.invalidated
    finally:
        items_published.disconnect(fail)


@in_loop
async def test_times_are_those_of_the_cache() -> None:
    begun = timezone.now()
    here = await site(1)
    await here.apply(publish_event(here.service.publish("new")))
    for row in (await here.rows()).values():
        assert begun <= row["created"] <= row["updated"] <= timezone.now()
