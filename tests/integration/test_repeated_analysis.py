"""Test that nodes are analysed again when their content changes, and that each item is parsed by a fitting parser."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from unittest.mock import patch
from xml.etree.ElementTree import Element

import pytest
from django.utils import timezone

from pubsubcache import cache
from pubsubcache.analysers import Analyser, Analysis, registry
from pubsubcache.models import Account, PendingUnsubscription, PubsubItem, PubsubNode
from pubsubcache.parsers import ParseContext
from pubsubcache.parsers.schema import Schema, reads
from pubsubcache.parsers.shapes import WORDS, Shape, words
from pubsubcache.search import search
from pubsubcache.services.sessions import sessions
from pubsubcache.store import choose_analyser, in_thread, nodes, reparsing, scheduling, set_policy
from pubsubcache.store.leases import Lease
from pubsubcache.syncing import analysis
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.syncing.notifications import EventApplier
from pubsubcache.syncing.revalidation import revalidate
from pubsubcache.types import Item, ItemsPage, ItemsRequest, NodeAddress, PubsubEvent
from tests.fakes import FakeNode, FakeService, in_loop, make_item, publish_event

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

ALICE, BOB = "alice@example.org", "bob@example.org"
HERE = NodeAddress("pubsub.example.org", "a node")
POST, EVENT = "urn:example:post", "urn:example:event"
samples: list[str] = []  # ids of the samples that `match_cb` got


def analyser(name: str, **options: Any) -> Analyser:
    """Create an analyser whose parser has a schema."""
    namespace = f"urn:example:{name}"
    shape = Shape("note", namespace, children=words("title", once=True), attributes={"lang": WORDS})

    @reads(Schema(title=name, about="", payloads=(shape,), keys=()))
    def parse(item: Element, context: ParseContext) -> dict[str, Any]:
        title = item.findtext(f"{{{namespace}}}note/{{{namespace}}}title")
        if title is None:
            raise ValueError(f"This is no {name}.")
        return {name: title}

    fields = {"name": name, "type": name, "namespace": namespace, "to_sync": True, "parser": parse}
    return Analyser(**(fields | options))


def note_sample(analysis: Analysis) -> None:
    samples.append("" if analysis.item is None else analysis.item.get("id", ""))


def kinds(*, post: Any = None, event: Any = None) -> list[Analyser]:
    """Create analysers of posts, of events, and of avatars, which match by the name of the node alone."""
    return [
        analyser("avatar", namespace=None, node="avatars"),
        analyser("post", **{"match_cb": note_sample} | (post or {})),
        analyser("event", **{"match_cb": note_sample} | (event or {})),
    ]


def registered(**options: Any) -> Any:
    return registry.temporarily(*kinds(**options), replace=True)


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    samples.clear()
    Account.objects.create(jid=ALICE)
    with registered():
        yield


def titled(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse any item, without a schema."""
    return {"as": "event", "id": item.get("id")}


class Here:
    """A node at a service, with the applier of its notifications for an account."""

    def __init__(self, *items: str, account: str = ALICE) -> None:
        self.account = account
        self.service = FakeService(nodes={HERE: FakeNode()})
        self.woken: list[int] = []
        self.applier = EventApplier(account, self.service, on_invalidated=self.woken.append)
        self.publish(*items)

    def publish(self, *items: str) -> list[Item]:
        """Publish items with ids such as "post 1", which name their kind."""
        return [self.service.publish(name, address=HERE, namespace=namespace(name)) for name in items]

    async def read(self, **options: Any) -> ItemsPage:
        with sessions.offered(self.account, self.service):
            return await cache.get_items(self.account, HERE.service, HERE.name, **options)

    async def notify(self, *items: str) -> None:
        """Publish items and apply their notification."""
        await self.apply(publish_event(*self.publish(*items), address=HERE))

    async def apply(self, *events: PubsubEvent) -> None:
        for event in events:
            self.applier.feed(event)
        task = asyncio.create_task(self.applier.run())
        await self.applier.join()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def row(self) -> PubsubNode:
        return await in_thread(PubsubNode.objects.get)(account__jid=self.account, name=HERE.name)

    async def kind(self) -> tuple[str, str | None, str | None]:
        """Return the analyser of the node, its sync state and its sample namespace."""
        node = await self.row()
        assert (node.type, node.sync_error) == (node.analyser, node.analysis_reason if node.sync_error else "")
        return node.analyser, node.sync_state, node.sample_namespace

    async def sync(self) -> None:
        await sync_node(self.service, (await self.row()).pk)
        self.service.requests.clear()

    @in_thread
    def parsed(self) -> dict[str, Any]:
        rows = PubsubItem.objects.filter(node__account__jid=self.account).in_order()
        return {row.name: row.parse_error or row.parsed for row in rows}

    async def synced(self) -> None:
        """Read the node and synchronise it."""
        await self.read()
        await self.sync()
        assert (await self.row()).sync_state == "COMPLETED"
        samples.clear()


