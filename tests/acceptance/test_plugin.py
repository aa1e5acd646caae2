"""Test that code written for slixmpp gets the same answers from the cache as from the service."""

import asyncio
import inspect
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

import pytest
from slixmpp import ClientXMPP, Iq
from slixmpp.exceptions import IqError, IqTimeout

from pubsubcache.store import in_thread, nodes
from pubsubcache.types import NodeAddress
from pubsubcache.utils import xmlform
from pubsubcache.utils.xmlform import PUBSUB
from pubsubcache.xmpp.pubsub import RSM
from tests.acceptance.site import ATOM, TIMEOUT, Site, cached_node, entry, left_site, make_node, publish_many
from tests.servers.manage import environment
from tests.servers.xmpp import XmppServer

PROJECT = Path(__file__).resolve().parents[2]
MODULE = "pubsubcache.xmpp.plugin"


class Bot(ClientXMPP):
    """A client like typical bots, which records the pubsub requests that it sends."""

    def __init__(self, server: XmppServer, user: str, cached: bool) -> None:
        super().__init__(server.jid(user), server.users[user])
        self.ca_certs = server.ca_file
        self.sent: list[Any] = []
        self.add_filter("out", self._note)
        self.register_plugin("xep_0059")
        self.register_plugin("xep_0060")
        if cached:
            self.register_plugin("pubsub_cache", {"account": server.jid(user)}, module=MODULE)

    def _note(self, stanza: Any) -> Any:
        if isinstance(stanza, Iq) and stanza.xml.find(f"{{{PUBSUB}}}pubsub") is not None:
            self.sent.append(stanza)
        return stanza

    @property
    def pubsub(self) -> Any:
        """The plug-in that bots use."""
        return self.plugin["xep_0060"]

    async def log_in(self, server: XmppServer) -> None:
        """Connect, and return once the session has begun."""
        begun = self.loop.create_future()
        self.add_event_handler("session_start", lambda event: begun.set_result(None), disposable=True)
        self.connect(server.host, server.port)
        async with asyncio.timeout(TIMEOUT):
            await begun


MakeBot = Callable[..., Awaitable[Bot]]


@pytest.fixture
async def bot() -> AsyncIterator[MakeBot]:
    """`await bot(server, "alice", cached=False)` returns a bot that stays logged in until the test ends."""
    async with AsyncExitStack() as stack:

        async def make(server: XmppServer, user: str = "alice", cached: bool = True) -> Bot:
            client = Bot(server, user, cached)
            stack.push_async_callback(client.disconnect, wait=0.5)
            await client.log_in(server)
            return client

        yield make


def parts(iq: Iq) -> tuple[Any, ...]:
    """Return the parts of an answer that can be compared: all but its id and what only some servers add.

    Servers may add the language of the request, and ejabberd adds a `<set/>` to the newest items.
    """
    content = [child for child in iq.xml.iterfind(f"{{{PUBSUB}}}pubsub/*") if child.tag != f"{{{RSM}}}set"]
    return iq["type"], iq["from"], iq["to"] == iq.stream.boundjid, [xmlform.to_text(child) for child in content]


def ids(iq: Iq) -> list[str]:
    """Return the ids of an answer's items, as bots read them."""
    return [item["id"] for item in iq["pubsub"]["items"]]


@dataclass
class Scene:
    """A node in sync, a bot with the plug-in and the same bot without."""

    site: Site
    owner: Any
    address: NodeAddress
    cached: Bot
    plain: Bot
    called: list[Any] = field(default_factory=list)

    async def both(self, method: str, *args: Any, **kwargs: Any) -> tuple[Iq, Iq]:
        """Return the answer to the bot with the plug-in, which must send no request, and that to the other bot."""
        self.cached.sent.clear()
        ours = await getattr(self.cached.pubsub, method)(self.address.service, self.address.name, *args, **kwargs)
        assert self.cached.sent == []
        return ours, await getattr(self.plain.pubsub, method)(self.address.service, self.address.name, *args, **kwargs)

    async def read(self, **kwargs: Any) -> Iq:
        """Read the node with the plug-in."""
        answer: Iq = await self.cached.pubsub.get_items(self.address.service, self.address.name, **kwargs)
        return answer


