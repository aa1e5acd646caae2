"""Plays histories on a service with writers and a caching site, and compares the results."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from pubsubcache import cache
from pubsubcache.exceptions import ServiceError, ServiceUnreachable
from pubsubcache.models import PubsubEvicted, PubsubItem, PubsubNode
from pubsubcache.services import remote
from pubsubcache.services.sessions import sessions
from pubsubcache.store import evicting, in_thread, nodes
from pubsubcache.types import ItemsPage, NodeAddress
from pubsubcache.xmpp.session import Session, open_session
from tests.acceptance.site import Site, new_name
from tests.adversary.component import HostileService
from tests.adversary.process import QUICK, QUICK_CONSTANTS, paused
from tests.oracle.clock import WallClock, wall_clock
from tests.oracle.payloads import payloads, publish
from tests.oracle.steps import IDS, Step, written
from tests.servers.manage import ManagedProcess
from tests.servers.proxy import Proxy
from tests.servers.xmpp import XmppServer

#: The nodes: (writer, whether it is a PEP node of the writer, how many items the service keeps, whether
#: notifications have payloads).
KINDS = [
    ("bob", False, 1000, True),
    ("bob", False, 5, True),
    ("alice", True, 1000, True),
    ("bob", True, 1000, True),
    ("bob", False, 1000, False),
]
#: Steps that do not refer to a node of `KINDS`.
OF_NO_NODE = ("offline", "online", "cut", "cut_after", "slow", "clock", "mute", "endless", "settle")
FIRST_ITEMS = 12
LEASE = 3.0
CONVERGENCE_TIMEOUT = 40.0
READ_TIMEOUT = 20.0


class Divergence(AssertionError):
    """The cache gave an answer that it must not give."""


@dataclass
class Node:
    """A node of the service under test."""

    address: NodeAddress
    writer: Session
    limit: int
    is_pep: bool
    has_payloads: bool = True
    silent: bool = False  # something changed without a notification, so only a revalidation finds it
    never_empty: bool = True  # the service always had items since the last comparison
    counter: int = 0


@dataclass
class World:
    """Plays steps on a server, with a site whose worker reaches it through `proxy`."""

    server: XmppServer
    proxy: Proxy
    site: Site
    writers: dict[str, Session]
    clock: WallClock
    hostile: HostileService
    folder: Path
    nodes: dict[int, Node] = field(default_factory=dict)
    shaky: bool = False  # the session was disturbed since the last comparison
    _working: AsyncExitStack | None = None

    async def play(self, history: list[Step], forms: list[dict[str, Any]]) -> None:
        """Play a history with an empty cache, and compare the results at its end. Raises `Divergence`."""
        place = -1
        try:
            await self.online()
            for place, step in enumerate(history):  # noqa: B007
                await self._step(step)
            place = len(history)
            await self.settle()
            for form in forms:
                for node in self.nodes.values():
                    await self._compare(node, form)
        except Exception as error:
            error.add_note(f"At step {place} on {self.server.name}, of this history:")
            error.add_note(written(history, forms))
            raise
        finally:
            await self._clear()

    async def _clear(self) -> None:
        self.proxy.delay, self.proxy.budget, self.clock.offset = 0.0, None, 0.0
        for node in self.nodes.values():
            with suppress(ServiceError):  # deleted by the history
                await node.writer.delete_node(node.address)
        self.nodes.clear()
        self.shaky = False
        await in_thread(lambda: PubsubNode.objects.all().delete())()

    async def _step(self, step: Step) -> None:
        kind, *arguments = step
        method = getattr(self, "set_clock" if kind == "clock" else kind)
        if kind in OF_NO_NODE:
            await method(*arguments)
        else:
            await method(await self._node(arguments[0]), *arguments[1:])

    # The worker and its connection

    async def online(self) -> None:
        """Start the worker if it is not running."""
        if self._working is None:
            self._working = AsyncExitStack()
            await self._working.enter_async_context(self.site.working())

    async def offline(self) -> None:
        """Stop the worker."""
        if self._working is not None:
            working, self._working = self._working, None
            await working.aclose()
        self.shaky = True

    async def cut(self) -> None:
        """Break the worker's connection."""
        self.proxy.cut()
        self.shaky = True

    async def cut_after(self, size: int) -> None:
        """Break the worker's connection after `size` bytes of the server, even inside a stanza."""
        self.proxy.budget = size
        self.shaky = True

    async def slow(self, delay: float) -> None:
        """Delay what the server sends by `delay` seconds."""
        self.proxy.delay = delay

    async def stale(self, node: Node, seed: int) -> None:
        """Pause another worker past its lease, with notifications in its socket; resume it after a takeover."""
        await self.offline()
        environment = {**QUICK, "PUBSUBCACHE_LEASE_TIMEOUT": str(LEASE), "PUBSUBCACHE_PAGE_SIZE": "3"}
        other = ManagedProcess(
            self.folder, "pubsub_worker", env=environment, ready=lambda: True, constants=QUICK_CONSTANTS
        )
        await in_thread(other.start)()
        try:
            await self.site.until(self.site.is_online)
            with paused(other):
                await self.burst(node, 10, seed)
                await self.online()
                await self.burst(node, 5, seed + 1)
            await self.burst(node, 5, seed + 2)
        finally:
            await in_thread(other.stop)()

    async def set_clock(self, offset: float) -> None:
        """Set the wall clock that the site sees."""
        self.clock.offset = offset
        self.shaky = True  # until the next heartbeat the holder of the account is unknown

    async def silence(self, node: Node, count: int, seed: int) -> None:
        """Publish while the connection is open but passes nothing on."""
        self.proxy.holding = True
        reading = asyncio.create_task(self.read(node, {}))
        try:
            await self.burst(node, count, seed)
        finally:
            self.proxy.holding = False
        await reading

    async def mute(self, silent: bool) -> None:
        """Make another service of the account stop answering, or answer again."""
        self.hostile.silent = silent
        await self._hostile_node("")
        self.hostile.payloads = not silent
        for name in self.hostile.nodes:
            self.hostile.publish(name, "new", "<x xmlns='urn:example:other'/>", to=[self.site.jid])

    async def endless(self, kind: str) -> None:
        """Make the pages of another service of the account endless, and request a sync of a new node there."""
        await self._hostile_node(kind)

    async def _hostile_node(self, kind: str) -> None:
        address = self.hostile.add_node(items=3)
        self.hostile.endless_items = self.hostile.endless_ids = kind
        await in_thread(nodes.get_or_create_node)(self.site.jid, address, by_hand=True)
        await remote.awake()

    # Steps of writers

    async def _node(self, number: int) -> Node:
        if number not in self.nodes:
            writer, is_pep, limit, has_payloads = KINDS[number]
            service = self.server.jid(writer) if is_pep else self.server.pubsub
            node = Node(NodeAddress(service, new_name()), self.writers[writer], limit, is_pep, has_payloads)
            self.nodes[number] = node
            await self._create(node)
            for name in range(FIRST_ITEMS):
                await self._publish(node, f"first-{name}", "plain")
            await self.read(node, {})
        return self.nodes[number]

    async def _create(self, node: Node) -> None:
        fields = {
            "pubsub#max_items": str(node.limit),
            "pubsub#persist_items": "1",
            "pubsub#access_model": "open",
            "pubsub#notify_retract": "1",
            "pubsub#notify_delete": "1",
            "pubsub#send_last_published_item": "never",
            "pubsub#deliver_payloads": str(int(node.has_payloads)),
        }
        await node.writer.create_node(node.address, fields)

    async def _publish(self, node: Node, name: str, kind: str) -> None:
        node.counter += 1
        await publish(node.writer, node.address, name, payloads(kind, f"Title {node.counter}"))

    async def _try(self, node: Node, *actions: Any) -> None:
        """Run actions that the service may refuse, and record whether the node is empty afterwards."""
        for error in await asyncio.gather(*actions, return_exceptions=True):
            if isinstance(error, BaseException) and not isinstance(error, ServiceError):
                raise error
        try:
            remaining = await node.writer.get_item_ids(node.address)
        except ServiceError:
            remaining = []
        node.never_empty = node.never_empty and bool(remaining)

    async def publish(self, node: Node, number: int, kind: str) -> None:
        """Publish an item, or replace it."""
        await self._try(node, self._publish(node, IDS[number], kind))

    async def burst(self, node: Node, count: int, seed: int) -> None:
        """Publish, edit and retract many items at once."""
        chance = random.Random(seed)
        actions = []
        for _ in range(count):
            name = chance.choice([f"first-{chance.randrange(FIRST_ITEMS)}", f"more-{chance.randrange(12)}"])
            if chance.random() < 0.25:
                actions.append(node.writer.retract(node.address, name, notify=True))
            else:
                actions.append(self._publish(node, name, "plain"))
        node.never_empty = False
        await self._try(node, *actions)

    async def race(self, node: Node, kind: str, seed: int) -> None:
        """Change items while a slow listing runs, so that listed items are older than notified ones.

        With an odd seed the cache forgets the node first, so that it parses every item, which takes long.
        """
        chance = random.Random(seed)
        node.never_empty = False
        self._is_silent(node, ejabberd_pep=kind == "retract")
        delay, self.proxy.delay = self.proxy.delay, max(self.proxy.delay, 0.01)
        if seed % 2:
            await in_thread(nodes.forget_nodes)(self._rows(node), unsubscribe=False)
            await self.read(node, {})
        await self.sync(node)
        with suppress(TimeoutError):
            await self.site.until(lambda: self._is_listed(node), timeout=1.0)
        for name in chance.sample(range(FIRST_ITEMS), 4):
            await asyncio.sleep(chance.random() * 0.03)
            if kind == "retract":
                await self._try(node, node.writer.retract(node.address, f"first-{name}", notify=True))
            else:
                await self._try(node, self._publish(node, f"{kind}-{name}", "plain"))
        self.proxy.delay = delay

    async def _is_listed(self, node: Node) -> bool:
        row = await self.site.node(node.address)
        return row is not None and bool(row.sync_owner)

    def _is_silent(self, node: Node, *, ejabberd_pep: bool) -> None:
        if ejabberd_pep and node.is_pep and self.server.name == "ejabberd":
            node.silent = True  # it notifies recipients of PEP only of new items

    async def retract(self, node: Node, number: int, notify: bool) -> None:
        """Retract an item; without `notify` the service may not notify subscribers."""
        node.silent = node.silent or not notify
        self._is_silent(node, ejabberd_pep=True)
        await self._try(node, node.writer.retract(node.address, IDS[number], notify=notify))

    async def purge(self, node: Node) -> None:
        """Remove all items."""
        self._is_silent(node, ejabberd_pep=True)
        await self._try(node, node.writer.purge_node(node.address))

    async def delete(self, node: Node) -> None:
        """Delete the node."""
        self._is_silent(node, ejabberd_pep=True)
        await self._try(node, node.writer.delete_node(node.address))

    async def recreate(self, node: Node, count: int) -> None:
        """Delete the node if it exists, and create it with some items."""
        await self.delete(node)
        await self._create(node)
        for name in range(count):
            await self._try(node, self._publish(node, f"first-{name * 2}", "plain"))

    async def limit(self, node: Node, count: int) -> None:
        """Set the number of items that the service keeps."""
        node.silent = True
        await self._try(node, node.writer.configure(node.address, {"pubsub#max_items": str(count)}))

    async def access(self, node: Node, model: str) -> None:
        """Set the access model, so that only the owner or everyone can read."""
        node.silent = True
        await self._try(node, node.writer.configure(node.address, {"pubsub#access_model": model}))

    # Steps of the site's users

    async def read(self, node: Node, form: dict[str, Any]) -> None:
        """Read as a user does, which must work whatever happens at the same time."""
        await self._read(node, form)

    async def _read(self, node: Node, form: dict[str, Any]) -> ItemsPage | None:
        expects_items = node.never_empty
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                page = await self.site.read(node.address, **form)
        except ServiceError:
            return None
        except ServiceUnreachable as error:
            if self.shaky:
                return None
            raise Divergence(f"A read of {form} failed with {error!r}") from error
        may_be_empty = form.get("item_ids") or form.get("rsm", {}).get("max") == 0 or form.get("rsm", {}).get("index")
        if expects_items and not may_be_empty and not page.items:
            raise Divergence(f"A read of {form} was empty though {node.address} has items ({page})")
        return page

    async def walk(self, node: Node, size: int, backwards: bool) -> None:
        """Read page by page."""
        rsm: dict[str, Any] = {"max": size, "before": ""} if backwards else {"max": size}
        never_empty = node.never_empty
        for _ in range(8):
            page = await self._read(node, {"rsm": rsm})
            if page is None or not page.items or page.rsm is None:
                break
            rsm = {"max": size, "before": page.rsm.first} if backwards else {"max": size, "after": page.rsm.last}
            node.never_empty = False  # a page beyond the last is empty
        node.never_empty = never_empty

    # Steps of operators

    async def sync(self, node: Node) -> None:
        """Request a synchronisation of the node."""
        await in_thread(nodes.request_sync)(self._rows(node))
        await remote.awake()

    async def evict(self, node: Node, keep: int) -> None:
        """Evict all but the newest items of the node."""

        def run() -> None:
            newest = PubsubItem.objects.filter(node__in=self._rows(node)).order_by("-created")[keep : keep + 1]
            for item in newest:
                evicting.evict(self._rows(node), created_before=item.created)

        await in_thread(run)()

    def _rows(self, node: Node) -> Any:
        return PubsubNode.objects.filter(
            account__jid=self.site.jid, service=node.address.service, name=node.address.name
        )

    # Comparison

    async def settle(self) -> None:
        """Wait until the cache of each node equals the service. Raises `Divergence` if it does not in time."""
        self.proxy.budget = None
        await self.online()
        await self.site.until(self._is_connected)
        for node in self.nodes.values():
            if node.silent:
                await self._reconcile(node)
        for node in self.nodes.values():
            await self._settled(node)
        self.shaky = False

    async def _reconcile(self, node: Node) -> None:
        """Revalidate the node as the schedule does or, if it is not followed, as a reader does."""
        row = await self.site.node(node.address)
        if row is None:
            return
        if row.sync_state == "COMPLETED" and row.subscribed:
            await in_thread(self._rows(node).update)(reconcile_interval=timedelta(milliseconds=1))
        else:
            await in_thread(nodes.request_revalidation)(row.pk)
        await remote.awake()

    async def _is_connected(self) -> bool:
        """Return whether the worker's current session reaches the server."""
        service = sessions.get(self.site.jid)
        if not self.proxy.connections or service is None or not await self.site.is_online():
            return False
        try:
            await service.get_features(self.server.pubsub)  # type: ignore[attr-defined]
        except ServiceUnreachable:
            return False
        return True

    async def _settled(self, node: Node) -> None:
        deadline = time.monotonic() + CONVERGENCE_TIMEOUT
        while (difference := await self._difference(node)) is not None:
            row = await self.site.node(node.address)
            is_unscheduled = row is not None and row.sync_state == "COMPLETED" and row.reconcile_interval is None
            if row is not None and is_unscheduled and (node.silent or not row.subscribed):
                await self._reconcile(node)  # it is not notified, or the last request came during a synchronisation
            if time.monotonic() > deadline:
                raise Divergence(f"{node.address.name} of {node.address.service} did not converge: {difference}")
            await asyncio.sleep(0.05)
        await in_thread(self._rows(node).update)(reconcile_interval=None)
        node.silent = False
        node.never_empty = bool(await self._live_ids(node))

    async def _live_ids(self, node: Node) -> list[str]:
        try:
            return await node.writer.get_item_ids(node.address)
        except ServiceError:
            return []

    async def _difference(self, node: Node) -> str | None:
        """Return the difference between cache and service, or None."""
        live, cached = await self._outcome(node, use_cache=False), await self._outcome(node)
        if isinstance(live, str) or isinstance(cached, str):
            if cached != live:
                return f"the service answers {_short(live)}, the cache {_short(cached)}"
            has_items = await in_thread(PubsubItem.objects.filter(node__in=self._rows(node)).exists)()
            return f"items of a node that is {live}" if has_items else None
        row = await self.site.node(node.address)
        if not live.items and self._has_no_proof_of_emptiness(node) and cached.origin == "service":
            return None
        if row is None or cache.freshness(row) is not cache.Freshness.FRESH or row.sync_owner:
            return f"the cached node is not fresh: {vars(row) if row else None}"
        rows = await in_thread(self._stored)(row)
        if [name for name, _ in rows] != [item.id for item in live.items]:
            there = [item.id[:30] for item in live.items]
            return f"the service has {there}, the cache {[name[:30] for name, _ in rows]}, {vars(row)}"
        for (name, data), item in zip(rows, live.items, strict=True):
            if data is not None and data != item.xml:
                return f"{name!r} is {item.xml!r} at the service, {data!r} in the cache"
        if row.item_count != sum(data is not None for _, data in rows) or row.item_count + row.evicted_count != len(
            rows
        ):
            return f"counts {row.item_count} and {row.evicted_count} are wrong for {len(rows)} items"
        return _page_difference(live, cached)

    def _has_no_proof_of_emptiness(self, node: Node) -> bool:
        """Return whether empty answers are the only evidence of an empty node, which the cache does not rely on."""
        return self.server.name == "prosody" and node.is_pep and node.writer.login.jid != self.site.jid

    @staticmethod
    def _stored(row: PubsubNode) -> list[tuple[str, str | None]]:
        """Return (id, data) of a node's items in their order; data is None for evicted items."""
        kept = [(position, name, data) for position, name, data in row.items.values_list("position", "name", "data")]
        gone = PubsubEvicted.objects.filter(node=row).values_list("position", "name")
        entries = sorted([*kept, *((position, name, None) for position, name in gone)], key=lambda entry: entry[0])
        return [(name, data) for _, name, data in entries]

    async def _outcome(self, node: Node, form: dict[str, Any] | None = None, **options: Any) -> ItemsPage | str:
        try:
            async with asyncio.timeout(READ_TIMEOUT):
                return await self.site.read(node.address, **(form or {}), **options)
        except ServiceError as error:
            return error.condition
        except (ServiceUnreachable, TimeoutError) as error:
            return f"unreachable: {error!r}"

    async def _compare(self, node: Node, form: dict[str, Any]) -> None:
        """Compare an answer of the cache with that of the service."""
        live, cached = await self._outcome(node, form, use_cache=False), await self._outcome(node, form)
        if isinstance(live, str) or isinstance(cached, str):
            difference = None if live == cached else f"the service answers {_short(live)}, the cache {_short(cached)}"
        else:
            difference = _page_difference(live, cached)
        if difference is not None:
            raise Divergence(f"{form} of {node.address.name} of {node.address.service}: {difference}")


