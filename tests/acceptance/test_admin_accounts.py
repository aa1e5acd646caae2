"""Test the pages of the admin that talk to servers: tests of logins, directories, subscriptions, and adding nodes."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from html import unescape
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from pubsubcache.admin import asking
from pubsubcache.models import Account, PubsubNode
from pubsubcache.store import in_thread
from pubsubcache.types import NodeAddress
from tests.acceptance.site import Site, make_node, new_name, publish_many, working_site
from tests.servers.xmpp import XmppServer


def words(answer: Any) -> str:
    """Return the text of a page without markup, on one line."""
    page = answer.content.decode().partition("<body")[2]
    return " ".join(unescape(re.sub("<[^>]*>", " ", page)).split())


@in_thread
def superuser() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("root"))
    return client


class Admin:
    """A superuser, who opens pages and posts forms."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def get(self, page: str, *args: Any, **query: Any) -> Any:
        url = reverse(f"admin:pubsubcache_{page}", args=args, query=query or None)
        return await in_thread(self._client.get)(url)

    async def post(self, page: str, *args: Any, **data: Any) -> Any:
        url = reverse(f"admin:pubsubcache_{page}", args=args)
        return await in_thread(self._client.post)(url, data, follow=True)


@pytest.fixture
async def staff(live_database: None) -> Admin:
    return Admin(await superuser())


@pytest.fixture
async def site(prosody, live_database: None) -> AsyncIterator[Site]:
    async with working_site(prosody) as site:
        yield site


@pytest.fixture
async def account_pk(site: Site) -> int:
    return int((await site.account()).pk)


@pytest.fixture
def login(xmpp_server: XmppServer, settings: Any) -> Callable[..., dict[str, Any]]:
    """`login(password="wrong")` returns the form of a new account of alice's, with changes."""
    xmpp_server.start()
    settings.PUBSUBCACHE_CA_FOLDER = str(xmpp_server.ca_file.parent)
    fields = xmpp_server.account_fields("alice")
    fields["new_password"] = fields.pop("password")
    return lambda **changes: {**fields, "tls_verify": "on", "enabled": "on", **changes}


