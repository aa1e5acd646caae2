"""Public search for cached items by location, full text and fields of parsed data.

The same filters are available as query methods, which combine with any other filter:
`PubsubItem.objects.matching(...)`, `.full_text(...)`, `.where_parsed(...)` and `.order_by_parsed(...)`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.db.models import F, OrderBy

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.lookups.parsed import ByCodePoint, order_of_parsed, parsed_matches
from pubsubcache.models import PubsubItem, PubsubItemQuerySet
from pubsubcache.types import check_number, check_text
from pubsubcache.utils import jid

BATCH = 500  # rows per read from the database
COLUMNS = (
    "node__account__jid", "node__service", "node__name", "name", "created", "updated", "parsed",
)  # fmt: skip
DIRECTIONS = ("asc", "desc")
ORDERS: dict[str, Any] = {
    "creation": F("created"),
    "modification": F("updated"),
    "item_id": ByCodePoint("name"),
    "rank": F("rank"),
}
BEST_FIRST = {"rank"}  # orders that descend by default

Path = str | Sequence[str | int]
Condition = tuple[Path, str] | tuple[Path, str, Any]
Order = str | tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An item that a search found.

    Attributes:
        account: JID of the account.
        service: JID of the service.
        node: Name of the node.
        id: The item id.
        created: When the cache first stored the item.
        updated: When the cache last changed the item.
        parsed: The parsed data; {} if there is none.
        snippet: Excerpt with the hits of the full text query; None without such a query.
        xml: The whole `<item/>`, if it was requested.
    """

    account: str
    service: str
    node: str
    id: str
    created: datetime
    updated: datetime
    parsed: Any
    snippet: str | None
    xml: str | None


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The result of a search. Iterate over it to read the items in batches, or use `items` to read them all.

    Attributes:
        queryset: All matching items in order, ignoring limit and index.
        limit: Maximum number of items; None for no limit.
        index: Offset of the first item.
        keys: Keys of the parsed data to return; empty for all.
        with_payload: Whether items have their XML.
        with_snippets: Whether items have a snippet.
    """

    queryset: PubsubItemQuerySet
    limit: int | None
    index: int
    keys: tuple[str, ...]
    with_payload: bool
    with_snippets: bool

    @cached_property
    def total(self) -> int:
        """Number of matching items, ignoring limit and index."""
        return self.queryset.order_by().count()

    @cached_property
    def items(self) -> list[Found]:
        """The items from `index` on, up to the limit."""
        return list(self)

    def __iter__(self) -> Iterator[Found]:
        columns = [*COLUMNS, *(["snippet"] if self.with_snippets else []), *(["data"] if self.with_payload else [])]
        last = None if self.limit is None else self.index + self.limit
        for row in self.queryset.values_list(*columns)[self.index : last].iterator(BATCH):
            yield self._found(row)

    def _found(self, row: Sequence[Any]) -> Found:
        account, service, node, item_id, created, updated, parsed, *more = row
        return Found(
            account=account,
            service=service,
            node=node,
            id=item_id,
            created=created,
            updated=updated,
            parsed=self._shown(parsed),
            snippet=more[0] if self.with_snippets else None,
            xml=more[-1] if self.with_payload else None,
        )

    def _shown(self, parsed: Any) -> Any:
        if self.keys:
            return {key: parsed[key] for key in self.keys if key in parsed} if isinstance(parsed, dict) else {}
        return {} if parsed is None else parsed


def search(
    *,
    fts: str = "",
    accounts: Iterable[str] = (),
    services: Iterable[str] = (),
    nodes: Iterable[str] = (),
    types: Iterable[str] = (),
    subtypes: Iterable[str] = (),
    names: Iterable[str] = (),
    parsed: Iterable[Condition] = (),
    order_by: Iterable[Order] = (),
    limit: int | None = None,
    index: int = 0,
    keys: Iterable[str] = (),
    with_payload: bool = False,
) -> SearchResult:
    """Search the cache. Items must match all filters, and any of the values of each filter.

    **Without `accounts`, this searches the items of all accounts.** Only show the result to users who may see them.

    Args:
        fts: Full text query; "" for none.
        accounts: JIDs of accounts.
        services: JIDs of services.
        nodes: Names of nodes.
        types: Types of nodes; "" matches nodes without a type.
        subtypes: Subtypes of nodes; "" matches nodes without a subtype.
        names: Item ids.
        parsed: Conditions on the parsed data: (path, operator, value), see docs/search.md.
        order_by: "creation" (the default), "modification", "item_id" or "rank" (requires `fts`), each optionally in a
            tuple with "asc" or "desc"; or ("field", path) or ("field", path, "desc"). The default direction is best
            first for rank and ascending for all others. Ties have a stable order, so pages fit together.
        limit: Maximum number of items; None or 0 for no limit.
        index: Offset of the first item.
        keys: Top-level keys of the parsed data to return; empty for all.
        with_payload: Whether to return the XML of items.

    Returns:
        A lazy result.

    Raises:
        InvalidRequest: An argument is invalid.
    """
    found = PubsubItem.objects.matching(
        accounts=[jid.account(one) for one in accounts],
        services=[jid.normalise(one) for one in services],
        nodes=_texts("A node", nodes),
        types=_texts("A type", types),
        subtypes=_texts("A subtype", subtypes),
        names=_texts("An item id", names),
    )
    check_number("limit", limit, 0)
    check_number("index", index, 0)
    ranked = bool(_texts("A full text query", [fts])[0].strip())
    if ranked:
        found = found.full_text(fts).with_snippets()
    for condition in parsed:
        found = found.filter(parsed_matches(*_condition(condition)))
    orders = [one for order in order_by for one in _order(order, ranked)]
    return SearchResult(
        queryset=found.order_by(*(orders or _order("creation", ranked)), "pk"),
        limit=limit or None,
        index=index,
        keys=tuple(_texts("A key", keys)),
        with_payload=with_payload,
        with_snippets=ranked,
    )


def _texts(name: str, values: Iterable[str]) -> list[str]:
    if isinstance(values, str):
        raise InvalidRequest(f"{name} must be in a list: use [{values!r:.50}], not {values!r:.50}.")
    found = list(values)
    for value in found:
        check_text(name, value)
    return found


def _condition(given: Any) -> Any:
    if not isinstance(given, list | tuple) or len(given) not in (2, 3):
        raise InvalidRequest(f"A condition must be a path, an operator and a value, got {given!r:.50}.")
    return given


def _order(given: Any, ranked: bool) -> list[OrderBy]:
    """Convert an order to expressions of the ORM. Raises `InvalidRequest`."""
    words = [given] if isinstance(given, str) else given
    if not isinstance(words, list | tuple) or not words:
        raise InvalidRequest(f"An order must be a name, or a list that starts with a name, got {given!r:.50}.")
    kind, *more = words
    if kind == "field":
        if not more:
            raise InvalidRequest("The order by field needs a path: field PATH.")
        return order_of_parsed(more[0], descending=_descends("field", more[1:]))
    if not isinstance(kind, str) or kind not in ORDERS:
        raise InvalidRequest(f"Unknown order {kind!r:.50}; known are {', '.join(ORDERS)} and field.")
    if kind == "rank" and not ranked:
        raise InvalidRequest("The order by rank needs a full text query.")
    descends = _descends(kind, more)
    column = ORDERS[kind]
    return [column.desc() if descends else column.asc()]


def _descends(kind: str, words: Sequence[Any]) -> bool:
    if not words:
        return kind in BEST_FIRST
    if len(words) > 1 or words[0] not in DIRECTIONS:
        given = " ".join(str(word) for word in words)
        raise InvalidRequest(f"The direction of an order must be asc or desc, got {given!r:.50}.")
    return bool(words[0] == "desc")