@in_thread
def names_found(**options: Any) -> list[str]:
    return [item.id for item in search(**options)]


def namespace(item_id: str) -> str:
    return f"urn:example:{item_id.split()[0]}"


def several(kind: str, count: int, start: int = 1) -> list[str]:
    return [f"{kind} {number}" for number in range(start, start + count)]


def as_they_are(*item_ids: str) -> dict[str, Any]:
    """Return the parsed data of items, each parsed as its own kind."""
    rest = {"rest": [], "rest_truncated": False}
    return {item_id: {item_id.split()[0]: f"Title of {item_id}"} | rest for item_id in item_ids}


PARSED = as_they_are("post 1", "avatar 1")
WAITS, NOT = None, "NO_SYNC"
POSTS, EVENTS, NOTHING = ("post", "COMPLETED", POST), ("event", "COMPLETED", EVENT), ("", NOT, "")


# Reading


@pytest.mark.parametrize("newest", ["avatar 1", "unknown 1", "event 1"])
@in_loop
async def test_single_odd_item_does_not_choose_the_analyser(newest: str) -> None:
    here = Here(*several("post", 3), newest)
    page = await here.read()
    assert (page.state, len(here.service.requests), samples) == (WAITS, 1, ["post 3"])
    assert {item.id: item.parsed for item in page.items[:3]} == as_they_are(*several("post", 3))
    await here.sync()
    assert await here.kind() == POSTS
    assert await names_found(fts='"Title of post 2"', types=["post"]) == ["post 2"]


@in_loop
async def test_each_item_is_parsed_by_the_analyser_that_fits() -> None:
    here = Here("post 1", "post 2", "avatar 1", "event 1", "unknown 1")
    page = await here.read()
    expected: dict[str, Any] = as_they_are("post 1", "post 2", "avatar 1", "event 1")
    assert {item.id: item.parsed for item in page.items} == expected | {"unknown 1": None}
    await here.sync()
    expected["unknown 1"] = "ValueError: This is no post."
    assert await here.parsed() == expected
    await here.notify("avatar 2", "post 3")
    expected |= as_they_are("avatar 2", "post 3")
    assert await here.parsed() == expected
    assert await here.kind() == POSTS
    await in_thread(PubsubItem.objects.filter(name__in=["avatar 1", "post 1"]).update)(parsed={"wrong": 1})
    run = await in_thread(reparsing.start)({})
    outcome = await reparsing.reparse(run, PubsubNode.objects.all(), lambda done, total: None)
    assert (outcome.items, outcome.changed, outcome.errors) == (7, 2, 1)
    assert await here.parsed() == expected
    assert await names_found(parsed=[("avatar", "==", "Title of avatar 2")]) == ["avatar 2"]


@in_loop
async def test_items_of_a_node_without_a_row_are_parsed() -> None:
    here = Here("avatar 1", "unknown 1", "post 1", "post 2", "event 1")
    page = await here.read(use_cache=False)
    assert not await in_thread(PubsubNode.objects.exists)()
    assert [next(iter(item.parsed or {"": 0})) for item in page.items] == ["avatar", "", "post", "post", "event"]
    by_name = Analyser(name="named", type="named", node=HERE.name, parser=titled)
    with registry.temporarily(by_name, *kinds(), replace=True):
        page = await here.read(use_cache=False)
    assert [item.parsed["as"] for item in page.items] == ["event"] * 5
    here.publish("event 2", "event 3", "event 4")
    with registered(event={"parser": titled}):
        page = await here.read(use_cache=False)
    assert [item.parsed["as"] for item in page.items] == ["event"] * 8


@in_loop
async def test_items_of_a_node_without_an_analyser_are_parsed() -> None:
    here = Here("unknown 1", "avatar 1")
    await here.read()
    assert await here.kind() == NOTHING
    await in_thread(set_policy)(PubsubNode.objects.all(), "always")
    await here.sync()
    assert await here.parsed() == {"unknown 1": None, "avatar 1": PARSED["avatar 1"]}
    assert await here.kind() == ("", "COMPLETED", "")


