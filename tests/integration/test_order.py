"""Test that the cache has the service's order after any sequence of notifications, walks and lost sessions.

Some services move edited items to the end. The cache learns which ones do, and only from conclusive changes.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.test import override_settings

from pubsubcache.analysers import registry
from pubsubcache.cache import Freshness, freshness
from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.store import in_thread
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.syncing.notifications import EventApplier
from pubsubcache.syncing.revalidation import check_ids
from pubsubcache.types import PubsubEvent
from pubsubcache.utils import clock
from tests.fakes import ADDRESS, FakeService, in_loop, note_analyser, publish_event, retract_event

pytestmark = pytest.mark.django_db

ALICE = "alice@example.org"
SETTINGS = {"PUBSUBCACHE_PAGE_SIZE": 2, "PUBSUBCACHE_LEASE_TIMEOUT": 3600.0}
SERVICES: dict[str, dict[str, Any]] = {
    "pages": {"paging": "opaque"},
    "pages, newest first": {"paging": "ids", "newest_first": True},
    "lists ids": {},
    "lists ids newest first": {"disco": "reversed"},
    "pages, moves edited": {"paging": "opaque", "moves_edited": True},
    "lists ids newest first, moves edited": {"disco": "reversed", "moves_edited": True},
}
STEPS = [
    *["edit"] * 6, "same", "same", "new", "new", "retract", "walk", "cut", "break", *["check"] * 4, *["unlearn"] * 3,
]  # fmt: skip


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    with registry.temporarily(note_analyser(), replace=True), override_settings(**SETTINGS):
        yield


@dataclass
class Followed:
    """A node that a worker follows, and its service.

    Notifications wait in `late` until `delivered`, or until the next request: they come before its answer.
    """

    service: FakeService
    pk: int
    late: list[PubsubEvent] = field(default_factory=list)
    unchecked: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.applier = EventApplier(ALICE, self.service, self.unchecked.append)
        self.applier.open()
        self.service.hook = lambda *asked: self.deliver()

    def deliver(self) -> None:
        """Deliver the waiting notifications."""
        for event in self.late:
            self.applier.feed(event)
        self.late.clear()

    async def delivered(self) -> None:
        """Deliver the waiting notifications, and return once they are stored."""
        self.deliver()
        await self.applier.join()

    def publish(self, name: str, title: str = "") -> None:
        """Publish an item, or replace it."""
        self.late.append(publish_event(self.service.publish(name, title)))

    def retract(self, name: str) -> None:
        """Retract an item."""
        self.service.retract(name)
        self.late.append(retract_event(name))

    async def check(self) -> None:
        """Run id checks until the node is fresh; assert that it equals the service's, including the order."""
        await self.delivered()
        for _ in range(20):
            if not self.unchecked and await self.freshness() is Freshness.FRESH:
                break
            self.unchecked.clear()
            if not await check_ids(self.service, self.pk, self.applier.join):
                self.unchecked.append(self.pk)
        assert await self.freshness() is Freshness.FRESH
        assert await self.stored() == list(self.service.xml().items())

    async def check_now(self) -> None:
        """Assert that the node is not fresh, or equals the service's even without another check."""
        assert await self.freshness() is Freshness.MISS or await self.stored() == list(self.service.xml().items())

    async def cut(self, requests: int) -> None:
        """Start a walk that is cancelled after this number of requests for items."""
        walk = asyncio.create_task(sync_node(self.service, self.pk, drain=self.applier.join))
        left = iter(range(requests))

        def cancel(service: FakeService, method: str, argument: Any) -> None:
            self.deliver()
            if method == "get_items" and next(left, None) is None:
                walk.cancel()

        self.service.hook = cancel
        with suppress(asyncio.CancelledError):
            await walk
        self.service.hook = lambda *asked: self.deliver()

    @in_thread
    def begin_session(self) -> None:
        """Start a session that does not resume the last one, so its pending notifications are lost."""
        self.late.clear()
        account = Account.objects.get(jid=ALICE)
        account.fencing_token += 1
        account.save()

    async def sync(self) -> None:
        """Synchronise the node."""
        await sync_node(self.service, self.pk, drain=self.applier.join)

    @in_thread
    def row(self) -> PubsubNode:
        return PubsubNode.objects.get(pk=self.pk)

    @in_thread
    def freshness(self) -> Freshness:
        return freshness(PubsubNode.objects.select_related("account").get(pk=self.pk))

    @in_thread
    def stored(self) -> list[tuple[str, str]]:
        return list(PubsubItem.objects.filter(node_id=self.pk).in_order().values_list("name", "data"))

    @in_thread
    def learn(self, moves: bool | None) -> None:
        """Set whether the cache assumes that the service moves edited items to the end; None for unknown."""
        node = PubsubNode.objects.get(pk=self.pk)
        node.moves = moves
        node.save()

    async def moves(self) -> bool | None:
        """Return whether the cache has learned that edited items move."""
        return (await self.row()).moves


