"""What an analyser is, and what it finds out about a node."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

from pubsubcache.parsers import ParseContext

Parser = Callable[[Element, ParseContext], dict[str, Any] | Awaitable[dict[str, Any]]]
MatchCallback = Callable[["Analysis"], Awaitable[None] | None]


@dataclass(kw_only=True)
class Analyser:
    """How nodes of one kind are recognised, and what is done with them.

    `name`: unique, kept with each node that it matched (stripped, lower-cased). `type`: the kind of
    content, for people and searches, such as "blog". A node matches when its name starts with `node`, or when
    the first payload element of one of its items is in `namespace`. `to_sync`: keep matching nodes in
    the cache; otherwise their items are always asked of the service. `parser`: called
    as `parser(item, context)` with the whole `<item/>`, returns a JSON-able dict, raises to say that the item
    cannot be parsed. `match_cb`: called with the `Analysis` of a matching node, may set its
    `subtype` or `to_sync`. Both may be plain or coroutine functions.

    Raises `ValueError` when name or type, or both of node and namespace, are missing.
    """

    name: str
    type: str
    node: str | None = None
    namespace: str | None = None
    to_sync: bool = False
    parser: Parser | None = None
    match_cb: MatchCallback | None = None

    def __post_init__(self) -> None:
        for attribute in ("name", "type"):
            value = getattr(self, attribute)
            if not isinstance(value, str) or not value.strip():
                raise ValueError(f"An analyser needs a {attribute}.")
            if len(value) > 100:
                raise ValueError(f"The {attribute} of an analyser is at most 100 characters long.")
        self.name = self.name.strip().lower()
        self.type = self.type.strip()
        for attribute in ("node", "namespace"):
            value = getattr(self, attribute)
            if value is not None and not isinstance(value, str):
                raise ValueError(f"The {attribute} of the analyser {self.name!r} is to be a text.")
        if not self.node and not self.namespace:
            raise ValueError(f"The analyser {self.name!r} needs a node prefix or a namespace to match.")
        if not isinstance(self.to_sync, bool):
            raise ValueError(f"to_sync of the analyser {self.name!r} is to be True or False.")
        for attribute in ("parser", "match_cb"):
            value = getattr(self, attribute)
            if value is not None and not callable(value):
                raise ValueError(f"The {attribute} of the analyser {self.name!r} cannot be called.")

    @property
    def module(self) -> str:
        """The module that the analyser's functions come from, or an empty text."""
        return getattr(self.parser or self.match_cb, "__module__", "") or ""


@dataclass(kw_only=True)
class Analysis:
    """What is known of a node that an analyser matched; `match_cb` may change `subtype` and `to_sync`.

    `service`, `node`: where it is. `name`, `type`, `to_sync`: from the analyser. `namespace`: of
    the payload of a sample item, None if none was needed or there is none. `item`: that sample.
    """

    service: str
    node: str
    name: str
    type: str
    to_sync: bool
    subtype: str = ""
    namespace: str | None = None
    item: Element | None = None
