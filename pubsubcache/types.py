"""Plain dataclasses that packages exchange, independent of Django models and XMPP stanzas; and input validation."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any, Literal
from urllib.parse import quote
from xml.etree.ElementTree import Element

from pubsubcache.exceptions import InvalidRequest, TooLarge
from pubsubcache.utils import xmlform

Order = Literal["creation", "modification"]
ORDERS = ("creation", "modification")
MAX_NUMBER = 2**31 - 1
# Item ids are part of unique indexes, and an index row of PostgreSQL is limited to 2704 bytes.
MAX_NAME_BYTES = 2048
SHORT_ID = "left-out:sha256:"
_SURROGATE = re.compile("[\ud800-\udfff]")


def known_id(item_id: str) -> str:
    """Return the item id under which the cache stores an item: the id itself, or a hash if it cannot be stored.

    Ids that look like such a hash are hashed too, so that no two ids collide.
    """
    if not item_id.startswith(SHORT_ID) and is_storable(item_id) and _size(item_id) <= MAX_NAME_BYTES:
        return item_id
    return SHORT_ID + sha256(item_id.encode(errors="surrogatepass")).hexdigest()


def is_storable(text: str) -> bool:
    """Return whether both databases can store `text`, i.e. it contains neither NUL nor lone surrogates."""
    return "\0" not in text and (text.isascii() or not _SURROGATE.search(text))


def _size(text: str) -> int:
    return len(text) if len(text) > MAX_NAME_BYTES or text.isascii() else len(text.encode())


def is_short(item_id: str) -> bool:
    """Return whether a result of `known_id` is a hash."""
    return item_id.startswith(SHORT_ID)


def check_number(name: str, value: Any, least: int) -> None:
    """Raise `InvalidRequest` unless `value` is None or an integer >= `least`."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_NUMBER:
        raise InvalidRequest(f"{name} must be an integer >= {least}, got {value!r:.50}.")


def check_text(name: str, value: Any) -> None:
    """Raise `InvalidRequest` unless `value` is a string that XML and both databases can store."""
    if isinstance(value, str) and is_storable(value):
        return
    raise InvalidRequest(f"{name} must be a string, got {value!r:.50}.")


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Address of a node (XEP-0060): the JID of the service and the name of the node."""

    service: str
    name: str

    @property
    def uri(self) -> str:
        """The node as an XMPP URI (XEP-0060, 12.22)."""
        return f"xmpp:{quote(self.service, safe='@')}?;node={quote(self.name, safe='')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rsm:
    """Result set management (XEP-0059), for requests and answers.

    Attributes:
        first: In an answer, opaque cursor of the first item.
        last: In an answer, opaque cursor of the last item.
        index: In a request, offset of the first item to return; in an answer, offset of the first item, from 0.
        count: In an answer, total number of items.
        max: In a request, maximum number of items.
        after: In a request, cursor after which the page begins.
        before: In a request, cursor before which the page ends; "" for the last page.
    """

    first: str | None = None
    last: str | None = None
    index: int | None = None
    count: int | None = None
    max: int | None = None
    after: str | None = None
    before: str | None = None

    @classmethod
    def of(cls, value: "Rsm | Mapping[str, Any] | None") -> "Rsm | None":
        """Convert `value` to an `Rsm`. Raises `InvalidRequest` if it is not a valid request."""
        if value is None:
            return None
        if not isinstance(value, Rsm):
            if not isinstance(value, Mapping):
                raise InvalidRequest(f"rsm must be an Rsm or a mapping of its fields, got {value!r:.50}.")
            known = {item.name for item in fields(cls)}
            if unknown := sorted(str(name) for name in value if name not in known):
                raise InvalidRequest(f"Unknown fields of rsm: {', '.join(unknown)}.")
            value = cls(**value)
        for name in ("max", "index"):
            check_number(name, getattr(value, name), 0)
        for name in ("after", "before"):
            if (cursor := getattr(value, name)) is not None:
                check_text(name, cursor)
        if sum(given is not None for given in (value.after, value.before, value.index)) > 1:
            raise InvalidRequest("Only one of after, before and index is allowed.")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsRequest:
    """A request for items of a node. `pubsubcache.cache.get_items` documents the fields.

    Raises:
        InvalidRequest: A field is invalid.
    """

    item_ids: tuple[str, ...] | None = None
    max_items: int | None = None
    rsm: Rsm | None = None
    order_by: Order | None = None

    @classmethod
    def of(
        cls,
        *,
        item_ids: Iterable[str] | None = None,
        max_items: int | None = None,
        rsm: Rsm | Mapping[str, Any] | None = None,
        order_by: Order | None = None,
    ) -> "ItemsRequest":
        """Return the request for these arguments of `pubsubcache.cache.get_items`."""
        return cls(item_ids=_checked_ids(item_ids), max_items=max_items, rsm=Rsm.of(rsm), order_by=order_by)

    def __post_init__(self) -> None:
        object.__setattr__(self, "item_ids", _checked_ids(self.item_ids))
        check_number("max_items", self.max_items, 1)
        object.__setattr__(self, "rsm", Rsm.of(self.rsm))
        if self.item_ids is not None and (self.max_items is not None or self.rsm is not None):
            raise InvalidRequest("Item ids cannot be combined with max_items or result set management.")
        if self.order_by is not None and self.order_by not in ORDERS:
            raise InvalidRequest(f"order_by must be creation or modification, got {self.order_by!r}.")


def _checked_ids(item_ids: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return item ids without duplicates. Raises `InvalidRequest` unless they are strings."""
    if item_ids is None:
        return None
    if isinstance(item_ids, str) or not isinstance(item_ids, Iterable):
        raise InvalidRequest(f"item_ids must be a list of item ids, got {item_ids!r:.50}.")
    checked = list(item_ids)
    for item_id in checked:
        check_text("An item id", item_id)
    return tuple(dict.fromkeys(checked))


