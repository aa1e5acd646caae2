"""Test the hourly counters of notifications, stored items and answered reads."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from pubsubcache.analysers import registry
from pubsubcache.cache import get_items, get_items_sync
from pubsubcache.exceptions import NotInCache
from pubsubcache.models import Account, Activity, PubsubNode
from pubsubcache.models.activity import COUNTERS, hour_of
from pubsubcache.services.sessions import sessions
from pubsubcache.store import activity, in_thread
from pubsubcache.store.activity import Counters, counters
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.syncing.notifications import EventApplier
from tests.fakes import ADDRESS, FakeService, in_loop, make_item, note_analyser, publish_event
from tests.integration.rows import ALICE, make_node

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

BOB = "bob@example.org"
NOTES = (ALICE, ADDRESS.service, ADDRESS.name)


@pytest.fixture(autouse=True)
def _notes() -> Iterator[None]:
    counters._counts.clear()
    with registry.temporarily(note_analyser(), replace=True):
        yield


def totals() -> dict[str, int]:
    """Write the counts of this process; return the sums of all rows."""
    counters.flush()
    rows = list(Activity.objects.values(*COUNTERS))
    return {name: sum(row[name] for row in rows) for name in COUNTERS}


@in_thread
def set_account(**fields: Any) -> None:
    Account.objects.update(heartbeat=timezone.now(), worker="w", **fields)


async def synced() -> FakeService:
    service = FakeService()
    service.fill(3)
    pk = await make_node()
    await set_account(status="online")
    await sync_node(service, pk)
    return service


@in_loop
async def test_reads_are_counted_by_how_they_are_answered() -> None:
    service = await synced()
    with sessions.offered(ALICE, service):
        for _ in range(2):
            assert (await get_items(*NOTES)).origin == "cache"
        await get_items(*NOTES, use_cache=False)  # no question to the cache
        service.fill(1, address=replace(ADDRESS, name="other"))
        assert (await get_items(ALICE, ADDRESS.service, "other")).origin == "service"
        with pytest.raises(NotInCache):
            await get_items(ALICE, ADDRESS.service, "unknown", cache_only=True)
    await set_account(status="connecting")
    assert (await get_items(*NOTES)).stale
    assert await in_thread(totals)() == {"notifications": 0, "stored": 3, "hits": 2, "misses": 2, "stale": 1}


@in_loop
async def test_notifications_and_stored_items_are_counted() -> None:
    applier = EventApplier(ALICE, await synced())
    applier.feed(publish_event(make_item("a"), make_item("b")))
    applier.feed(publish_event(make_item("b")))  # nothing new
    applying = asyncio.create_task(applier.run())
    await applier.join()
    applying.cancel()
    with suppress(asyncio.CancelledError):
        await applying
    assert await in_thread(totals)() == {"notifications": 2, "stored": 5, "hits": 0, "misses": 0, "stale": 0}


def test_a_hit_costs_no_further_query() -> None:
    account = Account.objects.create(jid=ALICE)
    PubsubNode.objects.create(
        account=account, service=ADDRESS.service, name=ADDRESS.name, sync_state="COMPLETED", checked_at=timezone.now()
    )
    with CaptureQueriesContext(connection) as queries:
        assert get_items_sync(*NOTES).origin == "cache"
    assert len(queries) == 2
    assert totals()["hits"] == 1


@pytest.mark.django_db(transaction=True)
def test_a_read_writes_the_counts_of_the_last_minute_after_its_transaction() -> None:
    Account.objects.create(jid=ALICE)
    counters.count(ALICE, "hits", 7)
    counters._flushed -= activity.INTERVAL
    with suppress(NotInCache):
        get_items_sync(*NOTES, cache_only=True)
    assert Activity.objects.get().hits == 7


def test_processes_add_to_the_same_hour() -> None:
    account = Account.objects.create(jid=ALICE)
    Account.objects.create(jid=BOB)
    first, second = Counters(), Counters()
    for number, process in enumerate((first, second, first), start=1):
        process.count(ALICE, "hits", number)
        process.count(BOB, "stale")
        process.count("removed@example.org", "hits")
        process.flush()
    row = Activity.objects.get(account=account)
    assert (row.hits, row.stale) == (6, 0)
    assert Activity.objects.count() == 2


def test_counts_that_cannot_be_written_are_kept() -> None:
    Account.objects.create(jid=ALICE)
    process = Counters()
    process.count(ALICE, "hits", 2)
    with patch.object(activity, "_add", side_effect=OperationalError("database is locked")):
        process.flush()
    process.count(ALICE, "hits")
    process.flush()
    assert Activity.objects.get().hits == 3


def test_counts_belong_to_the_hour_in_which_they_were_made() -> None:
    account = Account.objects.create(jid=ALICE)
    process = Counters()
    process.count(ALICE, "hits")
    process._last -= 2 * 3600
    process.flush()
    per_hour = Activity.objects.per_hour(24)
    assert [row["hits"] for row in per_hour] == [*[0] * 21, 1, 0, 0]
    assert per_hour[-1]["hour"] == hour_of(per_hour[-1]["hour"]) <= timezone.now()
    assert activity.prune(account.pk) == 0
    Activity.objects.update(hour=timezone.now() - timedelta(days=9))
    assert activity.prune(account.pk) == 1


def test_owners_see_the_activity_of_their_accounts_only() -> None:
    owner = User.objects.create_user("owner")
    Account.objects.create(jid=ALICE, owner=owner)
    Account.objects.create(jid=BOB)
    process = Counters()
    process.count(ALICE, "misses", 2)
    process.count(BOB, "misses", 3)
    process.flush()
    assert Activity.objects.visible_to(owner).per_hour(2)[-1]["misses"] == 2
    assert Activity.objects.per_hour(2)[-1]["misses"] == 5
