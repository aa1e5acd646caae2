"""Test the commands against real servers, each in its own process."""

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest
from django.test import override_settings
from django.utils import timezone

from project.sample.process import free_port
from pubsubcache.models import Account, PubsubNode
from pubsubcache.store import in_thread
from pubsubcache.types import NodeAddress
from tests.acceptance.site import TIMEOUT, Site, entry, make_node, new_name, publish_many
from tests.selection import how_many
from tests.servers.redis import Redis
from tests.servers.xmpp import XmppServer

pytestmark = pytest.mark.one_server

PASSWORD = "PASSWORD_FOR_TESTS"
ALWAYS_OLD = {"PUBSUBCACHE_MAX_AGE": "0.000001"}
Client = Callable[..., Awaitable[Any]]


class Commands:
    """Runs commands for alice's account at a server."""

    def __init__(self, server: XmppServer, manage: Callable[..., subprocess.CompletedProcess[str]]) -> None:
        self.server = server
        self.alice = server.jid("alice")
        self._manage = manage

    async def run(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        ended = await asyncio.to_thread(self._manage, *arguments, env=env)
        assert "Traceback" not in ended.stderr, ended.stderr
        return ended

    async def data(self, *arguments: str, **options: Any) -> Any:
        """Run a command that succeeds; return its JSON."""
        ended = await self.run(*arguments, "-O", "json", **options)
        assert ended.returncode == 0, ended.stderr
        return json.loads(ended.stdout)

    async def failure(self, *arguments: str, **options: Any) -> tuple[int, str]:
        """Run a command that fails; return its exit code and its error message, which must be one line."""
        ended = await self.run(*arguments, **options)
        assert ended.stdout == ""
        assert ended.stderr.startswith("CommandError: ")
        assert ended.stderr.count("\n") == 1, ended.stderr
        return ended.returncode, ended.stderr.removeprefix("CommandError: ").rstrip()

    async def add_account(self, *changes: str, password: str = "", user: str = "alice") -> None:
        fields = self.server.account_fields(user)
        place = ["--host", fields["host"], "--port", str(fields["port"])]
        trust = ["--ca-file", fields["ca_file"]] if not {"--ca-file", "--insecure-tls"} & set(changes) else []
        env = {PASSWORD: password or fields["password"]}
        added = await self.run(
            "pubsub_account", "add", fields["jid"], "--password-env", PASSWORD, *place, *trust, *changes, env=env
        )
        assert added.returncode == 0, added.stderr

    @staticmethod
    def target(address: NodeAddress) -> tuple[str, ...]:
        return "-s", address.service, "-n", address.name


@pytest.fixture
async def commands(xmpp_server: XmppServer, manage: Any) -> Commands:
    return Commands(xmpp_server, manage)


async def prepared(commands: Commands, client: Client, count: int = 5) -> NodeAddress:
    """Add the account and publish items on a node of bob's."""
    await Site(commands.server).add_account()
    bob = await client(commands.server)
    address = await make_node(bob, commands.server)
    await publish_many(bob, address, count)
    return address


def row(**filters: Any) -> Awaitable[PubsubNode]:
    found: Awaitable[PubsubNode] = in_thread(PubsubNode.objects.get)(**filters)
    return found


@pytest.mark.every_server
async def test_login_succeeds(commands: Commands) -> None:
    await commands.add_account()
    assert await commands.data("pubsub_account", "test", commands.alice) == {"jid": commands.alice, "ok": True}
    assert (await commands.run("pubsub_account", "test", commands.alice)).stdout.startswith("OK")


@pytest.mark.every_server
async def test_failed_logins_are_reported(commands: Commands) -> None:
    async def outcome() -> tuple[int, str]:
        tested = await commands.failure("pubsub_account", "test", commands.alice)
        await in_thread(Account.objects.filter(jid=commands.alice).delete)()
        return tested

    await commands.add_account(password="not alice's")
    read = await commands.failure("pubsub_get", "-n", "anything")
    synced = await commands.failure("pubsub_sync", "-n", "anything")
    code, sentence = await outcome()
    assert (read, synced[0]) == ((code, sentence), code)
    assert code == 5
    assert "not alice's" not in sentence
    assert commands.alice in sentence

    await commands.add_account("--port", str(free_port()))
    code, sentence = await outcome()
    assert code == 5
    assert "cannot be reached" in sentence

    (commands.server.ca_file.parent / "other").mkdir(exist_ok=True)
    other = type(commands.server.certificates).in_folder(commands.server.ca_file.parent / "other", ["other.test"])
    await commands.add_account("--ca-file", str(other.ca_file))
    code, sentence = await outcome()
    assert code == 5
    assert "certificate" in sentence


async def test_untrusted_server_is_accepted_with_insecure_tls(commands: Commands) -> None:
    await commands.add_account("--insecure-tls")
    assert (await commands.data("pubsub_account", "test", commands.alice))["ok"]


@pytest.mark.every_server
async def test_cached_and_live_answers_are_equal(commands: Commands, client: Client) -> None:
    address = await prepared(commands, client, 12)
    target = commands.target(address)
    first = await commands.data("pubsub_get", *target)
    assert (first["origin"], first["stale"], len(first["items"])) == ("service", False, 12)
    assert first["items"][0]["parsed"]["title"] == "Title 0"
    assert first["items"][0]["created"] is None

    synced = await commands.data("pubsub_sync", *target)
    assert list(synced) == ["items", "added", "updated", "removed", "seconds"]
    assert {**synced, "seconds": 0} == {"items": 12, "added": 12, "updated": 0, "removed": 0, "seconds": 0}
    again = await commands.data("pubsub_sync", *target)
    assert {**again, "seconds": 0} == {"items": 12, "added": 0, "updated": 0, "removed": 0, "seconds": 0}

    forms = [
        (),
        ("-i", "item-7", "-i", "nothing", "-i", "item-2"),
        ("-m", "4", "--before", ""),
        ("-M", "3"),
        ("-i", "item-7"),
        ("-m", "4"),
        ("-m", "4", "--index", "0"),
        ("-m", "0"),
    ]
    for options in forms[: how_many(3, len(forms))]:
        cached = await commands.data("pubsub_get", *target, *options)
        live = await commands.data("pubsub_get", *target, "--no-cache", *options)
        assert (cached["origin"], live["origin"]) == ("cache", "service"), options
        for key in ("service", "node", "uri", "complete", "stale"):
            assert cached[key] == live[key], (options, key)
        contents = [[(item["id"], item["xml"], item["parsed"]) for item in page["items"]] for page in (cached, live)]
        assert contents[0] == contents[1], options
        assert (cached["rsm"] or {}).get("count") == (live["rsm"] or {}).get("count"), options

    xml = fromstring((await commands.run("pubsub_get", *target, "-O", "xml")).stdout)
    assert [item.get("id") for item in xml] == [f"item-{number}" for number in range(12)]
    listed = await commands.data("pubsub_nodes")
    assert [(node["node"], node["state"], node["items"], node["type"]) for node in listed] == [
        (address.name, "COMPLETED", 12, "blog")
    ]


async def test_sync_reports_changes(commands: Commands, client: Client) -> None:
    address = await prepared(commands, client)
    await commands.data("pubsub_sync", *commands.target(address))
    bob = await client(commands.server)
    await bob.publish(address, entry("Edited"), "item-1")
    await bob.publish(address, entry("New"), "item-5")
    await bob.publish(address, entry("New"), "item-6")
    await bob.retract(address, "item-2")
    synced = await commands.data("pubsub_sync", *commands.target(address))
    assert {**synced, "seconds": 0} == {"items": 6, "added": 2, "updated": 1, "removed": 1, "seconds": 0}


async def test_own_account_is_the_default_service(commands: Commands, client: Client) -> None:
    await commands.add_account()
    alice = await client(commands.server, "alice")
    await alice.publish(NodeAddress(commands.alice, "urn:xmpp:microblog:0"), entry("Mine"), "mine")
    await commands.data("pubsub_sync", "-n", "urn:xmpp:microblog:0")
    page = await commands.data("pubsub_get", "-n", "urn:xmpp:microblog:0", "-i", "mine")
    assert (page["service"], page["origin"]) == (commands.alice, "cache")
    assert page["items"][0]["parsed"]["title"] == "Mine"


async def test_a_stopped_server(commands: Commands, client: Client) -> None:
    address = await prepared(commands, client)
    target = commands.target(address)
    await commands.data("pubsub_sync", *target)
    commands.server.stop()
    try:
        page = await commands.data("pubsub_get", *target)
        assert (page["origin"], page["stale"], len(page["items"])) == ("cache", False, 5)
        page = await commands.data("pubsub_get", *target, env=ALWAYS_OLD)
        assert (page["origin"], page["stale"], len(page["items"])) == ("cache", True, 5)
        assert ", stale;" in (await commands.run("pubsub_get", *target, env=ALWAYS_OLD)).stdout
        assert (await commands.failure("pubsub_get", *target, "--no-cache"))[0] == 5
        assert (await commands.failure("pubsub_sync", *target))[0] == 5
    finally:
        commands.server.start()
    assert (await row(name=address.name)).item_count == 5


@pytest.mark.every_server
async def test_an_unknown_node(commands: Commands) -> None:
    await commands.add_account()
    target = ("-s", commands.server.pubsub, "-n", "there is no such node")
    for command in ("pubsub_get", "pubsub_sync"):
        code, sentence = await commands.failure(command, *target)
        assert code == 4
        assert "item-not-found" in sentence
    assert (await commands.failure("pubsub_get", *target, "--cache-only"))[0] == 3
    assert await commands.data("pubsub_nodes") == []


@pytest.mark.every_server
async def test_an_unknown_service(commands: Commands) -> None:
    await commands.add_account()
    code, sentence = await commands.failure("pubsub_sync", "-s", "nowhere.invalid", "-n", "x")
    assert code == 4
    assert "The service refused: " in sentence
    assert await commands.data("pubsub_nodes") == []


@pytest.mark.every_server
async def test_a_forbidden_node(commands: Commands, client: Client) -> None:
    await commands.add_account()
    bob = await client(commands.server)
    address = await make_node(bob, commands.server, **{"pubsub#access_model": "whitelist"})
    await publish_many(bob, address, 1)
    for command in ("pubsub_get", "pubsub_sync"):
        code, sentence = await commands.failure(command, *commands.target(address))
        assert code == 4
        assert "closed-node" in sentence or "not-allowed" in sentence or "forbidden" in sentence


@pytest.mark.parametrize("name", ["\x01", "a\x0bb", "\ufffe"])
async def test_names_that_xml_cannot_represent_are_refused(commands: Commands, name: str) -> None:
    await commands.add_account()
    assert (await commands.failure("pubsub_get", "-n", name))[0] == 1
    assert (await commands.failure("pubsub_sync", "-n", name))[0] == 1
    assert (await commands.failure("pubsub_get", "-n", "x", "-i", name))[0] == 1
    assert await commands.data("pubsub_nodes") == []


async def test_evicted_node_is_read_from_the_service_until_a_sync(commands: Commands, client: Client) -> None:
    address = await prepared(commands, client)
    target = commands.target(address)
    await commands.data("pubsub_sync", *target)
    assert await commands.data("pubsub_purge", "-n", address.name, "--noinput") == {"removed": 5}
    page = await commands.data("pubsub_get", *target)
    assert (page["origin"], len(page["items"])) == ("service", 5)
    assert (await commands.data("pubsub_sync", *target))["added"] == 5
    assert (await commands.data("pubsub_get", *target))["origin"] == "cache"


async def test_several_nodes(commands: Commands, client: Client) -> None:
    address = await prepared(commands, client)
    bob = await client(commands.server)
    other = await make_node(bob, commands.server)
    await publish_many(bob, other, 2)
    for wanted in (address, other):
        await commands.data("pubsub_sync", *commands.target(wanted))
    assert await commands.data("pubsub_sync", "--stale") == []
    await in_thread(PubsubNode.objects.filter(name=other.name).update)(checked_at=None)
    assert [node["node"] for node in await commands.data("pubsub_sync", "--stale")] == [other.name]
    rows = await commands.data("pubsub_sync", "--all")
    assert {node["node"]: node["items"] for node in rows} == {address.name: 5, other.name: 2}
    assert list(rows[0]) == ["account", "service", "node", "items", "added", "updated", "removed", "seconds", "error"]
    await bob.delete_node(other)
    ended = await commands.run("pubsub_sync", "--all", "-O", "json")
    assert ended.returncode == 4
    assert "1 of 2 nodes could not be synchronised." in ended.stderr
    rows = {node["node"]: node for node in json.loads(ended.stdout)}
    assert (rows[address.name]["items"], rows[address.name]["error"]) == (5, None)
    assert "item-not-found" in rows[other.name]["error"]
    assert [node["node"] for node in await commands.data("pubsub_nodes")] == [address.name]


async def test_sync_waits_for_a_running_sync(commands: Commands, client: Client) -> None:
    address = await prepared(commands, client)
    await commands.data("pubsub_sync", *commands.target(address))
    nodes = PubsubNode.objects.filter(name=address.name)
    unwanted = {"to_sync": False, "by_hand": False}
    await in_thread(nodes.update)(sync_owner="another", sync_heartbeat=timezone.now(), **unwanted)
    patient = {"PUBSUBCACHE_LEASE_TIMEOUT": "600"}
    waiting = asyncio.create_task(commands.data("pubsub_sync", *commands.target(address), env=patient))
    async with asyncio.timeout(TIMEOUT):
        while not (await row(name=address.name)).by_hand:  # noqa: ASYNC110  (another process sets it)
            await asyncio.sleep(0.02)
    assert not waiting.done()
    assert (await row(name=address.name)).sync_owner == "another"
    await in_thread(nodes.update)(sync_owner="")
    assert (await waiting)["items"] == 5


async def is_subscribed(alice: Any, address: NodeAddress) -> bool:
    return any(subscription.state == "subscribed" for subscription in await alice.get_subscriptions(address))


async def test_reset_gives_up_the_subscriptions(commands: Commands, client: Client) -> None:
    address = await prepared(commands, client)
    alice = await client(commands.server, "alice")
    await commands.data("pubsub_sync", *commands.target(address))
    assert await is_subscribed(alice, address)
    reset = await commands.data("pubsub_reset", "--noinput")
    assert reset == {"forgotten": 1, "unsubscribed": 1, "pending": 0}
    assert not await is_subscribed(alice, address)

    await commands.data("pubsub_sync", *commands.target(address))
    reset = await commands.data("pubsub_reset", "--noinput", "--keep-subscriptions")
    assert reset == {"forgotten": 1, "unsubscribed": 0, "pending": 0}
    assert await is_subscribed(alice, address)


async def test_removing_an_account_ends_its_subscriptions(commands: Commands, client: Client) -> None:
    address = await prepared(commands, client)
    alice = await client(commands.server, "alice")
    await commands.data("pubsub_sync", *commands.target(address))
    removed = await commands.data("pubsub_account", "remove", commands.alice, "--noinput")
    assert removed == {"removed": commands.alice, "nodes": 1, "unsubscribed": 1}
    assert not await is_subscribed(alice, address)
    assert await commands.data("pubsub_account", "list") == []


# Through a worker: a command without the key of the password cannot log in itself, so it needs the worker.


async def test_reachable_worker_is_used(
    commands: Commands, client: Client, redis_server: Redis, start_manage: Callable[..., Any]
) -> None:
    address = await prepared(commands, client)
    target = commands.target(address)
    redis_server.start()
    by_worker = {"REDIS_URL": redis_server.url}
    key = {"PUBSUBCACHE_ENCRYPTION_KEY": "a key that commands without a worker need"}

    def encrypt_and_start() -> None:
        account = Account.objects.get(jid=commands.alice)
        with override_settings(**key):
            account.save(update_fields=["password"])
        start_manage("pubsub_worker", env={**by_worker, **key}, ready=is_online)

    def is_online() -> bool:
        return Account.objects.get(jid=commands.alice).is_online()

    await in_thread(encrypt_and_start)()
    page = await commands.data("pubsub_get", *target, "--no-cache", env=by_worker)
    assert len(page["items"]) == 5
    assert (await commands.data("pubsub_sync", *target, env=by_worker))["items"] == 5
    code, sentence = await commands.failure("pubsub_get", *target, "--no-cache")
    assert code == 5
    assert "another key" in sentence
    assert len((await commands.data("pubsub_get", *target, "--no-cache", env=key))["items"]) == 5


async def test_a_worker_that_does_not_answer(commands: Commands, client: Client, redis_server: Redis) -> None:
    address = await prepared(commands, client)
    redis_server.start()
    accounts = Account.objects.filter(jid=commands.alice)
    await in_thread(accounts.update)(worker="ghost", heartbeat=timezone.now(), status="online")
    env = {"REDIS_URL": redis_server.url, "PUBSUBCACHE_RPC_TIMEOUT": "0.5", "PUBSUBCACHE_LEASE_TIMEOUT": "600"}
    page = await commands.data("pubsub_get", *commands.target(address), env=env)
    assert (page["origin"], len(page["items"])) == ("service", 5)


async def test_items_without_a_parser(commands: Commands, client: Client) -> None:
    await commands.add_account()
    bob = await client(commands.server)
    address = await make_node(bob, commands.server, new_name("plain-"))
    await bob.publish(address, Element("{urn:example:thing}thing"), "thing")
    page = await commands.data("pubsub_get", *commands.target(address))
    assert (page["state"], page["items"][0]["parsed"]) == ("NO_SYNC", None)
    await commands.data("pubsub_sync", *commands.target(address))
    assert (await commands.data("pubsub_get", *commands.target(address)))["origin"] == "cache"
    assert await commands.data("pubsub_reparse") == {"items": 1, "changed": 0, "errors": 0}


async def test_items_of_services_are_explained(commands: Commands, client: Client) -> None:
    address = await prepared(commands, client, 2)
    target = commands.target(address)
    explain = ("pubsub_analysers", "explain")
    code, sentence = await commands.failure(*explain, *target, "--cache-only")
    assert (code, address.name in sentence) == (3, True)
    found = await commands.data(*explain, *target)
    assert (found["origin"], found["item"], found["stored"]) == ("service", "item-1", None)
    assert (found["analyser"], found["matched_by"], found["parsed"]["title"]) == ("microblog", "node", "Title 1")
    assert (await commands.data(*explain, *target, "-i", "item-0"))["parsed"]["title"] == "Title 0"
    assert not await in_thread(PubsubNode.objects.exists)()
    for missing in ((*target, "-i", "nothing"), commands.target(NodeAddress(address.service, new_name()))):
        code, sentence = await commands.failure(*explain, *missing)
        assert (code, "item-not-found" in sentence) == (4, True), sentence

    await commands.data("pubsub_sync", *target)
    bob = await client(commands.server)
    await bob.publish(address, entry("Title 2"), "item-2")
    found = await commands.data(*explain, *target)
    assert (found["origin"], found["item"], found["stored"]["state"]) == ("cache", "item-1", "COMPLETED")
    assert (await commands.data(*explain, *target, "--no-cache"))["item"] == "item-2"

    plain = await make_node(bob, commands.server, new_name("plain-"))
    assert (await commands.data(*explain, *commands.target(plain)))["item"] is None
    await bob.publish(plain, entry("Title"), "item")
    found = await commands.data(*explain, *commands.target(plain))
    assert (found["analyser"], found["matched_by"]) == ("microblog", "namespace")
    assert found["matched"] == "http://www.w3.org/2005/Atom"


@pytest.mark.both_databases
async def test_synchronised_items_are_found(commands: Commands, client: Client) -> None:
    await commands.add_account()
    bob = await client(commands.server)
    address = await make_node(bob, commands.server)
    await bob.publish(address, entry("Winter lights", content="The harbour at night"), "lights")
    await bob.publish(address, entry("ÉTÉ à Paris", published="2026-01-01T12:00:00+02:00"), "paris")
    plain = await make_node(bob, commands.server, new_name("plain-"))
    await bob.publish(plain, Element("{urn:example:thing}thing"), "thing")
    for node in (address, plain):
        await commands.data("pubsub_sync", *commands.target(node))

    async def find(*arguments: str, env: dict[str, str] | None = None) -> list[str]:
        found = await commands.data("pubsub_search", "-o", "item_id", *arguments, env=env)
        assert found["total"] == len(found["items"])
        return [item["id"] for item in found["items"]]

    assert await find() == ["lights", "paris", "thing"]
    assert await find("-f", "harbour") == await find("-t", "blog", "-f", "lights OR xmpp") == ["lights"]
    assert await find("-f", "entry") == await find("-f", "xmlns") == await find("-f", "item") == []
    assert await find("-F", "title", "ilike", "été%") == await find("-f", "ete") == ["paris"]
    assert await find("-F", "title", "missing") == ["thing"]
    before = ("-F", "published", "<", "TP(1/1/2026 10:00 + 30 min)")  # it was published at 10:00 in UTC
    assert await find(*before, env={"TIME_ZONE": "UTC"}) == ["paris"]
    assert await find(*before, env={"TIME_ZONE": "Europe/Paris"}) == []