@asynccontextmanager
async def followed(size: int = 5, **manners: Any) -> AsyncIterator[Followed]:
    """Provide a node with `size` items that a worker follows and has not synchronised yet."""
    service = FakeService(**manners)
    service.fill(size)
    held = {"worker": "w", "status": Account.Status.ONLINE, "heartbeat": await in_thread(clock.now)()}
    account = await in_thread(Account.objects.create)(jid=ALICE, **held)
    judgement = {"registry_fingerprint": registry.fingerprint(), "to_sync": True}
    make = in_thread(PubsubNode.objects.create)
    node = await make(account=account, service=ADDRESS.service, name=ADDRESS.name, analyser="note", **judgement)
    here = Followed(service, node.pk)
    task = asyncio.create_task(here.applier.run())
    try:
        yield here
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def synced(size: int = 5, **manners: Any) -> AsyncIterator[Followed]:
    """Provide a node with `size` items that is in sync."""
    async with followed(size, **manners) as here:
        await here.sync()
        await here.check()
        yield here


MANNERS = pytest.mark.parametrize("manners", SERVICES.values(), ids=SERVICES)


@MANNERS
@in_loop
async def test_edit_of_an_item_that_no_walk_listed_is_not_conclusive(manners: dict[str, Any]) -> None:
    """The first walk is interrupted, so an old item seems new and follows an item that was published before it."""
    async with followed(8, **manners) as here:
        await here.cut(3)
        for number, name in enumerate(("new", "item-006", "new")):
            here.publish(name, f"version {number}")
            await here.delivered()
        await here.begin_session()
        await here.sync()
        assert await here.moves() in (None, here.service.moves_edited)
        await here.check()
        here.publish("item-001", "edited")
        await here.check()
        assert await here.moves() is here.service.moves_edited
        here.publish("item-002", "edited")
        await here.check()


@MANNERS
@pytest.mark.parametrize("apart", [False, True])
@in_loop
async def test_edits_of_two_items_before_one_check(apart: bool, manners: dict[str, Any]) -> None:
    """The second edited item follows the first one."""
    async with synced(4, **manners) as here:
        for name in ("item-002", "item-003"):
            here.publish(name, "edited")
            if apart:
                await here.delivered()
        await here.check()
        assert await here.moves() in (None, here.service.moves_edited)


@MANNERS
@pytest.mark.parametrize("again", ["edited", "edited again"])
@in_loop
async def test_item_edited_or_notified_twice(again: str, manners: dict[str, Any]) -> None:
    """A client's own writes are stored before their notifications arrive."""
    async with synced(4, **manners) as here:
        for title in ("edited", again):
            here.publish("item-001", title)
            await here.delivered()
        await here.check()
        assert await here.moves() is here.service.moves_edited


@MANNERS
@in_loop
async def test_item_edited_retracted_and_published_again(manners: dict[str, Any]) -> None:
    async with synced(4, **manners) as here:
        here.publish("item-001", "edited")
        await here.delivered()
        here.retract("item-001")
        await here.delivered()
        here.publish("item-001", "published again")
        await here.check()
        assert await here.moves() is None


@MANNERS
@pytest.mark.parametrize("name", ["item-000", "item-003", "item-005"])
@in_loop
async def test_edit_after_the_last_page_was_read(name: str, manners: dict[str, Any]) -> None:
    async with synced(6, **manners) as here:

        async def edit(service: FakeService, method: str, argument: Any) -> None:
            if method == "get_node_metadata":  # between the walk and its end
                here.publish(name, "edited")
            await here.delivered()

        here.service.hook = edit
        await here.sync()
        await here.check_now()
        await here.check()
        assert await here.moves() in (None, here.service.moves_edited)


@MANNERS
@in_loop
async def test_item_published_again_unchanged_after_the_last_page(manners: dict[str, Any]) -> None:
    async with synced(6, **manners) as here:

        async def publish(service: FakeService, method: str, argument: Any) -> None:
            if method == "get_node_metadata":
                here.publish("item-001")
            await here.delivered()

        here.service.hook = publish
        await here.sync()
        await here.check_now()
        await here.check()


@MANNERS
@pytest.mark.parametrize("is_checked", [False, True])
@in_loop
async def test_edit_before_a_break_is_not_conclusive(is_checked: bool, manners: dict[str, Any]) -> None:
    """The following item is edited during the break. An id check may come before the synchronisation."""
    async with synced(4, **manners) as here:
        here.publish("item-002", "edited")
        await here.delivered()
        here.publish("item-003", "edited without a notification")
        await here.begin_session()
        if is_checked:
            await check_ids(here.service, here.pk, here.applier.join)
        await here.sync()
        await here.check()
        assert await here.moves() in (None, here.service.moves_edited)