@pytest.mark.parametrize(
    ("items", "options", "more", "found"),
    [
        (["post 1", "avatar 1"], {"max_items": 1}, 1, "post"),
        (["post 1", "avatar 1"], {"item_ids": ["avatar 1"]}, 1, "post"),
        (["unknown 1", "post 1"], {"rsm": {"max": 1}}, 1, "post"),
        (["unknown 1", "post 1"], {"rsm": {"max": 5, "before": "post 1"}}, 1, "post"),
        (["post 1", "unknown 1"], {"rsm": {"max": 5, "after": "post 1"}}, 1, "post"),
        (["post 1", "unknown 1"], {"rsm": {"index": 1}}, 1, "post"),
        (["post 1", "unknown 1"], {"rsm": {"max": 5}}, 0, "post"),
        (["post 1", "avatar 1"], {"max_items": 2}, 0, "post"),
        (["post 1", "avatar 1"], {}, 0, "post"),
        (["post 1", "event 1"], {"max_items": 1}, 0, "event"),
        (["unknown 1", "avatar 1"], {}, 0, ""),
        (["unknown 1", "avatar 1"], {"max_items": 3}, 0, ""),
        (["unknown 1", "avatar 1"], {"max_items": 1}, 1, ""),
        (several("unknown", 30), {"max_items": 20}, 0, ""),
        (several("unknown", 30), {"rsm": {"max": 25}}, 1, ""),
        (several("unknown", 30), {"rsm": {"max": 25, "before": ""}}, 0, ""),
        ([], {}, 0, ""),
    ],
)
@in_loop
async def test_newest_items_are_requested_only_if_the_page_does_not_suffice(
    items: list[str], options: dict[str, Any], more: int, found: str
) -> None:
    here = Here(*items)
    here.service.paging = "ids"
    await here.read(**options)
    assert (await here.row()).analyser == found
    assert here.service.asked()[1:] == [ItemsRequest(max_items=20)] * more
    here.service.requests.clear()
    with patch.object(cache, "analyse", side_effect=AssertionError("nothing has changed")):
        await here.read(**options)
    assert len(here.service.requests) == 1


@pytest.mark.parametrize("options", [{}, {"max_items": 1}, {"item_ids": ["post 1"]}])
@in_loop
async def test_empty_node_is_analysed_by_a_read_of_its_first_items(options: dict[str, Any]) -> None:
    here = Here()
    assert (await here.read()).state == NOT
    assert await here.kind() == NOTHING
    assert (await here.row()).sync_error == nodes.NO_ANALYSER
    here.publish("post 1")
    here.service.requests.clear()
    page = await here.read(**options)
    assert (page.state, page.items[0].parsed) == (WAITS, PARSED["post 1"])
    assert len(here.service.requests) == 1
    assert await here.kind() == ("post", WAITS, POST)
    assert samples == ["post 1"]
    await here.sync()
    page = await here.read()
    assert (page.origin, page.items[0].parsed) == ("cache", PARSED["post 1"])


@in_loop
async def test_node_that_is_not_kept_is_analysed_again_by_a_read_of_its_newest_items() -> None:
    with registered(post={"to_sync": False}):
        here = Here(*several("post", 5))
        await here.read()
        assert await here.kind() == ("post", NOT, POST)
        here.publish("event 1", "event 2", "event 3", "event 4")
        for options in ({}, {"max_items": 1}, {"item_ids": ["event 1"]}):
            await here.read(**options)
            assert await here.kind() == ("post", NOT, POST)
        here.publish(*several("event", 20, start=5))
        await here.read(max_items=5)
        assert await here.kind() == ("post", NOT, POST)
        await here.read(max_items=20)
        assert await here.kind() == ("event", WAITS, EVENT)


# Notifications of nodes that are not in sync


@in_loop
async def test_empty_node_is_analysed_by_a_notification_of_its_first_items() -> None:
    here = Here()
    await here.read()
    here.service.requests.clear()
    await here.notify("avatar 1")
    assert (await here.kind(), here.woken) == (NOTHING, [])
    await here.notify("post 1")
    node = await here.row()
    assert (await here.kind(), here.woken, samples) == (("post", WAITS, POST), [node.pk], ["post 1"])
    assert here.service.requests == []
    assert await in_thread(scheduling.due)(node.account_id, 9, token=0) == [node.pk]
    await here.sync()
    assert await here.parsed() == as_they_are("avatar 1", "post 1")
    assert samples == ["post 1"]