def _ownership(address: NodeAddress, jid: str) -> Element:
    """Return the request to make `jid` an owner of a node (XEP-0060, 8.9.2)."""
    return fromstring(
        f'<pubsub xmlns="{PUBSUB}#owner"><affiliations node="{address.name}">'
        f'<affiliation jid="{jid}" affiliation="owner"/></affiliations></pubsub>'
    )


@pytest.fixture
async def scene(site: Site, client: Any, bot: MakeBot) -> Scene:
    """A node of twelve items, one of them edited."""
    owner = await client(site.server)
    address = await make_node(owner, site.server)
    await owner.ask("set", address.service, _ownership(address, site.jid))
    await publish_many(owner, address, 12)
    await site.cached(address)
    await owner.publish(address, entry("Edited"), "item-4")
    await site.knows_order(address)
    await site.converged(address)
    return Scene(site, owner, address, await bot(site.server), await bot(site.server, cached=False))


async def test_stanzas_equal_those_of_the_service(scene: Scene) -> None:
    for options in ({}, {"max_items": 3}, {"max_items": 100}, {"item_ids": ["item-7"]}, {"item_ids": []}):
        ours, theirs = await scene.both("get_items", **options)
        assert parts(ours) == parts(theirs), options
        assert ids(ours) == ids(theirs), options
    ours, theirs = await scene.both("get_item", "item-4")
    assert parts(ours) == parts(theirs)
    item = ours["pubsub"]["items"]["item"]
    assert (item["id"], item["payload"].findtext(f"{{{ATOM}}}title")) == ("item-4", "Edited")


async def test_items_come_in_the_requested_order(scene: Scene) -> None:
    assert ids(await scene.read(item_ids=["item-7", "item-2", "nothing", "item-11"])) == ["item-7", "item-2", "item-11"]
    assert ids(await scene.read(item_ids=["nothing"])) == []


async def test_methods_keep_their_signatures(scene: Scene) -> None:
    for name in ("get_items", "get_item", "publish", "retract", "purge"):
        ours, theirs = getattr(scene.cached.pubsub, name), getattr(scene.plain.pubsub, name)
        assert inspect.signature(ours) == inspect.signature(theirs)
        assert ours.__doc__ == theirs.__doc__
    scene.cached.plugin.disable("pubsub_cache")
    await scene.read()
    assert len(scene.cached.sent) == 1


@pytest.mark.parametrize("amount", [5, 4, 50])
@pytest.mark.parametrize("options", [{}, {"max_items": 7}, {"item_ids": ["item-3", "item-1", "item-9", "item-2", "x"]}])
async def test_walk_covers_all_items(scene: Scene, amount: int, options: dict[str, Any]) -> None:
    everything = ids(await scene.read(**options))
    for use_next in (False, True):
        walk = scene.cached.pubsub.get_items(scene.address.service, scene.address.name, iterator=True, **options)
        walk.amount = amount
        pages = [page async for page in walk] if not use_next else await _by_next(walk)
        assert [len(ids(page)) for page in pages[:-1]] == [amount] * (len(pages) - 1)
        assert [name for page in pages for name in ids(page)] == everything
        assert pages[0]["pubsub"]["rsm"]["count"] == str(len(everything))
        assert pages[0]["from"] == scene.address.service
    assert scene.cached.sent == []


async def _by_next(walk: Any) -> list[Iq]:
    pages = []
    while True:
        try:
            pages.append(await walk.next())
        except StopAsyncIteration:
            return pages


async def test_a_walk_backwards(scene: Scene) -> None:
    everything = ids(await scene.read())
    walk = scene.cached.pubsub.get_items(scene.address.service, scene.address.name, iterator=True)
    walk.amount, walk.reverse = 5, True
    pages = [ids(page) async for page in walk]
    assert [name for page in reversed(pages) for name in page] == everything
    walk = scene.cached.pubsub.get_items(scene.address.service, scene.address.name, max_items=7, iterator=True)
    walk.amount, walk.reverse = 3, True
    pages = [ids(page) async for page in walk]
    assert [name for page in reversed(pages) for name in page] == everything[-7:]