@MANNERS
@in_loop
async def test_edit_at_the_start_of_a_walk_after_a_break_is_not_conclusive(manners: dict[str, Any]) -> None:
    """The item was retracted and published again during the break."""
    async with synced(4, **manners) as here:
        here.retract("item-001")
        here.publish("item-001", "published again")
        await here.begin_session()

        async def edit(service: FakeService, method: str, argument: Any) -> None:
            if method == "subscribe":
                here.publish("item-001", "edited")
            await here.delivered()

        here.service.hook = edit
        await here.sync()
        await here.check()
        assert await here.moves() is None


@MANNERS
@in_loop
async def test_edit_of_an_item_notified_out_of_order(manners: dict[str, Any]) -> None:
    async with synced(4, **manners) as here:
        for name in ("one", "two"):
            here.publish(name)
        here.late.reverse()
        await here.delivered()
        here.publish("two", "edited")
        await here.check()
        assert await here.moves() is None


@MANNERS
@in_loop
async def test_last_item_edited_right_after_a_new_one(manners: dict[str, Any]) -> None:
    async with synced(4, **manners) as here:
        await here.learn(here.service.moves_edited)
        here.publish("new")
        here.publish("item-003", "edited")
        await here.delivered()
        await here.check_now()
        await here.check()


@MANNERS
@in_loop
async def test_items_published_again_unchanged(manners: dict[str, Any]) -> None:
    async with synced(4, **manners) as here:
        await here.learn(here.service.moves_edited)
        for name in ("item-001", "item-003"):
            here.publish(name)
            await here.delivered()
            await here.check_now()
        await here.check()


@MANNERS
@in_loop
async def test_item_retracted_silently_and_published_again(manners: dict[str, Any]) -> None:
    """This looks like an edit that moved its item; later edits show that it was not."""
    async with synced(6, **manners) as here:
        here.service.retract("item-001")
        for name in ("item-001", "item-002", "item-000", "item-003"):
            here.publish(name, "again")
            await here.check()
        assert await here.moves() is here.service.moves_edited


@MANNERS
@in_loop
async def test_wrongly_learned_behaviour_is_corrected(manners: dict[str, Any]) -> None:
    async with synced(6, **manners) as here:
        await here.learn(not here.service.moves_edited)
        here.publish("item-001", "edited")
        here.publish("new")
        await here.check()
        assert await here.moves() is None
        here.publish("item-002", "edited")
        await here.check()
        assert await here.moves() is here.service.moves_edited


@pytest.mark.parametrize("paging", ["none", "opaque"])
@in_loop
async def test_edit_assumed_to_move_its_item_is_checked_at_once(paging: Any) -> None:
    async with synced(6, paging=paging) as here:
        await here.learn(True)
        here.publish("item-001", "edited")
        await here.check()


@in_loop
async def test_edit_that_keeps_its_place_takes_few_requests_to_learn() -> None:
    async with synced(60, paging="opaque") as here:
        here.publish("item-001", "edited")
        here.service.requests.clear()
        await here.check()
        assert await here.moves() is False
        assert len(here.service.asked()) == 3
        here.service.requests.clear()
        here.publish("item-000", "edited")
        await here.check()
        assert here.service.requests == []


@MANNERS
@pytest.mark.parametrize("seed", range(6))
@in_loop
async def test_any_sequence(seed: int, manners: dict[str, Any]) -> None:
    """Random changes, late notifications, complete and cancelled walks, lost sessions, and resets of learned facts."""
    dice = random.Random(seed)
    silent = seed % 3 == 0  # retractions without notification; in other runs, what is learned is true
    async with synced(dice.choice([3, 6, 9]), **manners) as here:

        async def check_all() -> None:
            if silent:
                await here.sync()
            await here.check()
            assert silent or await here.moves() in (None, here.service.moves_edited)

        for number in range(30):
            names = here.service.ids()
            match dice.choice(STEPS):
                case "edit":
                    for name in dice.choices(names[-3:] + names, k=dice.randrange(1, 4)):
                        here.publish(name, f"edited {number}")
                case "same":
                    name = dice.choice(names)
                    here.late.append(publish_event(here.service.publish(name, title_of(here.service, name))))
                case "new":
                    here.publish(f"new-{number}")
                case "retract" if len(names) > 2:
                    name = dice.choice(names)
                    here.retract(name)
                    if silent:
                        here.late.pop()
                    if silent or dice.random() < 0.5:
                        here.publish(name, f"again {number}")
                case "unlearn":
                    await here.learn(None)
                case "walk":
                    await here.sync()
                case "cut":
                    await here.cut(dice.randrange(4))
                case "break":
                    await here.begin_session()
                    await here.sync()
                case "check":
                    await check_all()
            if dice.random() < 0.6:
                await here.delivered()
        await check_all()


def title_of(service: FakeService, name: str) -> str:
    """Return the title of an item."""
    return service.nodes[ADDRESS].items[name][1].element[0][0].text or ""
