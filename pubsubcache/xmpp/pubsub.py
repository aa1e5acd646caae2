"""Requests to a pubsub service (XEP-0060), built and read as plain XML.

Each takes `ask`, which sends an IQ and returns the one that answers it. All raise `ServiceError` when the service
refuses and `ServiceUnreachable` when it does not answer.
"""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any, Literal
from xml.etree.ElementTree import Element, SubElement

from pubsubcache.bounds import WalkBounds
from pubsubcache.exceptions import ItemNotFound, ServiceError, TooLarge
from pubsubcache.slices import Work
from pubsubcache.types import Item, ItemsRequest, NodeAddress, Rsm, ServicePage, Subscription, known_id
from pubsubcache.xmlform import PUBSUB
from pubsubcache.xmpp.forms import Fields, form_values, submission

OWNER = "http://jabber.org/protocol/pubsub#owner"
NODE_CONFIG = "http://jabber.org/protocol/pubsub#node_config"
RSM = "http://jabber.org/protocol/rsm"
ORDER_BY = "urn:xmpp:order-by:1"
DISCO_INFO = "http://jabber.org/protocol/disco#info"
DISCO_ITEMS = "http://jabber.org/protocol/disco#items"
MAX_SUBSCRIPTIONS = 10_000  # in one answer
MAX_ENDED = 20  # superfluous subscriptions ended at a time, each by a request of its own

IqType = Literal["get", "set"]
Ask = Callable[[IqType, str, Element], Coroutine[Any, Any, Element]]


def items_query(node: str, request: ItemsRequest) -> Element:
    """Return the `<pubsub/>` that asks for items (XEP-0060, 6.5; XEP-0059; XEP-0413)."""
    query = Element(f"{{{PUBSUB}}}pubsub")
    items = SubElement(query, f"{{{PUBSUB}}}items", {"node": node})
    if request.max_items is not None:
        items.set("max_items", str(request.max_items))
    for item_id in request.item_ids or ():
        SubElement(items, f"{{{PUBSUB}}}item", {"id": item_id})
    if request.rsm is not None:
        query.append(rsm_query(request.rsm))
    if request.order_by is not None:
        SubElement(query, f"{{{ORDER_BY}}}order", {"by": request.order_by})
    return query


def rsm_query(rsm: Rsm) -> Element:
    """Return the `<set/>` that asks for a page (XEP-0059)."""
    query = Element(f"{{{RSM}}}set")
    for name in ("max", "after", "before", "index"):
        if (value := getattr(rsm, name)) is not None:
            SubElement(query, f"{{{RSM}}}{name}").text = str(value)
    return query


def rsm_answer(parent: Element) -> Rsm | None:
    """Return the page that the `<set/>` in `parent` describes, or None without one."""
    if (found := parent.find(f"{{{RSM}}}set")) is None:
        return None
    first = found.find(f"{{{RSM}}}first")
    index = None if first is None else _number(first.get("index"))
    count = _number(found.findtext(f"{{{RSM}}}count"))
    return Rsm(first=_text(first), last=_text(found.find(f"{{{RSM}}}last")), index=index, count=count)


def _text(element: Element | None) -> str | None:
    return None if element is None else element.text or ""