async def test_walk_of_an_uncached_node(scene: Scene) -> None:
    address = await make_node(scene.owner, scene.site.server, "urn:example:plain/" + scene.address.name[-12:])
    await publish_many(scene.owner, address, 12)
    walk = scene.cached.pubsub.get_items(address.service, address.name, iterator=True)
    walk.amount = 5
    pages = [ids(page) async for page in walk]
    assert [len(page) for page in pages] == [5, 5, 2]
    assert [name for page in pages for name in page] == [f"item-{n}" for n in range(12)]
    assert scene.cached.sent


async def test_callbacks(scene: Scene) -> None:
    async def later(iq: Iq) -> None:
        scene.called.append(ids(iq))

    everything = ids(await scene.read())
    answer = await scene.read(callback=scene.called.append)
    assert scene.called == [answer]
    scene.called.clear()
    await scene.read(callback=later)
    await asyncio.sleep(0)
    assert scene.called == [everything]
    scene.called.clear()
    await scene.cached.pubsub.get_item(
        scene.address.service, scene.address.name, "item-2", callback=lambda iq: scene.called.append(ids(iq))
    )
    assert scene.called == [["item-2"]]


async def test_callback_runs_without_an_await(scene: Scene) -> None:
    called: asyncio.Future[Iq] = asyncio.get_running_loop().create_future()
    scene.cached.pubsub.get_items(scene.address.service, scene.address.name, callback=called.set_result)
    async with asyncio.timeout(TIMEOUT):
        assert len(ids(await called)) == 12


async def test_a_missing_node(scene: Scene) -> None:
    answers = []
    for client in (scene.cached, scene.plain):
        called: list[Iq] = []
        with pytest.raises(IqError) as caught:
            await client.pubsub.get_items(scene.address.service, "urn:example:nothing", callback=called.append)
        assert caught.value.condition == "item-not-found"
        assert called == [caught.value.iq]
        answers.append((caught.value.etype, caught.value.text, *parts(caught.value.iq)[:3]))
    assert answers[0] == answers[1]
    walk = scene.cached.pubsub.get_items(scene.address.service, "urn:example:nothing", iterator=True)
    with pytest.raises(IqError):
        await walk.next()


async def test_requests_the_cache_cannot_answer_are_sent(scene: Scene) -> None:
    own = scene.cached.boundjid
    await scene.read(ifrom=own.full)
    assert scene.cached.sent == []
    await scene.read(max_items=2, item_ids=["item-1"])
    assert len(scene.cached.sent) == 1
    with suppress(IqError, IqTimeout):  # servers differ in their answer
        await scene.read(ifrom=f"{own.bare}/other", timeout=1)
    assert len(scene.cached.sent) == 2


@pytest.mark.both_databases
async def test_own_writes_are_seen_at_once(scene: Scene) -> None:
    service, node = scene.address.service, scene.address.name
    pubsub = scene.cached.pubsub
    answer = await pubsub.publish(service, node, id="mine", payload=entry("Mine"))
    assert answer["pubsub"]["publish"]["item"]["id"] == "mine"
    assert "mine" in await scene.site.names(scene.address)
    await _equal(scene)
    await pubsub.publish(service, node, id="mine too", payload=entry("Mine too"))
    await pubsub.publish(service, node, id="mine", payload=entry("Edited"))
    assert (await _titles(scene))["mine"] == "Edited"
    await _equal(scene)
    await pubsub.retract(service, node, "item-3", notify=True)
    assert "item-3" not in await scene.site.names(scene.address)
    await _equal(scene)
    answer = await pubsub.publish(service, node, payload=entry("Named by the service"))
    assert ids(await scene.read())[-1] == answer["pubsub"]["publish"]["item"]["id"]
    await pubsub.purge(service, node)
    assert ids(await scene.read()) == []
    await scene.site.converged(scene.address)


async def _titles(scene: Scene) -> dict[str, str]:
    answer = await scene.read()
    return {item["id"]: item["payload"].findtext(f"{{{ATOM}}}title") for item in answer["pubsub"]["items"]}


