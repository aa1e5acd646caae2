"""Regression tests for known mistakes of other pubsub caches; docs/defects.md lists them all."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone

from pubsubcache import cache
from pubsubcache.analysers import registry
from pubsubcache.exceptions import ServiceError
from pubsubcache.models import Account, PubsubItem, PubsubNode
from pubsubcache.services.sessions import sessions
from pubsubcache.store import evict, in_thread, scheduling
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.types import ItemsPage
from pubsubcache.utils import clock
from tests.fakes import ADDRESS, FakeService, in_loop, make_item, note_analyser

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]
JID = "alice@example.org"


def _account(jid: str = JID) -> Account:
    return Account.objects.get_or_create(jid=jid)[0]


def _node(**fields: Any) -> PubsubNode:
    defaults = {"account": _account(), "service": ADDRESS.service, "name": ADDRESS.name, "analyser": "note"}
    judgement = {"registry_fingerprint": registry.fingerprint(), "to_sync": True}
    return PubsubNode.objects.create(**(defaults | judgement | fields))


async def _read(service: FakeService, **options: Any) -> ItemsPage:
    with sessions.offered(JID, service):
        return await cache.get_items(JID, ADDRESS.service, ADDRESS.name, **options)


@in_loop
async def test_a_node_that_could_not_be_subscribed_to_is_not_trusted_for_ever() -> None:
    with registry.temporarily(note_analyser(), replace=True):
        node = await in_thread(_node)()
        service = FakeService(errors={"subscribe": ServiceError("not-allowed")})
        service.fill(3)
        await sync_node(service, node.pk)
        assert (await _read(service)).origin == "cache"
        service.publish("new")
        with override_settings(PUBSUBCACHE_MAX_AGE=0):
            page = await _read(service)
        assert (page.origin, page.items[-1].id) == ("service", "new")


@in_loop
async def test_a_node_that_is_not_synchronised_costs_no_request_more() -> None:
    with registry.temporarily(note_analyser(to_sync=False), replace=True):
        await in_thread(_account)()
        service = FakeService()
        service.fill(3)
        for reads in range(1, 4):
            await _read(service)
            assert len(service.requests) == reads
        assert await in_thread(PubsubNode.objects.count)() == 1


@in_loop
async def test_an_error_is_told_and_tried_again() -> None:
    with registry.temporarily(note_analyser(), replace=True), override_settings(PUBSUBCACHE_RETRY_DELAY=1.0):
        node = await in_thread(_node)()
        service = FakeService(errors={"get_items": ServiceError("policy-violation", "too many requests")})
        service.fill(3)
        with pytest.raises(ServiceError):
            await sync_node(service, node.pk)
        await in_thread(node.refresh_from_db)()
        assert (node.sync_state, node.failures) == ("ERROR", 1)
        assert "too many requests" in node.sync_error
        assert node.next_attempt is not None
        await in_thread(PubsubNode.objects.filter(pk=node.pk).update)(next_attempt=await in_thread(clock.now)())
        assert await in_thread(scheduling.due)(node.account_id, 10, token=0) == [node.pk]
        service.errors.clear()
        await sync_node(service, node.pk)
        await in_thread(node.refresh_from_db)()
        assert (node.sync_state, node.sync_error, node.failures) == ("COMPLETED", "", 0)


def test_times_are_finer_than_a_second() -> None:
    node = _node()
    moment = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
    PubsubItem.objects.create(node=node, name="one", data="<item/>", updated=moment)
    PubsubItem.objects.create(node=node, name="two", data="<item/>", updated=moment + timedelta(microseconds=1))
    assert list(PubsubItem.objects.order_by("updated").values_list("name", flat=True)) == ["one", "two"]
    assert PubsubItem.objects.get(name="one").updated == moment


def test_the_state_has_the_time_of_its_row() -> None:
    before = timezone.now()
    first, second = _node(), _node(name="another")
    assert before <= first.sync_state_updated <= second.sync_state_updated <= timezone.now()


@in_loop
async def test_encrypted_content_is_kept_as_it_came() -> None:
    with registry.temporarily(note_analyser(), replace=True):
        node = await in_thread(_node)()
        service = FakeService()
        service.fill(1)
        secret = make_item("secret", "c2VjcmV0IGNpcGhlcnRleHQ=")
        service.nodes[ADDRESS].items["secret"] = (99, secret)
        await sync_node(service, node.pk)
        assert (await in_thread(PubsubItem.objects.get)(name="secret")).data == secret.xml


def test_one_account_purges_and_reads_nothing_of_another() -> None:
    for jid in (JID, "bob@example.org"):
        node = _node(account=_account(jid), sync_state="COMPLETED", checked_at=timezone.now(), item_count=1)
        PubsubItem.objects.create(node=node, name=f"of {jid}", data=f'<item id="of {jid}"/>')
    page = cache.get_items_sync(JID, ADDRESS.service, ADDRESS.name)
    assert [item.id for item in page.items] == [f"of {JID}"]
    assert evict(PubsubNode.objects.matching(accounts=[JID])) == 1
    assert list(PubsubItem.objects.values_list("name", flat=True)) == ["of bob@example.org"]


@in_loop
async def test_a_new_synchronisation_keeps_type_and_subtype() -> None:
    def mark(analysis: Any) -> None:
        analysis.subtype = "comment"

    with registry.temporarily(note_analyser(match_cb=mark), replace=True):
        await in_thread(_account)()
        service = FakeService()
        service.fill(2)
        await _read(service)
        node = await in_thread(PubsubNode.objects.get)()
        for _ in range(2):
            await sync_node(service, node.pk, fetch_evicted=True)
            await in_thread(node.refresh_from_db)()
            assert (node.type, node.subtype, node.analyser) == ("note", "comment", "note")


def test_lookups_skip_items_that_were_not_parsed_and_compare_as_they_say() -> None:
    node = _node()
    for number in (1, 2, 3):
        PubsubItem.objects.create(node=node, name=str(number), data="<item/>", parsed={"size": number, "title": "Ünö"})
    PubsubItem.objects.create(node=node, name="unparsed", data="<item/>", parsed=None)

    def names(**lookups: Any) -> list[str]:
        return sorted(PubsubItem.objects.filter(**lookups).values_list("name", flat=True))

    assert names(parsed__size__lt=2) == ["1"]
    assert names(parsed__size__lte=2) == ["1", "2"]
    assert names(parsed__size__gt=2) == ["3"]
    assert names(parsed__title__startswith="Ün") == ["1", "2", "3"]
    assert names(parsed__title="item") == []
    assert names(parsed__isnull=True) == ["unparsed"]


@in_loop
async def test_readers_at_once_get_one_row_and_one_answer() -> None:
    with registry.temporarily(note_analyser(), replace=True):
        await in_thread(_account)()
        service = FakeService()
        service.fill(4)
        with sessions.offered(JID, service):
            reads = [cache.get_items(JID, ADDRESS.service, ADDRESS.name) for _ in range(8)]
            pages = await asyncio.gather(*reads)
        assert all([item.id for item in page.items] == service.ids() for page in pages)
        assert await in_thread(PubsubNode.objects.count)() == 1


@in_loop
async def test_sync_parses_items_stored_before_the_node_was_analysed() -> None:
    with registry.temporarily(note_analyser(), replace=True):
        node = await in_thread(_node)(
            analyser="", to_sync=None, registry_fingerprint=None, sync_state="COMPLETED", item_count=1
        )
        service = FakeService()
        item = service.publish("early")
        await in_thread(PubsubItem.objects.create)(node=node, name=item.id, data=item.xml, position=1)
        await sync_node(service, node.pk)
        assert (await in_thread(PubsubItem.objects.get)(name="early")).parsed == {"title": "Title of early"}