def _number(text: str | None) -> int | None:
    """Return the number, or None for what is none: services are known to send negative ones."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None


async def get_items(ask: Ask, address: NodeAddress, request: ItemsRequest) -> ServicePage:
    """Ask for items and return them in the order of the answer, those that cannot be kept as left out."""
    answer = await ask("get", address.service, items_query(address.name, request))
    if (pubsub := answer.find(f"{{{PUBSUB}}}pubsub")) is None:
        return ServicePage(items=[])
    work = Work(address.service)
    items = []
    for element in pubsub.iterfind(f"{{{PUBSUB}}}items/{{{PUBSUB}}}item"):
        await work.pause()
        items.append(Item.from_element(element))
    return ServicePage(items=items, rsm=rsm_answer(pubsub))


async def get_item_ids(ask: Ask, address: NodeAddress) -> list[str]:
    """List the ids of all items of a node by service discovery (XEP-0060, 5.5), in the service's order.

    Follows the pages when the service gives pages. Raises `NodeTooLarge` for more items than `max_listed`, and
    `ServiceError` when the pages repeat themselves or do not end.
    """
    ids: dict[str, None] = {}
    cursors: set[str] = set()
    bounds = WalkBounds(address.name)
    rsm: Rsm | None = None
    while True:
        found, page = await _item_ids_page(ask, address, rsm)
        cursor = None if page is None else page.last
        bounds.count_page([name for name in dict.fromkeys(found) if name not in ids], cursor)
        ids.update(dict.fromkeys(found))
        if page is None or not found or not cursor or (page.count is not None and len(ids) >= page.count):
            return list(ids)
        if cursor in cursors or bounds.is_stale:
            raise ServiceError("undefined-condition", "the pages of its list of items go round in a circle")
        cursors.add(cursor)
        rsm = Rsm(after=cursor)


async def _item_ids_page(ask: Ask, address: NodeAddress, rsm: Rsm | None) -> tuple[list[str], Rsm | None]:
    query = Element(f"{{{DISCO_ITEMS}}}query", {"node": address.name})
    if rsm is not None:
        query.append(rsm_query(rsm))
    answer = await ask("get", address.service, query)
    if (found := answer.find(f"{{{DISCO_ITEMS}}}query")) is None:
        return [], None
    items = found.iterfind(f"{{{DISCO_ITEMS}}}item")
    names = [known_id(item.get("name", "")) for item in items if item.get("name") and not item.get("node")]
    return names, rsm_answer(found)


def _subscriptions(answer: Element) -> Iterator[Subscription]:
    for element in answer.iter(f"{{{PUBSUB}}}subscription"):
        yield Subscription(
            jid=element.get("jid", ""),
            state=element.get("subscription", "subscribed"),
            node=element.get("node", ""),
            subid=element.get("subid", ""),
        )


async def subscribe(ask: Ask, address: NodeAddress, jid: str) -> Subscription:
    """Subscribe `jid` (XEP-0060, 6.1); the state of the subscription may be pending.

    Where a service keeps several subscriptions of one JID apart by ids (12.19), earlier ones are ended.
    """
    query = Element(f"{{{PUBSUB}}}pubsub")
    SubElement(query, f"{{{PUBSUB}}}subscribe", {"node": address.name, "jid": jid})
    answer = await ask("set", address.service, query)
    made = next(_subscriptions(answer), Subscription(jid=jid, state="subscribed", node=address.name))
    if made.subid:
        # Those that are left bring each event once more, which does no harm.
        with suppress(ServiceError, TooLarge):
            own = await _own_subscriptions(ask, address, jid)
            others = [entry.subid for entry in own if entry.subid and entry.subid != made.subid]
            for subid in others[:MAX_ENDED]:
                await _unsubscribe(ask, address, jid, subid)
    return made


async def unsubscribe(ask: Ask, address: NodeAddress, jid: str, subid: str = "") -> None:
    """End the subscription of `jid` (XEP-0060, 6.2), if there is one and its node.

    Without `subid` all that it has are ended, up to `MAX_ENDED`. Raises `TooLarge` when there are more.
    """
    try:
        await _unsubscribe(ask, address, jid, subid)
    except ServiceError as error:
        if subid or "subid" not in error.text:
            raise
        own = await _own_subscriptions(ask, address, jid)
        for subscription in own[:MAX_ENDED]:
            await _unsubscribe(ask, address, jid, subscription.subid)
        if len(own) > MAX_ENDED:
            raise TooLarge(f"{address.service} keeps over {MAX_ENDED} subscriptions to {address.name}.") from error


async def _unsubscribe(ask: Ask, address: NodeAddress, jid: str, subid: str) -> None:
    query = Element(f"{{{PUBSUB}}}pubsub")
    attributes = {"node": address.name, "jid": jid} | ({"subid": subid} if subid else {})
    SubElement(query, f"{{{PUBSUB}}}unsubscribe", attributes)
    try:
        await ask("set", address.service, query)
    except ItemNotFound:
        return
    except ServiceError as error:
        if error.condition != "unexpected-request" or "not-subscribed" not in error.text:
            raise


async def _own_subscriptions(ask: Ask, address: NodeAddress, jid: str) -> list[Subscription]:
    return [found for found in await get_subscriptions(ask, address.service, address.name) if found.jid == jid]


async def get_subscriptions(ask: Ask, service: str, node: str | None = None) -> list[Subscription]:
    """List the account's own subscriptions at a service (XEP-0060, 5.6), of one node or of all.

    Raises `TooLarge` for over `MAX_SUBSCRIPTIONS` of them.
    """
    query = Element(f"{{{PUBSUB}}}pubsub")
    SubElement(query, f"{{{PUBSUB}}}subscriptions", {} if node is None else {"node": node})
    found = list(islice(_subscriptions(await ask("get", service, query)), MAX_SUBSCRIPTIONS + 1))
    if len(found) > MAX_SUBSCRIPTIONS:
        raise TooLarge(f"{service} lists over {MAX_SUBSCRIPTIONS} subscriptions.")
    if node is None:
        return found
    return [replace(entry, node=node) for entry in found if entry.node in ("", node)]


async def get_features(ask: Ask, service: str) -> frozenset[str]:
    """Return the features that a service says it has (XEP-0030, 3)."""
    answer = await ask("get", service, Element(f"{{{DISCO_INFO}}}query"))
    return frozenset(feature.get("var", "") for feature in answer.iter(f"{{{DISCO_INFO}}}feature"))


async def get_node_metadata(ask: Ask, address: NodeAddress) -> dict[str, tuple[str, ...]]:
    """Return the metadata of a node (XEP-0060, 5.4): values by field, such as `pubsub#access_model`."""
    answer = await ask("get", address.service, Element(f"{{{DISCO_INFO}}}query", {"node": address.name}))
    found = answer.find(f"{{{DISCO_INFO}}}query")
    return {} if found is None else form_values(found)


async def publish(ask: Ask, address: NodeAddress, payload: Element, item_id: str | None = None) -> str:
    """Publish an item (XEP-0060, 7.1) and return its id, as the service says it; "" when nobody says."""
    query = Element(f"{{{PUBSUB}}}pubsub")
    publishing = SubElement(query, f"{{{PUBSUB}}}publish", {"node": address.name})
    SubElement(publishing, f"{{{PUBSUB}}}item", {"id": item_id} if item_id else {}).append(payload)
    answer = await ask("set", address.service, query)
    item = answer.find(f"{{{PUBSUB}}}pubsub/{{{PUBSUB}}}publish/{{{PUBSUB}}}item")
    return (item.get("id") if item is not None else None) or item_id or ""


async def retract(ask: Ask, address: NodeAddress, item_id: str, *, notify: bool = True) -> None:
    """Retract an item (XEP-0060, 7.2); `notify`: tell the subscribers, if the service can be told to."""
    query = Element(f"{{{PUBSUB}}}pubsub")
    attributes = {"node": address.name} | ({"notify": "true"} if notify else {})
    retracting = SubElement(query, f"{{{PUBSUB}}}retract", attributes)
    SubElement(retracting, f"{{{PUBSUB}}}item", {"id": item_id})
    await ask("set", address.service, query)


async def create_node(ask: Ask, address: NodeAddress, config: Fields | None = None) -> None:
    """Create a node (XEP-0060, 8.1), configured by the fields `config`."""
    query = Element(f"{{{PUBSUB}}}pubsub")
    SubElement(query, f"{{{PUBSUB}}}create", {"node": address.name})
    if config:
        SubElement(query, f"{{{PUBSUB}}}configure").append(submission(NODE_CONFIG, config))
    await ask("set", address.service, query)


async def configure(ask: Ask, address: NodeAddress, fields: Fields) -> None:
    """Change fields of a node's configuration (XEP-0060, 8.2)."""
    query = _owner_query("configure", address)
    query[0].append(submission(NODE_CONFIG, fields))
    await ask("set", address.service, query)


async def purge_node(ask: Ask, address: NodeAddress) -> None:
    """Remove all items of a node (XEP-0060, 8.5)."""
    await ask("set", address.service, _owner_query("purge", address))


async def delete_node(ask: Ask, address: NodeAddress) -> None:
    """Delete a node (XEP-0060, 8.4)."""
    await ask("set", address.service, _owner_query("delete", address))


def _owner_query(action: str, address: NodeAddress) -> Element:
    query = Element(f"{{{OWNER}}}pubsub")
    SubElement(query, f"{{{OWNER}}}{action}", {"node": address.name})
    return query