def _short(outcome: ItemsPage | str) -> str:
    return outcome if isinstance(outcome, str) else f"{len(outcome.items)} items from the {outcome.origin}"


def _page_difference(live: ItemsPage, cached: ItemsPage) -> str | None:
    for aspect, of_item in (
        ("ids", lambda item: item.id),
        ("XML", lambda item: item.xml),
        ("parsed data", lambda item: item.parsed),
        ("publisher", lambda item: item.publisher),
    ):
        there, here = [of_item(item) for item in live.items], [of_item(item) for item in cached.items]
        if there != here:
            return f"{aspect}: {str(there)[:2000]} there, {str(here)[:2000]} here ({cached.origin}, {cached.state})"
    if live.complete != cached.complete:
        return f"complete is {live.complete} there, {cached.complete} here"
    counts = (live.rsm and live.rsm.count, cached.rsm and cached.rsm.count)
    if counts[0] != counts[1]:
        return f"counts {counts}"
    if cached.stale:
        return "the answer is stale"
    return None


@asynccontextmanager
async def open_world(server: XmppServer, folder: Path) -> AsyncIterator[World]:
    """Open a world with a running server and the test database; its worker processes use `folder`."""
    async with AsyncExitStack() as stack:
        clock = stack.enter_context(wall_clock())
        proxy = await stack.enter_async_context(Proxy(server.host, server.port))
        hostile = await stack.enter_async_context(HostileService(server))
        writers = {user: await stack.enter_async_context(open_session(server.login(user))) for user in ("alice", "bob")}
        site = Site(server)
        await site.add_account(port=proxy.port)
        world = World(server, proxy, site, writers, clock, hostile, folder)
        try:
            yield world
        finally:
            await world.offline()
