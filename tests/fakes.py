"""A pubsub service in memory that can imitate the behaviour of real services."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import wraps
from inspect import isawaitable
from typing import Any, Literal
from unittest.mock import patch
from xml.etree.ElementTree import Element, SubElement

from asgiref.sync import async_to_sync

from pubsubcache.analysers import Analyser
from pubsubcache.exceptions import ItemNotFound, ServiceError
from pubsubcache.parsers import ParseContext
from pubsubcache.types import (
    Directory,
    Item,
    ItemsRequest,
    NodeAddress,
    Publish,
    PubsubEvent,
    Retract,
    Rsm,
    ServicePage,
    Subscription,
    known_id,
)
from pubsubcache.utils.xmlform import PUBSUB

NOTE = "urn:example:note"
SERVICE = "pubsub.example.org"
ADDRESS = NodeAddress(SERVICE, "urn:example:notes")


def make_item(name: str, title: str = "", publisher: str | None = None, namespace: str = NOTE) -> Item:
    """Return an item with a small payload."""
    attributes = {"id": name} | ({"publisher": publisher} if publisher else {})
    element = Element(f"{{{PUBSUB}}}item", attributes)
    note = SubElement(element, f"{{{namespace}}}note")
    SubElement(note, f"{{{namespace}}}title").text = title or f"Title of {name}"
    return Item.from_element(element)


def publish_event(*items: Item, address: NodeAddress = ADDRESS, has_payload: bool = True, **more: Any) -> PubsubEvent:
    """Return a notification of published items."""
    changes = tuple(Publish(item=item, has_payload=has_payload) for item in items)
    fields = {"sender": address.service, "node": address.name, "kind": "items", "changes": changes}
    return PubsubEvent(**(fields | more))


def retract_event(*names: str, address: NodeAddress = ADDRESS, **more: Any) -> PubsubEvent:
    """Return a notification of retracted items."""
    changes = tuple(Retract(id=known_id(name)) for name in names)
    fields = {"sender": address.service, "node": address.name, "kind": "items", "changes": changes}
    return PubsubEvent(**(fields | more))


def node_event(kind: Any, address: NodeAddress = ADDRESS, **more: Any) -> PubsubEvent:
    """Return a notification about the node itself."""
    return PubsubEvent(**({"sender": address.service, "node": address.name, "kind": kind} | more))


@dataclass
class FakeNode:
    """A node: its items, oldest first, each with a number that increases by position."""

    items: dict[str, tuple[int, Item]] = field(default_factory=dict)
    subscribed: bool = False


Hook = Callable[["FakeService", str, Any], Awaitable[None] | None]


@dataclass
class FakeService:
    """A `PubsubService` with nodes in memory.

    The fields select its behaviour; `requests` lists the requests that it got, as (method, argument).
    """

    # Paging
    paging: Literal["none", "ids", "opaque"] = "none"  # the kind of cursors; "none" ignores <set/>
    page_limit: int | None = None  # the maximum length of pages, applied silently
    newest_first: bool = False  # listings and their pages begin with the newest item
    turned_last_page: bool = False  # pages requested from the end list the newest item first
    count: Callable[[int], int | None] = lambda real: real  # how it counts the items
    gives_cursors: bool = True
    index: Callable[[int], int | None] = lambda real: real
    empty_after: int | None = None  # this page and later ones are empty
    repeats: Literal["", "pages", "cursors"] = ""
    duplicates: bool = False  # pages list each item twice
    unrequested_set: bool = False  # send <set/> in answers to plain reads too
    past_the_end: Literal["empty", "item-not-found"] = "empty"
    endless: Literal["", "new items", "same items"] = ""  # the pages never end
    # Refusals and failures
    refuse_over: int | None = None  # larger requests are refused
    refusal: Exception = field(default_factory=lambda: ServiceError("resource-constraint"))
    refuse_rsm: Exception | None = None
    breaks_on: dict[int, Exception] = field(default_factory=dict)  # by the number of the items request
    errors: dict[str, Exception] = field(default_factory=dict)  # by method
    # Other answers
    plain_limit: int | None = None  # the maximum number of items without paging
    ids_limit: int | None = None  # the maximum number of items requested by id
    ids_order: Literal["asked", "age"] = "asked"
    unknown_id: Literal["absent", "item-not-found"] = "absent"
    disco: Literal["ok", "reversed", "refused"] = "ok"
    disco_limit: int | None = None
    moves_edited: bool = False
    subscription: str = "subscribed"
    metadata: dict[str, tuple[str, ...]] = field(default_factory=lambda: {"pubsub#access_model": ("open",)})
    directory: Directory = field(default_factory=lambda: Directory([], []))
    hook: Hook | None = None

    nodes: dict[NodeAddress, FakeNode] = field(default_factory=dict)
    requests: list[tuple[str, Any]] = field(default_factory=list)
    _number: int = 0
    _long_ids: dict[str, str] = field(default_factory=dict)  # by the shortened id of their items

    # Content

    def fill(self, count: int, address: NodeAddress = ADDRESS) -> list[str]:
        """Publish `count` items; return their ids."""
        names = [f"item-{number:03}" for number in range(count)]
        self.nodes.setdefault(address, FakeNode())
        for name in names:
            self.publish(name, address=address)
        return names

    def publish(
        self,
        name: str,
        title: str = "",
        address: NodeAddress = ADDRESS,
        publisher: str | None = None,
        namespace: str = NOTE,
    ) -> Item:
        """Publish an item, or replace it."""
        items = self.nodes.setdefault(address, FakeNode()).items
        item = make_item(name, title, publisher, namespace)
        if item.id != name:
            self._long_ids[item.id] = name
        name = item.id
        if name in items and not self.moves_edited:
            items[name] = (items[name][0], item)
            return item
        self._number += 1
        items.pop(name, None)
        items[name] = (self._number, item)
        return item

    def retract(self, name: str, address: NodeAddress = ADDRESS) -> None:
        """Retract an item."""
        self.nodes[address].items.pop(known_id(name), None)

    def ids(self, address: NodeAddress = ADDRESS) -> list[str]:
        """Return the ids of a node, oldest first."""
        return list(self.nodes[address].items)

    def xml(self, address: NodeAddress = ADDRESS) -> dict[str, str]:
        """Return the XML of a node's items by id, oldest first."""
        return {name: item.xml for name, (_, item) in self.nodes[address].items.items()}

    def asked(self, method: str = "get_items") -> list[Any]:
        """Return the arguments of the requests of one method."""
        return [argument for name, argument in self.requests if name == method]

    # The protocol

    async def get_items(self, address: NodeAddress, request: ItemsRequest) -> ServicePage:
        """See `PubsubService`."""
        node = await self._begin("get_items", request, address)
        if (error := self.breaks_on.get(len(self.asked()))) is not None:
            raise error
        size = len(request.item_ids or ()) or (request.rsm.max if request.rsm else None) or request.max_items
        if self.refuse_over is not None and (size or len(node.items)) > self.refuse_over:
            raise self.refusal
        if self.endless and request.item_ids is None:
            return self._endless_page(request)
        entries = list(node.items.values())
        if request.item_ids is not None:
            return self._by_ids(request.item_ids, entries)
        if request.rsm is not None and self.refuse_rsm is not None:
            raise self.refuse_rsm
        if request.rsm is not None and self.paging != "none":
            return self._page(entries, request.rsm)
        return self._plain(entries, request.max_items)

    def _endless_page(self, request: ItemsRequest) -> ServicePage:
        size = (request.rsm.max if request.rsm else None) or request.max_items or 10
        start = 0 if self.endless == "same items" else self._number
        self._number += size
        items = [make_item(f"endless-{number}") for number in range(start, start + size)]
        return ServicePage(items=items, rsm=Rsm(first=f"first {self._number}", last=f"last {self._number}"))

    def _by_ids(self, names: tuple[str, ...], entries: list[tuple[int, Item]]) -> ServicePage:
        known = {self._long_ids.get(item.id, item.id): item for _, item in entries}
        if self.unknown_id == "item-not-found" and any(name not in known for name in names):
            raise ItemNotFound
        order = names if self.ids_order == "asked" else tuple(name for name in known if name in names)
        return ServicePage(items=[known[name] for name in order if name in known][: self.ids_limit])

    def _plain(self, entries: list[tuple[int, Item]], max_items: int | None) -> ServicePage:
        limit = self.plain_limit if max_items is None else max_items
        chosen = entries if limit is None else entries[len(entries) - min(limit, len(entries)) :]
        if self.newest_first or (self.turned_last_page and max_items):
            chosen = chosen[::-1]
        rsm = self._rsm(chosen, entries, 0) if self.unrequested_set else None
        return ServicePage(items=[item for _, item in chosen], rsm=rsm)

    def _page(self, entries: list[tuple[int, Item]], rsm: Rsm) -> ServicePage:
        order = entries[::-1] if self.newest_first else entries
        size = min(number for number in (rsm.max, self.page_limit, len(order)) if number is not None)
        if rsm.before is not None:
            end = self._place(order, rsm.before) if rsm.before else len(order)
            start = max(0, end - size)
        else:
            start = rsm.index or (self._place(order, rsm.after) + 1 if rsm.after else 0)
            end = start + size
        if self.repeats == "pages":
            start, end = 0, size
        if self.past_the_end == "item-not-found" and start >= len(order) > 0:
            raise ItemNotFound
        chosen = order[start:end]
        if self.empty_after is not None and start >= self.empty_after:
            chosen = []
        answer = self._rsm(chosen, entries, start)
        if rsm.before is not None and self.turned_last_page:
            chosen = chosen[::-1]
            answer = self._rsm(chosen, entries, start)
        if self.duplicates:
            chosen = chosen + chosen
        return ServicePage(items=[item for _, item in chosen], rsm=answer)

    def _cursor(self, entry: tuple[int, Item]) -> str:
        name = entry[1].id
        return self._long_ids.get(name, name) if self.paging == "ids" else f"2026-01-01T00:00:00.{entry[0]:06}Z"

    def _place(self, order: list[tuple[int, Item]], cursor: str) -> int:
        """Return the position of a cursor; a time may lie between items."""
        for place, entry in enumerate(order):
            if self._cursor(entry) == cursor:
                return place
        if self.paging == "ids" or not cursor.startswith("2026-"):
            raise ItemNotFound
        later = [place for place, entry in enumerate(order) if self._cursor(entry) > cursor]
        return (later[0] if later else len(order)) - 1

    def _rsm(self, chosen: list[tuple[int, Item]], entries: list[tuple[int, Item]], start: int) -> Rsm:
        count = self.count(len(entries))
        if not chosen or not self.gives_cursors:
            return Rsm(count=count)
        last = "always the same" if self.repeats == "cursors" else self._cursor(chosen[-1])
        return Rsm(first=self._cursor(chosen[0]), last=last, index=self.index(start), count=count)

    async def get_item_ids(self, address: NodeAddress) -> list[str]:
        """See `PubsubService`."""
        node = await self._begin("get_item_ids", None, address)
        if self.disco == "refused":
            raise ServiceError("feature-not-implemented")
        names = list(node.items)[: self.disco_limit]
        return names[::-1] if self.disco == "reversed" else names

    async def subscribe(self, address: NodeAddress) -> Subscription:
        """See `PubsubService`."""
        node = await self._begin("subscribe", None, address)
        node.subscribed = self.subscription == "subscribed"
        return Subscription(jid="alice@example.org", state=self.subscription, node=address.name)

    async def unsubscribe(self, address: NodeAddress, subid: str = "") -> None:
        """See `PubsubService`."""
        (await self._begin("unsubscribe", subid, address)).subscribed = False

    async def get_node_metadata(self, address: NodeAddress) -> dict[str, tuple[str, ...]]:
        """See `PubsubService`."""
        await self._begin("get_node_metadata", None, address)
        return self.metadata

    async def get_subscriptions(self, address: NodeAddress) -> list[Subscription]:
        """See `PubsubService`."""
        node = await self._begin("get_subscriptions", None, address)
        found = Subscription(jid="alice@example.org", state=self.subscription, node=address.name)
        return [found] if node.subscribed else []

    async def browse(self, service: str) -> Directory:
        """See `PubsubService`."""
        self.requests.append(("browse", service))
        if (error := self.errors.get("browse")) is not None:
            raise error
        return self.directory

    async def _begin(self, method: str, argument: Any, address: NodeAddress) -> FakeNode:
        self.requests.append((method, argument))
        if self.hook is not None and isawaitable(outcome := self.hook(self, method, argument)):
            await outcome
        if (error := self.errors.get(method)) is not None:
            raise error
        if address not in self.nodes:
            raise ItemNotFound
        return self.nodes[address]


def in_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Turn a coroutine function into a synchronous test that shares its database connection and transaction.

    Channels would close the connection and so end the transaction of the test.
    """

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with patch("channels.db.close_old_connections"):
            async_to_sync(test)(*args, **kwargs)

    return run


def parse_note(item: Element, context: ParseContext) -> dict[str, Any]:
    """Parse an item of `make_item`; the title "unparsable" raises an error."""
    title = item.findtext(f"{{{NOTE}}}note/{{{NOTE}}}title")
    if title == "unparsable":
        raise ValueError("no title")
    return {"title": title}


def note_analyser(**options: Any) -> Analyser:
    """Return the analyser of nodes of notes."""
    fields = {"name": "note", "type": "note", "node": ADDRESS.name, "to_sync": True, "parser": parse_note}
    return Analyser(**(fields | options))