async def test_connection_is_tested_with_the_entered_values(
    staff: Admin, login: Callable[..., dict[str, Any]], unused_tcp_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each failure is said in words, and nothing is stored."""

    async def outcome(**changes: Any) -> tuple[str, str]:
        answer = await staff.post("account_test_new", **login(**changes))
        assert answer.status_code == 200
        tested = answer.context["tested"]
        assert tested.text in words(answer)
        assert login()["new_password"] not in answer.content.decode()
        return tested.kind, tested.text

    kind, text = await outcome()
    assert (kind, "can log in, and has" in text) == ("good", True), text
    monkeypatch.setattr(asking, "SECONDS", 5.0)
    for changes, expected in [
        ({"new_password": "wrong"}, "does not accept the login"),
        ({"ca_file": ""}, "is not trusted: self-signed certificate"),
        ({"port": unused_tcp_port}, "Connection refused"),
        ({"host": "nowhere.invalid"}, "its name has no address"),
        ({"new_password": ""}, "Nothing was tested."),
    ]:
        kind, text = await outcome(**changes)
        assert kind == "bad"
        assert expected in text
    monkeypatch.setattr(asking, "SECONDS", 0.2)
    silent = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    async with silent:
        kind, text = await outcome(port=silent.sockets[0].getsockname()[1])
    assert (kind, "took over 0.2 seconds" in text) == ("bad", True), text
    assert not await in_thread(Account.objects.exists)()


async def test_stored_password_is_tested_with_the_stored_connection_only(
    staff: Admin, login: Callable[..., dict[str, Any]], xmpp_server: XmppServer
) -> None:
    made = await in_thread(Account.objects.create)(**xmpp_server.account_fields("alice"))
    stored = login(new_password="")
    answer = await staff.post("account_test", made.pk, **stored)
    assert answer.context["tested"].kind == "good"
    answer = await staff.post("account_test", made.pk, **{**stored, "tls_verify": ""})
    assert answer.context["tested"].text == "Nothing was tested."
    assert "Enter the password again" in words(answer)
    answer = await staff.post("account_test", made.pk, **{**stored, "tls_verify": "", "new_password": "wrong"})
    assert (answer.context["tested"].kind, "not-authorized" in words(answer)) == ("bad", True)
    now = await in_thread(Account.objects.get)()
    assert (now.password, now.tls_verify) == (made.password, True)


async def test_node_is_found_on_the_service_and_cached(site: Site, client, staff: Admin, account_pk: int) -> None:
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 3)
    assert site.server.pubsub in words(await staff.get("account_browse", account_pk))
    page = await staff.get("account_browse", account_pk, service=address.service)
    assert address.name not in words(page)  # nothing was asked: the cache does not know the service yet
    page = await staff.post("account_browse", account_pk, service=address.service)
    assert f"{address.name} Cache this node" in words(page)
    page = await staff.post(
        "pubsubnode_add", account=account_pk, service=address.service, name=address.name, browse="yes"
    )
    assert f"{address.name} was added. Its items are being read." in words(page)
    assert f"{address.name} in the cache" in words(page)
    assert (await site.in_sync(address)).item_count == 3


async def test_node_is_added_by_its_uri(site: Site, client, staff: Admin, account_pk: int) -> None:
    bob = await client(site.server)
    address = await make_node(bob, site.server, new_name("no analyser knows this "))
    await publish_many(bob, address, 3)
    page = await staff.post("pubsubnode_add", account=account_pk, uri=address.uri)
    assert "was added. Its items are being read." in words(page)
    assert (await site.in_sync(address)).item_count == 3
    assert "Added by hand." in words(await staff.get("pubsubnode_history", (await site.node(address)).pk))
    page = await staff.post("pubsubnode_add", account=account_pk, uri=address.uri)
    assert "is in the cache already." in words(page)


async def test_node_that_cannot_be_read_is_not_added(site: Site, client, staff: Admin, account_pk: int) -> None:
    bob = await client(site.server)
    private = await make_node(bob, site.server, **{"pubsub#access_model": "whitelist"})
    for address in (private, NodeAddress(site.server.pubsub, "missing"), NodeAddress("nowhere.invalid", "n")):
        page = await staff.post("pubsubnode_add", account=account_pk, uri=address.uri)
        assert f"{address.service} {address.name} was not added. The service refused: " in words(page)
    assert not await in_thread(PubsubNode.objects.exists)()


async def test_node_is_added_while_no_worker_runs(staff: Admin, prosody, client) -> None:
    site = Site(prosody)
    account = await site.add_account()
    bob = await client(site.server)
    address = await make_node(bob, site.server)
    page = await staff.post("pubsubnode_add", account=account.pk, service=address.service, name=address.name)
    assert "was added, but could not be read yet: No worker holds a session" in words(page)
    page = await staff.post("account_browse", account.pk, service=address.service)
    assert f"No worker holds a session of {site.jid}." in words(page)
    assert "No worker holds a session" in words(await staff.get("account_subscriptions", account.pk))
    async with site.working():
        await site.in_sync(address)


async def test_subscriptions_of_the_service_are_compared(site: Site, client, staff: Admin, account_pk: int) -> None:
    alice, bob = await client(site.server, "alice"), await client(site.server)
    address = await make_node(bob, site.server)
    await publish_many(bob, address, 1)
    await site.cached(address)
    page = words(await staff.get("account_subscriptions", account_pk))
    assert f"0 differences. Node Cache Service {address.name} {address.service} subscribed subscribed" in page
    await alice.unsubscribe(address)
    page = words(await staff.get("account_subscriptions", account_pk))
    assert f"1 difference. Node Cache Service {address.name} {address.service} subscribed not subscribed" in page
