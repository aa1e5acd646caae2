"""Pubsub requests (XEP-0060), built and parsed as plain XML.

Each function takes `ask`, which sends an IQ and returns the answer. All raise `ServiceError` if the service refuses,
and `ServiceUnreachable` if it does not answer.
"""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import Any, Literal
from xml.etree.ElementTree import Element, SubElement

from pubsubcache.exceptions import ItemNotFound, ServiceError, TooLarge
from pubsubcache.types import (
    Directory,
    Entry,
    Item,
    ItemsRequest,
    NodeAddress,
    Rsm,
    ServicePage,
    Subscription,
    is_storable,
    known_id,
)
from pubsubcache.utils.bounds import WalkBounds
from pubsubcache.utils.slices import Work
from pubsubcache.utils.xmlform import PUBSUB
from pubsubcache.xmpp.forms import Fields, form_values, submission

OWNER = "http://jabber.org/protocol/pubsub#owner"
NODE_CONFIG = "http://jabber.org/protocol/pubsub#node_config"
RSM = "http://jabber.org/protocol/rsm"
ORDER_BY = "urn:xmpp:order-by:1"
DISCO_INFO = "http://jabber.org/protocol/disco#info"
DISCO_ITEMS = "http://jabber.org/protocol/disco#items"
MAX_SUBSCRIPTIONS = 10_000  # in one answer
MAX_BROWSED = 500  # entries of a directory
MAX_LABEL = 3000  # characters of a JID, the name of a node or a description in it
MAX_ENDED = 20  # subscriptions to end at once, with one request each

IqType = Literal["get", "set"]
Ask = Callable[[IqType, str, Element], Coroutine[Any, Any, Element]]


def items_query(node: str, request: ItemsRequest) -> Element:
    """Build the `<pubsub/>` of a request for items (XEP-0060, 6.5; XEP-0059; XEP-0413)."""
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
    """Build the `<set/>` of a request for a page (XEP-0059)."""
    query = Element(f"{{{RSM}}}set")
    for name in ("max", "after", "before", "index"):
        if (value := getattr(rsm, name)) is not None:
            SubElement(query, f"{{{RSM}}}{name}").text = str(value)
    return query


def rsm_answer(parent: Element) -> Rsm | None:
    """Parse the `<set/>` in an answer (XEP-0059); return None if there is none."""
    if (found := parent.find(f"{{{RSM}}}set")) is None:
        return None
    first = found.find(f"{{{RSM}}}first")
    index = None if first is None else _number(first.get("index"))
    count = _number(found.findtext(f"{{{RSM}}}count"))
    return Rsm(first=_text(first), last=_text(found.find(f"{{{RSM}}}last")), index=index, count=count)


def _text(element: Element | None) -> str | None:
    return None if element is None else element.text or ""


def _number(text: str | None) -> int | None:
    """Parse a non-negative integer; return None for anything else. Some services send negative numbers."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None


async def get_items(ask: Ask, address: NodeAddress, request: ItemsRequest) -> ServicePage:
    """Request items (XEP-0060, 6.5).

    Returns:
        The items in the order of the answer. Items that cannot be stored are left out, see `Item.left_out`.
    """
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
    """List the ids of all items of a node with service discovery (XEP-0060, 5.5), in the order of the service.

    If the answer is paged, all pages are fetched.

    Raises:
        NodeTooLarge: The node has more items than `max_listed`.
        ServiceError: The service refused, or its pages repeat or do not end.
    """
    item_ids: dict[str, None] = {}
    cursors: set[str] = set()
    bounds = WalkBounds(address.name)
    rsm: Rsm | None = None
    while True:
        found, page = await _item_ids_page(ask, address, rsm)
        cursor = None if page is None else page.last
        bounds.count_page([item_id for item_id in dict.fromkeys(found) if item_id not in item_ids], cursor)
        item_ids.update(dict.fromkeys(found))
        if page is None or not found or not cursor or (page.count is not None and len(item_ids) >= page.count):
            return list(item_ids)
        if cursor in cursors or bounds.is_stale:
            raise ServiceError("undefined-condition", "the pages of its list of items repeat")
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
    item_ids = [known_id(item.get("name", "")) for item in items if item.get("name") and not item.get("node")]
    return item_ids, rsm_answer(found)


def _subscriptions(answer: Element) -> Iterator[Subscription]:
    for element in answer.iter(f"{{{PUBSUB}}}subscription"):
        yield Subscription(
            jid=element.get("jid", ""),
            state=element.get("subscription", "subscribed"),
            node=element.get("node", ""),
            subid=element.get("subid", ""),
        )


async def subscribe(ask: Ask, address: NodeAddress, jid: str) -> Subscription:
    """Subscribe a JID to a node (XEP-0060, 6.1).

    If the service allows several subscriptions per JID, with ids (12.19), earlier ones are ended.

    Returns:
        The new subscription; its state may be pending.
    """
    query = Element(f"{{{PUBSUB}}}pubsub")
    SubElement(query, f"{{{PUBSUB}}}subscribe", {"node": address.name, "jid": jid})
    answer = await ask("set", address.service, query)
    made = next(_subscriptions(answer), Subscription(jid=jid, state="subscribed", node=address.name))
    if made.subid:
        # Remaining subscriptions only duplicate notifications, which is harmless.
        with suppress(ServiceError, TooLarge):
            own = await _own_subscriptions(ask, address, jid)
            others = [entry.subid for entry in own if entry.subid and entry.subid != made.subid]
            for subid in others[:MAX_ENDED]:
                await _unsubscribe(ask, address, jid, subid)
    return made


async def unsubscribe(ask: Ask, address: NodeAddress, jid: str, subid: str = "") -> None:
    """Unsubscribe a JID from a node (XEP-0060, 6.2); do nothing if it is not subscribed or the node does not exist.

    Args:
        ask: Sends the request.
        address: The node.
        jid: The subscribed JID.
        subid: Id of the subscription; "" for all subscriptions of this JID, up to `MAX_ENDED`.

    Raises:
        TooLarge: The JID has more than `MAX_ENDED` subscriptions.
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
            raise TooLarge(f"{address.service} has over {MAX_ENDED} subscriptions to {address.name}.") from error


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
    return [found for found in await get_subscriptions(ask, address) if found.jid == jid]


