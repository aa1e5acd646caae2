"""Test the pages of the admin that ask services, with hostile and slow ones."""

import asyncio
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import Client

from pubsubcache.admin import asking
from pubsubcache.exceptions import ServiceError, ServiceUnreachable, TooLarge
from pubsubcache.models import Account, PubsubNode
from pubsubcache.services.sessions import sessions
from pubsubcache.types import Directory, Entry, NodeAddress
from tests.admin_data import SCRIPT, account, node, online, person, superuser, url
from tests.fakes import FakeService, in_loop

pytestmark = pytest.mark.django_db

OVERRIDE = "\u202egnp.exe"


async def get(client: Client, fake: FakeService, page: str, **query: str) -> str:
    """Return a page of the account, whose session answers with `fake`."""
    with sessions.offered("alice@example.org", fake):
        pk = (await sync_to_async(Account.objects.get)()).pk
        answer = await sync_to_async(client.get)(url("account", page, pk, **query))
    assert answer.status_code == 200
    return str(answer.content.decode())


@in_loop
async def test_hostile_directory_is_harmless() -> None:
    client, _ = await sync_to_async(superuser)(), await sync_to_async(account)()
    entries = [
        Entry("", SCRIPT, SCRIPT),
        Entry("", OVERRIDE, "line\nbreak"),
        Entry("not a jid @@", "invalid", ""),
        Entry("", "x" * 3000, "y" * 3000),
    ]
    page = await get(client, FakeService(directory=Directory(["x/y"] * 3, entries, is_cut=True)), "browse")
    assert SCRIPT not in page
    assert "invalid" not in page
    assert "\\u202egnp.exe" in page
    assert "y" * 301 not in page
    assert "Only the first 3 entries are shown." in page


@in_loop
async def test_link_from_elsewhere_asks_no_strange_service() -> None:
    """A person who follows it must not tell the service that the account exists."""
    client, alice = await sync_to_async(superuser)(), await sync_to_async(account)()
    await sync_to_async(node)(alice, service="known.example.org")
    for service, is_asked in {
        "": True,
        "example.org": True,
        "alice@example.org": True,
        "known.example.org": True,
        "evil.example.org": False,
        "bob@example.org": False,
        "not a jid @@": False,
    }.items():
        fake = FakeService()
        await get(client, fake, "browse", service=service)
        assert bool(fake.requests) == is_asked, service


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ServiceError("forbidden", "no\u202e"), "The service refused: forbidden (no\\u202e)."),
        (TooLarge("The answer is too large."), "The answer is too large."),
        (ServiceUnreachable("It is away."), "It is away."),
    ],
)
@in_loop
async def test_error_of_a_service_is_shown(error: Exception, words: str) -> None:
    client, _ = await sync_to_async(superuser)(), await sync_to_async(account)()
    assert words in await get(client, FakeService(errors={"browse": error}), "browse")


@in_loop
async def test_slow_service_holds_up_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "SECONDS", 0.3)
    client, alice = await sync_to_async(superuser)(), await sync_to_async(account)()
    addresses = [NodeAddress("pubsub.example.org", "slow"), NodeAddress("pubsub.example.org", "unknown")]
    for address in addresses:
        await sync_to_async(node)(alice, address.name, subscribed=True)
    service = FakeService()
    service.fill(1, addresses[0])
    service.nodes[addresses[0]].subscribed = True

    async def hook(*_: Any) -> None:
        if service.requests.count(("get_subscriptions", None)) == 1:
            await asyncio.Event().wait()

    service.hook = hook
    page = await get(client, service, "subscriptions")
    assert "The service did not answer in time." in page
    assert "The service refused: item-not-found." in page


@in_loop
async def test_differences_are_highlighted() -> None:
    client, alice = await sync_to_async(superuser)(), await sync_to_async(account)()
    service = FakeService()
    for name, believed, reported in [("a", True, True), ("b", True, False), ("c", False, True), ("d", False, False)]:
        made = await sync_to_async(node)(alice, name, subscribed=believed)
        service.fill(1, made.address)
        service.nodes[made.address].subscribed = reported
    page = await get(client, service, "subscriptions")
    assert "2 differences." in page
    assert page.count('class="psc-differs"') == 2
    service.subscription = "pending"
    page = await get(client, service, "subscriptions")
    assert "2 differences." in page
    assert '<span class="psc-badge psc-bad">pending</span>' in page


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"status": "auth_failed", "status_detail": "Wrong."}, "Check the JID, and enter the password again."),
        ({"status": "error", "status_detail": "Not trusted."}, "choose its CA file"),
        ({"status": "offline", "status_detail": "No address."}, "Check the domain of the JID"),
        ({"worker": ""}, "Start a worker: manage.py pubsub_worker."),
        ({}, ""),
        ({"enabled": False, "worker": ""}, ""),
    ],
)
def test_failed_session_has_its_reason_and_advice(fields: dict[str, Any], shown: str) -> None:
    made = account(**online(**fields))
    client = person("view_account")
    page = client.get(url("account", "change", made.pk)).content.decode()
    assert ("field-what_to_do" in page) == bool(shown)
    assert shown in page
    assert fields.get("status_detail", "") in client.get(url("account", "changelist")).content.decode()


def test_browsing_and_subscriptions_need_the_permission_to_view_accounts() -> None:
    made = account()
    for page in ("browse", "subscriptions"):
        assert person("view_pubsubnode", "add_pubsubnode").get(url("account", page, made.pk)).status_code == 403
    assert person("view_account").post(url("account", "test", made.pk), {}).status_code == 403
    assert person("view_account").post(url("account", "test_new"), {}).status_code == 403
    assert not PubsubNode.objects.exists()