@in_loop
async def test_many_unknown_payloads_cause_no_analysis() -> None:
    here = Here()
    await here.read()
    here.service.requests.clear()
    with patch.object(analysis.matching, "analyse", side_effect=AssertionError("nothing has changed")):
        for number in range(5):
            items = [make_item(f"{number} {n}", namespace=f"urn:{number}:{n}") for n in range(500)]
            await here.apply(publish_event(*items, address=HERE))
            here.service.nodes[HERE].items |= {item.id: (number, item) for item in items}
            await here.read(max_items=20)
    assert await here.kind() == NOTHING
    assert here.applier.dropped == {"node not synchronised": 15}


@in_loop
async def test_notification_without_payload_causes_no_request() -> None:
    here = Here()
    await here.read()
    here.service.requests.clear()
    await here.apply(publish_event(*here.publish("post 1"), address=HERE, has_payload=False))
    assert here.service.requests == []


@in_loop
async def test_node_that_is_not_kept_keeps_its_analyser_whatever_is_notified() -> None:
    with registered(post={"to_sync": False}):
        here = Here("post 1")
        await here.read()
        await here.notify(*several("event", 30))
        assert await here.kind() == ("post", NOT, POST)


@pytest.mark.parametrize("policy", ["never", "always"])
@in_loop
async def test_policy_of_a_node_overrides_a_later_analysis(policy: str) -> None:
    here = Here()
    await here.read()
    await in_thread(set_policy)(PubsubNode.objects.all(), policy)
    if policy == "always":
        await here.sync()
        await here.notify("post 1")
        assert await here.kind() == POSTS
        return
    await here.notify("post 1")
    here.publish("post 2")
    await here.read()
    node = await here.row()
    assert (node.analyser, node.sync_state, node.sync_error) == ("post", NOT, "Staff decided: never synchronise.")
    assert not await in_thread(scheduling.due)(node.account_id, 9, token=0)


@in_loop
async def test_choice_of_staff_applies_to_a_later_analysis() -> None:
    await in_thread(choose_analyser)("post", False)
    here = Here()
    await here.read()
    await here.notify("post 1")
    node = await here.row()
    reason = "Staff decided: nodes of the analyser post are not synchronised."
    assert (node.analyser, node.sync_state, node.sync_error) == ("post", NOT, reason)
    await in_thread(choose_analyser)("post", None)
    assert await here.kind() == ("post", WAITS, POST)


def refuse(analysis: Analysis) -> None:
    note_sample(analysis)
    analysis.to_sync, analysis.subtype = False, "refused"


@in_loop
async def test_match_cb_is_called_by_a_later_analysis() -> None:
    with registered(post={"match_cb": refuse}):
        here = Here()
        await here.read()
        await here.notify("post 1", "avatar 1")
        await here.notify("post 2")
        node = await here.row()
        assert (node.analyser, node.subtype, node.sync_state) == ("post", "refused", NOT)
        assert node.sync_error == "The analyser post does not synchronise this node."
        assert samples == ["post 1"]


def fail(analysis: Analysis) -> None:
    note_sample(analysis)
    raise ZeroDivisionError("no")


@in_loop
async def test_failing_match_cb_is_called_again_only_by_reads() -> None:
    with registered(post={"match_cb": fail}):
        here = Here()
        await here.read()
        for number in range(1, 4):
            await here.notify(f"post {number}")
        node = await here.row()
        assert (node.analyser, node.sync_state) == ("", NOT)
        assert node.sync_error == node.analysis_reason == "The analysis failed: ZeroDivisionError: no"
        assert samples == ["post 1"]
        await here.read()
        assert samples == ["post 1", "post 3"]
    with registered():
        await here.read()
        assert await here.kind() == ("post", WAITS, POST)