async def get_subscriptions(ask: Ask, address: NodeAddress) -> list[Subscription]:
    """List the subscriptions of the account to a node (XEP-0060, 5.6).

    There is no request for all nodes of a service, because Prosody 0.12 may not answer it.

    Raises:
        TooLarge: The service lists more than `MAX_SUBSCRIPTIONS`.
    """
    query = Element(f"{{{PUBSUB}}}pubsub")
    SubElement(query, f"{{{PUBSUB}}}subscriptions", {"node": address.name})
    found = list(islice(_subscriptions(await ask("get", address.service, query)), MAX_SUBSCRIPTIONS + 1))
    if len(found) > MAX_SUBSCRIPTIONS:
        raise TooLarge(f"{address.service} lists over {MAX_SUBSCRIPTIONS} subscriptions.")
    return [replace(entry, node=address.name) for entry in found if entry.node in ("", address.name)]


async def browse(ask: Ask, service: str) -> Directory:
    """Return the identities of a service and the first of its nodes and further services (XEP-0030, 3 and 4)."""
    try:
        about = await ask("get", service, Element(f"{{{DISCO_INFO}}}query"))
    except ServiceError:  # some services list nodes, but do not describe themselves
        about = Element("iq")
    found = islice(about.iter(f"{{{DISCO_INFO}}}identity"), MAX_BROWSED)
    identities = [f"{one.get('category', '')[:100]}/{one.get('type', '')[:100]}" for one in found]
    listed = await ask("get", service, Element(f"{{{DISCO_ITEMS}}}query"))
    elements = list(islice(listed.iter(f"{{{DISCO_ITEMS}}}item"), MAX_BROWSED + 1))
    entries = [Entry(one.get("jid", ""), one.get("node", ""), one.get("name", "")[:MAX_LABEL]) for one in elements]
    usable = [entry for entry in entries[:MAX_BROWSED] if _is_usable(entry.jid) and _is_usable(entry.node)]
    return Directory(identities, usable, is_cut=len(usable) < len(entries))


def _is_usable(text: str) -> bool:
    return len(text) <= MAX_LABEL and is_storable(text)


async def get_features(ask: Ask, service: str) -> frozenset[str]:
    """Return the features of a service (XEP-0030, 3)."""
    answer = await ask("get", service, Element(f"{{{DISCO_INFO}}}query"))
    return frozenset(feature.get("var", "") for feature in answer.iter(f"{{{DISCO_INFO}}}feature"))


async def get_node_metadata(ask: Ask, address: NodeAddress) -> dict[str, tuple[str, ...]]:
    """Return the metadata of a node (XEP-0060, 5.4): values by field name, such as `pubsub#access_model`."""
    answer = await ask("get", address.service, Element(f"{{{DISCO_INFO}}}query", {"node": address.name}))
    found = answer.find(f"{{{DISCO_INFO}}}query")
    return {} if found is None else form_values(found)


async def publish(ask: Ask, address: NodeAddress, payload: Element, item_id: str | None = None) -> str:
    """Publish an item (XEP-0060, 7.1).

    Returns:
        The item id from the answer, else the given one, else "".
    """
    query = Element(f"{{{PUBSUB}}}pubsub")
    publishing = SubElement(query, f"{{{PUBSUB}}}publish", {"node": address.name})
    SubElement(publishing, f"{{{PUBSUB}}}item", {"id": item_id} if item_id else {}).append(payload)
    answer = await ask("set", address.service, query)
    item = answer.find(f"{{{PUBSUB}}}pubsub/{{{PUBSUB}}}publish/{{{PUBSUB}}}item")
    return (item.get("id") if item is not None else None) or item_id or ""


async def retract(ask: Ask, address: NodeAddress, item_id: str, *, notify: bool = True) -> None:
    """Retract an item (XEP-0060, 7.2); with `notify`, ask the service to notify the subscribers."""
    query = Element(f"{{{PUBSUB}}}pubsub")
    attributes = {"node": address.name} | ({"notify": "true"} if notify else {})
    retracting = SubElement(query, f"{{{PUBSUB}}}retract", attributes)
    SubElement(retracting, f"{{{PUBSUB}}}item", {"id": item_id})
    await ask("set", address.service, query)


async def create_node(ask: Ask, address: NodeAddress, config: Fields | None = None) -> None:
    """Create a node (XEP-0060, 8.1), optionally with configuration fields."""
    query = Element(f"{{{PUBSUB}}}pubsub")
    SubElement(query, f"{{{PUBSUB}}}create", {"node": address.name})
    if config:
        SubElement(query, f"{{{PUBSUB}}}configure").append(submission(NODE_CONFIG, config))
    await ask("set", address.service, query)


async def configure(ask: Ask, address: NodeAddress, fields: Fields) -> None:
    """Change configuration fields of a node (XEP-0060, 8.2)."""
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