@dataclass(kw_only=True)
class Item:
    """An item of a node.

    Attributes:
        id: The item id.
        xml: The whole `<item/>` in normal form; "" if the item is left out.
        parsed: Result of the parser, or None.
        publisher: JID of the publisher, or None.
        created: When the cache first stored the item; None if the service answered.
        updated: When the cache last changed the item; None if the service answered.
        left_out: Why the item cannot be stored, as one sentence; "" for all other items.
    """

    id: str
    xml: str
    parsed: Any = None
    publisher: str | None = None
    created: datetime | None = None
    updated: datetime | None = None
    left_out: str = ""

    @cached_property
    def element(self) -> Element:
        """The whole `<item/>` as an element."""
        return xmlform.from_text(self.xml)

    @cached_property
    def payload(self) -> Element | None:
        """The first payload element, or None."""
        return xmlform.first_payload(self.element)

    def without_publisher(self) -> "Item":
        """Return the item as returned by a service that does not report publishers."""
        if self.left_out or "publisher" not in self.element.attrib:
            return self
        element = Element(self.element.tag, {key: value for key, value in self.element.items() if key != "publisher"})
        element.text = self.element.text
        element.extend(self.element)
        return Item.from_element(element)

    @classmethod
    def from_element(cls, element: Element) -> "Item":
        """Create an item from an `<item/>` of a service. It is left out if it cannot be stored."""
        item_id = element.get("id", "")
        known = known_id(item_id)
        if known != item_id:
            return cls.without_content(known)
        normal = xmlform.normal_item(element)
        try:
            xml = xmlform.to_text(normal)
        except TooLarge as error:
            return cls(id=known, xml="", left_out=str(error))
        if not is_storable(xml):
            return cls(id=known, xml="", left_out="The item has characters that cannot be stored.")
        item = cls(id=known, xml=xml, publisher=normal.get("publisher"))
        item.__dict__["element"] = normal
        return item

    @classmethod
    def without_content(cls, item_id: str) -> "Item":
        """Create an item that is left out because its id cannot be stored; `item_id` is the hash of the id."""
        reason = f"The id of the item is longer than {MAX_NAME_BYTES} bytes, or cannot be stored."
        return cls(id=item_id, xml="", left_out=reason)


@dataclass(kw_only=True)
class ServicePage:
    """Answer of a service: items in its order, including those left out, and its result set management or None."""

    items: list[Item]
    rsm: Rsm | None = None


@dataclass(kw_only=True)
class ItemsPage:
    """Answer to a read.

    Attributes:
        items: The items, oldest first.
        rsm: Result set management, if the request asked for pages.
        complete: Whether there are no more items in the requested direction.
        origin: Who answered, the cache or the service.
        stale: Whether the cache may be outdated and the service could not be asked.
        checked_at: When the node was last known to equal that of the service.
        state: Sync state of the node.
        left_out: Items of this page that cannot be stored, as (item id, reason). Pages and counts include them.
    """

    items: list[Item]
    rsm: Rsm | None = None
    complete: bool = True
    origin: Literal["cache", "service"] = "service"
    stale: bool = False
    checked_at: datetime | None = None
    state: str | None = None
    left_out: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A subscription of an account; `state` is none, pending, unconfigured or subscribed."""

    jid: str
    state: str
    node: str = ""
    subid: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a `Directory`: a node, or another service if `node` is empty.

    Attributes:
        jid: The JID of the service, not normalised.
        node: The name of the node, or "".
        name: What the service calls it, or "".
    """

    jid: str
    node: str
    name: str


@dataclass(frozen=True, slots=True)
class Directory:
    """What an entity lists about itself (XEP-0030).

    Attributes:
        identities: Its identities, each as category and type, such as "pubsub/pep".
        entries: Its nodes and further services.
        is_cut: Whether there are more entries, or some that the cache cannot store.
    """

    identities: list[str]
    entries: list[Entry]
    is_cut: bool = False


EventKind = Literal["items", "purge", "delete", "configuration", "subscription", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """An item that was published; `has_payload` is false if the notification did not contain the payload."""

    item: Item
    has_payload: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Retract:
    """An item that was retracted."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PubsubEvent:
    """One notification (XEP-0060, 7 and 12).

    The kind "lost" stands for a message that could not be read, so any node of the sender may have changed.

    Attributes:
        sender: JID that sent the message, not verified.
        node: Name of the node.
        kind: Kind of the notification.
        changes: Published and retracted items in the order of the message, for the kind "items".
        subscription: State of the subscription, for the kind "subscription".
        subscriber: JID of the subscriber, for the kind "subscription".
        redirect: URI of the replacement node, for the kind "delete".
        unreadable: Why a part of the message could not be read, or "". If set, the node must be revalidated.
        delayed: Whether the message was delivered late (XEP-0203).
        extra: For the kind "configuration", the fields of the new configuration as `fields`.
    """

    sender: str
    node: str
    kind: EventKind
    changes: tuple[Publish | Retract, ...] = ()
    subscription: str = ""
    subscriber: str = ""
    redirect: str = ""
    unreadable: str = ""
    delayed: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