async def _equal(scene: Scene) -> None:
    service, node = scene.address.service, scene.address.name
    assert parts(await scene.read()) == parts(await scene.plain.pubsub.get_items(service, node))
    await scene.site.converged(scene.address)


@pytest.mark.both_databases
async def test_writes_and_reads_keep_their_order(scene: Scene) -> None:
    """A bot need not wait for a write before it reads."""
    service, node = scene.address.service, scene.address.name
    called: list[list[str]] = []

    async def read_again(iq: Iq) -> None:
        called.append(ids(await scene.read()))

    names = [f"new-{n}" for n in range(20)]
    writes = [scene.cached.pubsub.publish(service, node, id=name, payload=entry(name)) for name in names]
    writes.append(scene.cached.pubsub.retract(service, node, "item-0", callback=read_again))
    answer = ids(await scene.read())
    assert answer[-20:] == names
    assert "item-0" not in answer
    await asyncio.gather(*writes)
    await scene.site.until(lambda: _is(bool(called)))
    assert called[0][-20:] == names
    await scene.site.converged(scene.address)


async def _is(value: Any) -> Any:
    return value


async def test_a_refused_write_changes_nothing(scene: Scene) -> None:
    address = await make_node(scene.owner, scene.site.server)
    await publish_many(scene.owner, address, 3)
    await scene.site.cached(address)
    called: list[Iq] = []
    with pytest.raises(IqError) as caught:
        await scene.cached.pubsub.publish(
            address.service, address.name, id="item-1", payload=entry("x"), callback=called.append
        )
    assert caught.value.condition == "forbidden"
    assert called == [caught.value.iq]
    answer = await scene.cached.pubsub.get_items(address.service, address.name)
    assert parts(answer) == parts(await scene.plain.pubsub.get_items(address.service, address.name))


async def test_items_dropped_by_the_service_are_not_kept(site: Site, bot: MakeBot) -> None:
    """A node of one item drops the previous one without a notification, and the plug-in stores the new one first."""
    alice = await bot(site.server)
    address = NodeAddress(site.jid, "urn:xmpp:microblog:0:room")
    await alice.pubsub.create_node(address.service, address.name)
    await alice.pubsub.publish(address.service, address.name, id="one", payload=entry("One"))
    await site.cached(address)
    limit = len(ids(await alice.pubsub.get_items(None, address.name)))
    assert limit == 1
    for number in range(30):
        await alice.pubsub.publish(address.service, address.name, id=f"item-{number}", payload=entry("More"))
    await site.converged(address)
    await alice.pubsub.delete_node(address.service, address.name)


async def test_own_pep_node_is_the_default(site: Site, bot: MakeBot) -> None:
    cached, plain = await bot(site.server), await bot(site.server, cached=False)
    node = "urn:xmpp:microblog:0:own"
    await plain.pubsub.publish(None, node, id="one", payload=entry("One"))
    await site.cached(NodeAddress(site.jid, node))
    for jid in (None, site.jid):
        cached.sent.clear()
        ours = await cached.pubsub.get_items(jid, node)
        assert cached.sent == []
        theirs = await plain.pubsub.get_items(jid, node)
        assert parts(ours)[2:] == parts(theirs)[2:]
        assert ours["from"] in (site.jid, theirs["from"])  # without a named service, servers may omit it
    await plain.pubsub.delete_node(None, node)


async def test_two_clients(scene: Scene, bot: MakeBot) -> None:
    """A bot reads what another wrote from the cache; a bot of another account has its own rights."""
    second = await bot(scene.site.server)
    service, node = scene.address.service, scene.address.name
    await second.pubsub.publish(service, node, id="theirs", payload=entry("Theirs"))
    assert ids(await scene.read())[-1] == "theirs"
    await scene.site.converged(scene.address)
    with pytest.raises(ValueError, match="cannot use the cache"):
        Bot(scene.site.server, "bob", cached=False).register_plugin(
            "pubsub_cache", {"account": scene.site.jid}, module=MODULE
        )
    bob = await bot(scene.site.server, "bob")  # who has no account in the cache
    assert ids(await bob.pubsub.get_items(service, node)) == ids(await scene.read())
    assert len(bob.sent) == 1


