"""The data that passes between the parts: plain dataclasses, no Django model and no stanza among them."""

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
# Ids are part of unique indexes, and PostgreSQL's index rows end at 2704 bytes.
MAX_NAME_BYTES = 2048
SHORT_ID = "left-out:sha256:"
_SURROGATE = re.compile("[\ud800-\udfff]")


def known_id(name: str) -> str:
    """Return the text under which the cache knows an item: its id, or a short form of an id that cannot be stored.

    Ids that look like a short form are shortened too, so that no two ids share one.
    """
    if not name.startswith(SHORT_ID) and is_storable(name) and _size(name) <= MAX_NAME_BYTES:
        return name
    return SHORT_ID + sha256(name.encode(errors="surrogatepass")).hexdigest()


def is_storable(text: str) -> bool:
    """Whether both databases can store `text`: no NUL, no lone surrogate."""
    return "\0" not in text and (text.isascii() or not _SURROGATE.search(text))


def _size(text: str) -> int:
    return len(text) if len(text) > MAX_NAME_BYTES or text.isascii() else len(text.encode())


def is_short(name: str) -> bool:
    """Whether `name`, as returned by `known_id`, is the short form of an id."""
    return name.startswith(SHORT_ID)


def check_number(name: str, value: Any, least: int) -> None:
    """Raise `InvalidRequest` for what is neither None nor a whole number of at least `least`."""
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_NUMBER:
        raise InvalidRequest(f"{name} is to be a whole number of at least {least}, not {value!r:.50}.")


def check_text(name: str, value: Any) -> None:
    """Raise `InvalidRequest` for what is no text that XML and databases can hold."""
    if isinstance(value, str) and is_storable(value):
        return
    raise InvalidRequest(f"{name} is to be a text, not {value!r:.50}.")


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """A node of a service (XEP-0060): `service` a JID, `name` the node's name."""

    service: str
    name: str

    @property
    def uri(self) -> str:
        """The node as an XMPP URI (XEP-0060, 12.22)."""
        return f"xmpp:{quote(self.service, safe='@')}?;node={quote(self.name, safe='')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rsm:
    """Result set management (XEP-0059), both ways.

    In a request: `max`, `after`, `before` ("" is the last page), `index`. In an answer: `first`, `last`
    (cursors, opaque), `index` (of the first item, from 0) and `count` (of all items), each None where
    the service did not say.
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
        """Return `value` as an `Rsm`. Raises `InvalidRequest` when it has no meaning as a request."""
        if value is None:
            return None
        if not isinstance(value, Rsm):
            if not isinstance(value, Mapping):
                raise InvalidRequest(f"rsm is to be an Rsm or its fields, not {value!r:.50}.")
            known = {item.name for item in fields(cls)}
            if unknown := sorted(str(name) for name in value if name not in known):
                raise InvalidRequest(f"Result set management has no {', '.join(unknown)}.")
            value = cls(**value)
        for name in ("max", "index"):
            check_number(name, getattr(value, name), 0)
        for name in ("after", "before"):
            if (cursor := getattr(value, name)) is not None:
                check_text(name, cursor)
        if sum(given is not None for given in (value.after, value.before, value.index)) > 1:
            raise InvalidRequest("Only one of after, before and index can be given.")
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemsRequest:
    """What is asked of a node; see `pubsubcache.cache.get_items` for the meaning. Checked when made."""

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
            raise InvalidRequest("Item ids can't be combined with max_items or result set management.")
        if self.order_by is not None and self.order_by not in ORDERS:
            raise InvalidRequest(f"order_by is to be creation or modification, not {self.order_by!r}.")


def _checked_ids(item_ids: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return item ids without repetitions. Raises `InvalidRequest` unless they are texts."""
    if item_ids is None:
        return None
    if isinstance(item_ids, str) or not isinstance(item_ids, Iterable):
        raise InvalidRequest(f"item_ids is to be a list of item ids, not {item_ids!r:.50}.")
    names = list(item_ids)
    for name in names:
        check_text("An item id", name)
    return tuple(dict.fromkeys(names))


@dataclass(kw_only=True)
class Item:
    """An item of a node, as readers get it.

    `xml` is the whole `<item/>` in its normal form; `parsed` what the analyser's parser made of it, or None;
    `publisher` a JID or None; `created` and `updated` the times in the cache, None when the service answered.
    `left_out` is the reason why the item cannot be kept, in one sentence; `xml` is then empty.
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
        """Return the item as a service that keeps publishers to itself would give it."""
        if self.left_out or "publisher" not in self.element.attrib:
            return self
        element = Element(self.element.tag, {key: value for key, value in self.element.items() if key != "publisher"})
        element.text = self.element.text
        element.extend(self.element)
        return Item.from_element(element)

    @classmethod
    def from_element(cls, element: Element) -> "Item":
        """Return the item for an `<item/>` that came from a service, left out if it cannot be kept."""
        name = element.get("id", "")
        known = known_id(name)
        if known != name:
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
    def without_content(cls, name: str) -> "Item":
        """Return the item of which only the short form `name` of its id is known."""
        reason = f"The id of the item is longer than {MAX_NAME_BYTES} bytes, or cannot be stored."
        return cls(id=name, xml="", left_out=reason)


@dataclass(kw_only=True)
class ServicePage:
    """What a service answered: items in its order, those left out too, and its result set management if it used it."""

    items: list[Item]
    rsm: Rsm | None = None


@dataclass(kw_only=True)
class ItemsPage:
    """An answer to a reader.

    `items` oldest first; `rsm` where the request asked for pages and got them; `complete`: nothing lies
    beyond this page in the direction asked. `origin` says who answered, `stale` that the cache could not vouch for
    being up to date and the service could not be asked; `checked_at` when the node was last
    known equal to the service, `state` its sync state. `left_out` names the items of this answer that cannot be
    kept, as pairs of id and reason; pages and counts include them.
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
    """A subscription of ours at a service: `state` none, pending, unconfigured or subscribed."""

    jid: str
    state: str
    node: str = ""
    subid: str = ""


EventKind = Literal["items", "purge", "delete", "configuration", "subscription", "lost"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """An item that was published; without a payload when the notification carried none."""

    item: Item
    has_payload: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Retract:
    """An item that was retracted."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PubsubEvent:
    """One notification (XEP-0060, 7 and 12): what happened to a node, in the order of the message.

    A "lost" one stands for a message that could not be read, so that any node of the sender may have changed.

    `sender` is the JID that the message came from, unchecked. `changes` belongs to the kind "items",
    `subscription` and `subscriber` to "subscription", `redirect` to "delete". `unreadable` says
    that something of the message could not be taken in, so that the node is to be compared anew.
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