@in_loop
async def test_slow_match_cb_does_not_delay_notifications() -> None:
    goes_on = asyncio.Event()

    async def wait(analysis: Analysis) -> None:
        note_sample(analysis)
        await goes_on.wait()

    with registered(post={"match_cb": wait}):
        here = Here()
        await here.read()
        task = asyncio.create_task(here.applier.run())
        for item in here.publish("post 1", "post 2"):
            here.applier.feed(publish_event(item, address=HERE))
            await here.applier.join(HERE)
        assert here.applier.dropped == {"node not synchronised": 2}
        assert await here.kind() == NOTHING
        goes_on.set()
        await here.applier.finish()  # the worker stops
        assert await here.kind() == ("post", WAITS, POST)
        assert samples == ["post 1"]
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@in_loop
async def test_endless_match_cb_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pubsubcache.syncing.notifications.TIMEOUT", 0.01)

    async def hang(analysis: Analysis) -> None:
        await asyncio.Event().wait()

    with registered(post={"match_cb": hang}):
        here = Here()
        await here.read()
        await here.notify("post 1")
        assert await here.kind() == NOTHING
    await here.notify("post 2")
    assert await here.kind() == ("post", WAITS, POST)


@in_loop
async def test_number_of_simultaneous_analyses_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Here()
    await here.read()
    with monkeypatch.context() as patched:
        patched.setattr("pubsubcache.syncing.notifications.MAX_ANALYSES", 0)
        await here.notify("post 1")
    assert await here.kind() == NOTHING
    await here.notify("post 2")
    assert await here.kind() == ("post", WAITS, POST)


@in_loop
async def test_same_node_of_another_account_is_not_analysed() -> None:
    await in_thread(Account.objects.create)(jid=BOB)
    here, theirs = Here(), Here(account=BOB)
    await here.read()
    await theirs.read()
    await here.notify("post 1")
    assert await here.kind() == ("post", WAITS, POST)
    assert await theirs.kind() == NOTHING
    assert (await theirs.row()).item_count == 0


@in_loop
async def test_worker_that_lost_its_lease_saves_no_analysis() -> None:
    here = Here()
    await here.read()
    account = await in_thread(Account.objects.get)(jid=ALICE)
    here.applier.open(Lease(account.pk, "another", account.fencing_token + 1))
    await here.notify("post 1")
    assert (await here.kind(), here.woken) == (NOTHING, [])
    now = Here()
    now.service = here.service
    await now.notify("post 2")  # the worker that has the account
    assert await now.kind() == ("post", WAITS, POST)


# Nodes in sync


@in_loop
async def test_odd_items_do_not_change_a_node_in_sync() -> None:
    here = Here(*several("post", 5))
    await here.synced()
    for number in range(1, 10):
        await here.notify(f"event {number}")
        await here.notify("event 1")  # an edit is no other item
    assert await here.kind() == POSTS
    await here.sync()
    assert await here.kind() == POSTS
    assert (samples, here.woken) == ([], [])


@in_loop
async def test_newest_items_change_the_analyser_of_a_node_in_sync() -> None:
    here = Here(*several("post", 5))
    await here.synced()
    await here.notify("post 6", *several("event", 15))
    assert await here.kind() == POSTS
    await here.notify("event 16")
    node = await here.row()
    assert (await here.kind(), here.woken, samples) == (EVENTS, [node.pk], ["event 16"])
    assert here.service.requests == []
    assert (node.parse_anew, node.sync_requested is not None) == (True, True)
    assert await in_thread(cache.freshness)(node) is cache.Freshness.FRESH
    assert await here.parsed() == as_they_are(*here.service.ids(HERE))
    samples.clear()
    for _ in range(2):
        await here.sync()
        node = await here.row()
        assert (await here.kind(), node.parse_anew, node.sync_requested, samples) == (EVENTS, False, None, [])
    await here.notify(*several("post", 20, start=7))
    assert await here.kind() == POSTS


@in_loop
async def test_stored_items_are_parsed_anew_by_another_analyser() -> None:
    """Even if the worker was restarted before that, and an id check would suffice otherwise."""
    with registered(event={"parser": titled}):
        here = Here("post 1")
        await here.synced()
        here.service.retract("post 1", HERE)
        await here.sync()
        await here.notify("unknown 1")
        await here.notify("event 1")
        assert (await here.parsed())["unknown 1"] == "ValueError: This is no post."
        node = await here.row()
        assert node.parse_anew
        fresh = {"sync_requested": None, "compared_at": timezone.now(), "checked_at": timezone.now()}
        online = {"status": "online", "worker": "w", "heartbeat": timezone.now()}
        await in_thread(PubsubNode.objects.update)(**fresh)
        await in_thread(Account.objects.update)(**online)
        await revalidate(here.service, node.pk)
        parsed = {"unknown 1": {"as": "event", "id": "unknown 1"}, "event 1": {"as": "event", "id": "event 1"}}
        assert await here.parsed() == parsed
        assert not (await here.row()).parse_anew


