"""Finding items: by where they are, by their words, by fields of their parsed data.

The same as query methods, to combine with any other filter: `PubsubItem.objects.matching(...)`, `.full_text(...)`,
`.where_parsed(...)`, `.order_by_parsed(...)`.
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

BATCH = 500  # rows read from the database at once
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
BEST_FIRST = {"rank"}  # orders that descend unless they say otherwise

Path = str | Sequence[str | int]
Condition = tuple[Path, str] | tuple[Path, str, Any]
Order = str | tuple[Any, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An item that was found.

    `parsed` is {} where there is none, `snippet` the part of the text with the words looked for (None without such),
    `xml` the whole `<item/>` if it was asked for.
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
    """The items found, read from the database when they are asked for: one by one in a loop, or all of `items`."""

    queryset: PubsubItemQuerySet  # all of them in their order, whatever the limit
    limit: int | None
    index: int
    keys: tuple[str, ...]
    with_payload: bool
    with_snippets: bool

    @cached_property
    def total(self) -> int:
        """How many items there are, whatever the limit."""
        return self.queryset.order_by().count()

    @cached_property
    def items(self) -> list[Found]:
        """The items from `index` on, as many as the limit allows."""
        return list(self)

    def __iter__(self) -> Iterator[Found]:
        columns = [*COLUMNS, *(["snippet"] if self.with_snippets else []), *(["data"] if self.with_payload else [])]
        last = None if self.limit is None else self.index + self.limit
        for row in self.queryset.values_list(*columns)[self.index : last].iterator(BATCH):
            yield self._found(row)

    def _found(self, row: Sequence[Any]) -> Found:
        account, service, node, name, created, updated, parsed, *more = row
        return Found(
            account=account,
            service=service,
            node=node,
            id=name,
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
    """Return the items that fulfil all filters given; of the values of one filter any one will do.

    **Of all accounts, unless `accounts` names some**: what this finds is for whoever may see all of that.

    `fts` is a full text query ("" for none); `accounts` and `services` are JIDs; `types` and `subtypes` those of nodes,
    "" for nodes without; `names` item ids; `parsed` conditions as `parsed_matches` takes them: (path, operator, value).
    `order_by` has "creation" (the default), "modification", "item_id", "rank" (needs `fts`), each also as a pair with
    "asc" or "desc", and ("field", path) or ("field", path, "desc"). Rank is best first, all else ascending; what is
    equal stays in one order, so pages fit together. `limit` None or 0 is no limit, `index` the place to begin at.
    `keys` leaves only these keys of the root in the parsed data. Raises `InvalidRequest`.
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
        raise InvalidRequest(f"{name} is to be in a list: not {values!r:.50}, but [{values!r:.50}].")
    found = list(values)
    for value in found:
        check_text(name, value)
    return found


def _condition(given: Any) -> Any:
    if not isinstance(given, list | tuple) or len(given) not in (2, 3):
        raise InvalidRequest(f"A condition is a path, an operator and a value, not {given!r:.50}.")
    return given


def _order(given: Any, ranked: bool) -> list[OrderBy]:
    """Return an order as the ORM takes it. Raises `InvalidRequest`."""
    words = [given] if isinstance(given, str) else given
    if not isinstance(words, list | tuple) or not words:
        raise InvalidRequest(f"An order is a name, or a name and more, not {given!r:.50}.")
    kind, *more = words
    if kind == "field":
        if not more:
            raise InvalidRequest("To order by a field, name the field: field PATH.")
        return order_of_parsed(more[0], descending=_descends("field", more[1:]))
    if not isinstance(kind, str) or kind not in ORDERS:
        raise InvalidRequest(f"There is no order {kind!r:.50}; there are {', '.join(ORDERS)} and field.")
    if kind == "rank" and not ranked:
        raise InvalidRequest("Only a full text query ranks what it finds.")
    descends = _descends(kind, more)
    column = ORDERS[kind]
    return [column.desc() if descends else column.asc()]


def _descends(kind: str, words: Sequence[Any]) -> bool:
    if not words:
        return kind in BEST_FIRST
    if len(words) > 1 or words[0] not in DIRECTIONS:
        said = " ".join(str(word) for word in words)
        raise InvalidRequest(f"The direction of an order is asc or desc, not {said!r:.50}.")
    return bool(words[0] == "desc")
