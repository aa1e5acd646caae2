"""Defines `Analyser`, and `Analysis`, the result of matching a node."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import ParseContext

Parser = Callable[[Element, ParseContext], dict[str, Any] | Awaitable[dict[str, Any]]]
MatchCallback = Callable[["Analysis"], Awaitable[None] | None]


def dotted(function: Callable[..., Any] | None) -> str:
    """Return the dotted path of a function of an analyser, or "" for None."""
    if function is None:
        return ""
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', type(function).__module__)}.{name}"


@dataclass(kw_only=True)
class Analyser:
    """Recognises nodes of one kind and decides how to handle them.

    A node matches if its name starts with `node`, or if `namespace` prevails among the first payload elements of its
    newest items. `parser` and `match_cb` may be plain functions or coroutine functions.

    Args:
        name: Unique name, stripped and lower-cased; stored with each matching node.
        type: Kind of the content, such as "blog"; shown to users and available to searches.
        node: Prefix of node names.
        namespace: Namespace of payloads.
        to_sync: Whether matching nodes are kept in the cache. If not, every read goes to the service.
        parser: Called as `parser(item, context)` with the whole `<item/>`. Returns a dict that can be stored as JSON,
            or raises an error if the item cannot be parsed.
        match_cb: Called with the `Analysis` of a matching node. May change its `subtype` and `to_sync`.
        why: Why matching nodes are cached or not, as a sentence for people.
        template: Name of a Django template that shows an item in the admin. It gets `item` and `node`, which are rows
            of the database, and `parsed`. If it fails, the admin shows the keys and values of `parsed` instead.

    Raises:
        ValueError: The name or the type is missing, both node and namespace are missing, or a value is invalid.
    """

    name: str
    type: str
    node: str | None = None
    namespace: str | None = None
    to_sync: bool = False
    parser: Parser | None = None
    match_cb: MatchCallback | None = None
    why: str = ""
    template: str | None = None

    def __post_init__(self) -> None:
        for attribute in ("name", "type"):
            value = getattr(self, attribute)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"An analyser needs a {attribute}.")
            if len(value) > 100:
                raise ValueError(f"The {attribute} of an analyser must have at most 100 characters.")
        self.name = self.name.strip().lower()
        self.type = self.type.strip()
        for attribute in ("node", "namespace", "template"):
            value = getattr(self, attribute)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"The {attribute} of the analyser {self.name!r} must be a string.")
        if not self.node and not self.namespace:
            raise ValueError(f"The analyser {self.name!r} needs a node prefix or a namespace to match.")
        if not isinstance(self.to_sync, bool):
            raise ValueError(f"to_sync of the analyser {self.name!r} must be True or False.")
        if not isinstance(self.why, str):
            raise ValueError(f"why of the analyser {self.name!r} must be a string.")
        for attribute in ("parser", "match_cb"):
            value = getattr(self, attribute)
            if value is not None and not callable(value):
                raise ValueError(f"The {attribute} of the analyser {self.name!r} must be callable.")

    @property
    def module(self) -> str:
        """Module that defines the functions of the analyser, or ""."""
        return getattr(self.parser or self.match_cb, "__module__", "") or ""


@dataclass(kw_only=True)
class Analysis:
    """Result of matching a node with an analyser. `match_cb` may change `subtype` and `to_sync`.

    Attributes:
        service: JID of the service.
        node: Name of the node.
        name: Name of the analyser.
        type: Type from the analyser.
        to_sync: Whether the node is kept in the cache; by default the value of the analyser.
        subtype: Subtype of the content; "" by default.
        namespace: Namespace of the payload of the sample item, or None.
        item: The sample item, or None if none was needed or the node is empty.
    """

    service: str
    node: str
    name: str
    type: str
    to_sync: bool
    subtype: str = ""
    namespace: str | None = None
    item: Element | None = None