@in_loop
async def test_analyser_that_changes_during_a_sync_causes_another_sync() -> None:
    here = Here("post 1", "post 2")
    await here.synced()
    node = await here.row()
    found = Analysis(service=HERE.service, node=HERE.name, name="event", type="event", to_sync=True)

    async def meanwhile(service: FakeService, method: str, argument: Any) -> None:
        if method == "subscribe":
            here.publish(*several("event", 8))
            await in_thread(nodes.update_analysis)(node.pk, found, "", EVENT)

    here.service.hook = meanwhile
    await sync_node(here.service, node.pk)
    node = await here.row()
    assert (node.analyser, node.parse_anew, node.sync_requested is not None) == ("event", True, True)


@in_loop
async def test_first_sync_corrects_an_analysis_by_a_single_item() -> None:
    here = Here(*several("post", 8), "event 1")
    await here.read(max_items=1)
    assert await here.kind() == ("event", WAITS, EVENT)
    await here.sync()
    assert (await here.kind(), samples) == (POSTS, ["event 1", "post 8"])
    assert (await here.row()).parse_anew
    await here.sync()
    await here.sync()
    assert (await here.kind(), samples) == (POSTS, ["event 1", "post 8"])
    assert not (await here.row()).parse_anew


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"to_sync": False}, "The analyser event does not synchronise this node."),
        ({"match_cb": refuse}, "The analyser event does not synchronise this node."),
        ({"match_cb": fail}, "The analysis failed: ZeroDivisionError: no"),
    ],
)
@pytest.mark.parametrize("policy", ["auto", "always"])
@in_loop
async def test_node_whose_new_analyser_does_not_keep_it_is_dropped_unless_staff_keep_it(
    policy: str, event: dict[str, Any], reason: str
) -> None:
    with registered(event=event):
        here = Here("post 1")
        await here.synced()
        await in_thread(set_policy)(PubsubNode.objects.all(), policy)
        await here.notify(*several("event", 4))
        node = await here.row()
        assert (node.analyser, node.analysis_reason) == ("" if "failed" in reason else "event", reason)
        assert samples == ["event 4"]
        if policy == "always":
            assert (node.sync_state, node.item_count, node.subscribed) == ("COMPLETED", 5, True)
            return
        assert (node.sync_state, node.sync_error, node.item_count) == (NOT, reason, 0)
        assert (node.subscribed, node.parse_anew, node.sync_requested) == (False, False, None)
        assert await in_thread(PendingUnsubscription.objects.count)() == 1
        assert not await in_thread(scheduling.due)(node.account_id, 9, token=0)


@in_loop
async def test_sample_that_is_retracted_meanwhile_changes_nothing() -> None:
    here = Here("post 1")
    await here.synced()
    with patch.object(analysis.syncing, "stored_data", return_value={}):
        await here.notify(*several("event", 4))
    assert await here.kind() == POSTS
    await here.notify("event 5")
    assert await here.kind() == EVENTS


@in_loop
async def test_emptied_node_keeps_its_analyser() -> None:
    here = Here("post 1", "post 2")
    await here.synced()
    for name in ("post 1", "post 2"):
        here.service.retract(name, HERE)
    await here.sync()
    assert await here.kind() == POSTS
    await here.notify("unknown 1")
    await here.sync()
    assert await here.kind() == POSTS
    assert samples == []


@in_loop
async def test_node_matched_by_name_is_not_analysed_again() -> None:
    by_name = analyser("named", node=HERE.name, namespace=None)
    with registry.temporarily(by_name, *kinds(), replace=True):
        here = Here()
        await here.synced()
        assert await here.kind() == ("named", "COMPLETED", None)
        await here.notify(*several("post", 9))
        await here.sync()
        assert await here.kind() == ("named", "COMPLETED", None)


@in_loop
async def test_namespaces_of_stored_items_are_found_in_their_beginning() -> None:
    here = Here("post 1")
    await here.synced()
    long_id = "<" * 2000
    items = [make_item(name, "x" * 500_000, namespace=EVENT) for name in ("event 1", "event 2", long_id)]
    await here.apply(publish_event(*items, address=HERE))
    node = await here.row()
    stored = await in_thread(nodes.newest_namespaces)(node.pk, 20)
    assert stored == {"post 1": POST, "event 1": EVENT, "event 2": EVENT, long_id: None}