async def test_reads_with_the_server_stopped(scene: Scene) -> None:
    before = await scene.read()
    lost = scene.cached.disconnected
    walk = scene.cached.pubsub.get_items(scene.address.service, scene.address.name, iterator=True)
    walk.amount = 5
    pages = [await walk.next()]
    scene.site.server.stop()
    try:
        async with asyncio.timeout(TIMEOUT):
            await lost
        after = await scene.read()
        assert parts(after)[3] == parts(before)[3]
        pages += [page async for page in walk]
        assert [name for page in pages for name in ids(page)] == ids(before)
        assert ids(await scene.cached.pubsub.get_item(scene.address.service, scene.address.name, "item-4")) == [
            "item-4"
        ]
        with pytest.raises(IqTimeout):
            await scene.cached.pubsub.get_items(scene.address.service, "urn:example:nothing", timeout=0.2)
    finally:
        scene.site.server.start()


async def test_without_a_worker(xmpp_server: XmppServer, live_database: None, client: Any, bot: MakeBot) -> None:
    """A node that is not followed is fresh for a while; then the bot's own session reads it again."""
    owner = await client(xmpp_server)
    site, address = await left_site(xmpp_server, owner, 3)
    alice = await bot(xmpp_server)
    assert len(ids(await alice.pubsub.get_items(address.service, address.name))) == 3
    assert alice.sent == []
    await publish_many(owner, address, 1, first=3)
    node = await site.node(address)
    assert node is not None
    await in_thread(nodes.invalidate_node)(node.pk)
    assert len(ids(await alice.pubsub.get_items(address.service, address.name))) == 4
    assert alice.sent
    alice.sent.clear()
    xmpp_server.stop()
    try:
        await site.until(lambda: _is(not alice.is_connected()))
        assert len(ids(await alice.pubsub.get_items(address.service, address.name))) == 3
        assert alice.sent == []
    finally:
        xmpp_server.start()


class SampleBot:
    """The bot of the sample in its own process."""

    def __init__(self, server: XmppServer, address: NodeAddress, *options: str) -> None:
        fields = server.account_fields("alice")
        self.arguments = ["-m", "project.sample.bot", "-s", address.service, "-n", address.name, *options]
        self.environment = environment(
            {f"XMPP_{name.upper()}": str(value) for name, value in fields.items()} | {"LOG_LEVEL": "ERROR"}
        )

    async def __aenter__(self) -> "SampleBot":
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, *self.arguments, env=self.environment, cwd=PROJECT, stdin=pipe, stdout=pipe, stderr=pipe
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()

    def ask(self) -> None:
        """Make it read once more."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    async def titles(self) -> list[str]:
        """Return the titles that it prints at its next read."""
        assert self.process.stdout is not None
        lines = []
        async with asyncio.timeout(TIMEOUT):
            while line := (await self.process.stdout.readline()).decode().strip():
                lines.append(line)
        return lines

    async def end(self) -> str:
        """Close its input, wait for it to exit, and return what it wrote to stderr."""
        _, complaints = await asyncio.wait_for(self.process.communicate(b""), TIMEOUT)
        assert self.process.returncode == 0
        return complaints.decode()


async def test_sample_bot_with_the_plugin(site: Site, client: Any) -> None:
    owner = await client(site.server)
    address = await cached_node(site, owner, 5)
    expected = [f"Title {number}" for number in range(2, 5)]
    options = ("-N", "3")
    async with (
        SampleBot(site.server, address, *options) as plain,
        SampleBot(site.server, address, *options, "--cache") as cached,
    ):
        assert await plain.titles() == expected
        assert await cached.titles() == expected
        site.server.stop()
        try:
            await site.until(lambda: _is_lost(site))
            cached.ask()
            assert await cached.titles() == expected
            async with SampleBot(site.server, address, *options, "--cache") as late:  # it could not log in
                assert await late.titles() == expected
                assert await late.end() == ""
            plain.ask()
            assert "does not answer" in await plain.end()
            assert await cached.end() == ""
        finally:
            site.server.start()


async def _is_lost(site: Site) -> bool:
    return not await site.is_online()
