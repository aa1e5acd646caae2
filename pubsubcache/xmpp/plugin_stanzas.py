"""Answers to requests for items as the stanzas that slixmpp's code expects, whoever answered."""

from collections.abc import Awaitable, Callable
from xml.etree.ElementTree import Element, SubElement

from slixmpp import ClientXMPP, Iq
from slixmpp.exceptions import IqError
from slixmpp.plugins.xep_0059 import ResultIterator

from pubsubcache.exceptions import ServiceError
from pubsubcache.slices import Work
from pubsubcache.types import Item, ItemsPage, ItemsRequest, Rsm
from pubsubcache.xmlform import PUBSUB
from pubsubcache.xmpp.pubsub import RSM
from pubsubcache.xmpp.requests import STANZAS


def _iq(client: ClientXMPP, kind: str, sender: str) -> Element:
    attributes = {"type": kind, "id": client.new_id(), "from": sender, "to": client.boundjid.full}
    return Element(f"{{{client.default_ns}}}iq", attributes)


def _received(client: ClientXMPP, xml: Element) -> Iq:
    """Return `xml` as the client's stream would give it to its handlers."""
    return Iq(client, xml, recv=True)  # type: ignore[no-untyped-call]


async def items_result(client: ClientXMPP, sender: str, node: str, page: ItemsPage) -> Iq:
    """Return `page` of the node `node` as the answer of the service `sender` (XEP-0060, 6.5)."""
    iq = _iq(client, "result", sender)
    pubsub = SubElement(iq, f"{{{PUBSUB}}}pubsub")
    items = SubElement(pubsub, f"{{{PUBSUB}}}items", {"node": node})
    work = Work(sender)
    for item in page.items:
        await work.pause()
        items.append(item.element)
    if page.rsm is not None:
        pubsub.append(_rsm(page.rsm))
    return _received(client, iq)


def _rsm(rsm: Rsm) -> Element:
    answer = Element(f"{{{RSM}}}set")
    if rsm.first is not None:
        attributes = {} if rsm.index is None else {"index": str(rsm.index)}
        SubElement(answer, f"{{{RSM}}}first", attributes).text = rsm.first
    if rsm.last is not None:
        SubElement(answer, f"{{{RSM}}}last").text = rsm.last
    if rsm.count is not None:
        SubElement(answer, f"{{{RSM}}}count").text = str(rsm.count)
    return answer


def iq_error(client: ClientXMPP, sender: str, error: ServiceError) -> IqError:
    """Return `error` as slixmpp raises it: with the service's own stanza if there was one."""
    if isinstance(error.__cause__, IqError):
        return error.__cause__
    iq = _iq(client, "error", sender)
    element = SubElement(iq, f"{{{client.default_ns}}}error", {"type": "cancel"})
    SubElement(element, f"{{{STANZAS}}}{error.condition}")
    if error.text:
        SubElement(element, f"{{{STANZAS}}}text").text = error.text
    return IqError(_received(client, iq))  # type: ignore[no-untyped-call]


Read = Callable[[ItemsRequest], Awaitable[ItemsPage]]
Wrap = Callable[[ItemsPage], Awaitable[Iq]]


class Pages(ResultIterator):
    """Pages of items, one stanza each, until the node's end.

    `read` gives a page and raises as slixmpp does, `wrap` makes it a stanza. Unlike slixmpp's own, it raises what
    ends it too early, and needs no paging of the service. `amount`, `start` and `reverse` may be set as there.
    """

    def __init__(self, query: Iq, request: ItemsRequest, read: Read, wrap: Wrap) -> None:
        super().__init__(query, "pubsub")
        self._request = request
        self._read = read
        self._wrap = wrap
        self._seen: set[str] = set()
        self._rest: list[Item] | None = None
        self._done = 0

    async def next(self) -> Iq:
        """Return the next page. Raises `IqError`, `IqTimeout`, and `StopAsyncIteration` after the last."""
        if self._stop:
            raise StopAsyncIteration
        chosen = self._request.item_ids is not None or self._request.max_items is not None
        page = await (self._page_of_chosen() if chosen else self._page())
        if not page.items:
            self._stop = True
            raise StopAsyncIteration
        return await self._wrap(page)

    async def _page(self) -> ItemsPage:
        if self.reverse:
            rsm = Rsm(max=int(self.amount), before=self.start or "")
        else:
            rsm = Rsm(max=int(self.amount), after=self.start or None)
        page = await self._read(ItemsRequest(rsm=rsm))
        cursor = None if page.rsm is None else page.rsm.first if self.reverse else page.rsm.last
        # A cursor that comes twice would lead round in a circle.
        self._stop = page.complete or not cursor or cursor in self._seen
        if cursor:
            self._seen.add(cursor)
            self.start = cursor
        return page

    async def _page_of_chosen(self) -> ItemsPage:
        """Return a page of what was asked for by ids or number, which services don't agree how to page."""
        if self._rest is None:
            self._rest = (await self._read(self._request)).items
        amount, count = int(self.amount), self._done + len(self._rest)
        if self.reverse:
            items, self._rest = self._rest[-amount:], self._rest[:-amount]
        else:
            items, self._rest = self._rest[:amount], self._rest[amount:]
        index = len(self._rest) if self.reverse else self._done
        self._done += len(items)
        self._stop = not self._rest
        rsm = Rsm(first=items[0].id, last=items[-1].id, index=index, count=count) if items else Rsm(count=count)
        return ItemsPage(items=items, rsm=rsm, complete=self._stop)
