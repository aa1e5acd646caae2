"""Reads pages of a node's items from the cache."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db.models import Count, Model, Q, QuerySet

from pubsubcache.models import PubsubEvicted, PubsubItem, PubsubNode
from pubsubcache.store.cursors import Key, decode, encode
from pubsubcache.store.statements import Statement
from pubsubcache.types import Item, ItemsRequest, Rsm, is_short, known_id

TIME_COLUMNS = {"creation": "created", "modification": "updated"}
# Columns of the node that change whenever its items, or the access to them, change.
STATE = ("revision", "item_count", "evicted_count")
ITEM_COLUMNS = ("name", "data", "parsed", "created", "updated", "publisher", "position")
EVICTED_COLUMNS = ("name", "created", "updated", "position", "reason")


@dataclass(slots=True)
class Entry:
    """An entry of a page. `item` is None if the item was evicted, or left out for the given `reason`."""

    item_id: str
    key: Key
    item: Item | None
    reason: str = ""


@dataclass(slots=True)
class CachedPage:
    """A page from the cache. The entries are sorted oldest first."""

    entries: list[Entry]
    rsm: Rsm | None = None
    complete: bool = True

    @property
    def evicted(self) -> list[str]:
        """The ids of items on the page that only the service has."""
        return [entry.item_id for entry in self.entries if entry.item is None and not entry.reason]

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """The ids of items on the page that cannot be stored, with the reasons."""
        return [(entry.item_id, entry.reason) for entry in self.entries if entry.reason]


def left_out_counts(nodes: QuerySet[PubsubNode]) -> dict[int, int]:
    """Return the number of left-out items by primary key of the node. Nodes without any are omitted."""
    rows = PubsubEvicted.objects.filter(node__in=nodes.order_by().values("pk")).exclude(reason="")
    return dict(rows.values_list("node").annotate(number=Count("pk")).order_by())


def left_out(node: PubsubNode, limit: int) -> tuple[list[tuple[str, str]], int]:
    """Return (item id, reason) of at most `limit` left-out items of `node`, and the number of all of them."""
    rows = PubsubEvicted.objects.filter(node=node).exclude(reason="").order_by("position")
    return list(rows.values_list("name", "reason")[:limit]), rows.count()


class NodeChanged(Exception):
    """The node changed after its row was read, so the page may be incomplete."""


def read_page(node: PubsubNode, request: ItemsRequest) -> CachedPage | None:
    """Read the page of `node` that answers `request`.

    Args:
        node: The row of the node.
        request: The request.

    Returns:
        The page. None if only the service can answer: the cache does not know the cursor, or the request combines
        parameters that services interpret differently.

    Raises:
        NodeChanged: The items have changed since the row was read.
    """
    reader = _Reader(node, request.order_by)
    page = _read(reader, request)
    # Each query returns rows only for this state of the node. An empty result may mean that the state has changed.
    if page is not None and reader.count and (not page.entries or node.evicted_count) and not reader.is_current():
        raise NodeChanged
    return page


def _read(reader: "_Reader", request: ItemsRequest) -> CachedPage | None:
    if request.item_ids is not None:
        return reader.by_ids(request.item_ids)
    if request.rsm is None:
        entries = reader.slice(limit=request.max_items, newest=True)
        return CachedPage(entries, complete=request.max_items is None or len(entries) < request.max_items)
    if request.max_items is not None:
        return None
    return reader.rsm_page(request.rsm)


def _ordering(column: str | None, newest: bool) -> list[str]:
    sign = "-" if newest else ""
    return [f"{sign}{name}" for name in (column, "position") if name]


@lru_cache(maxsize=200)
def _end_statement(alias: str, column: str | None, newest: bool, limit: int | None) -> Statement:
    """Return the statement that reads the first or last items of a node."""
    placeholders = [900_000_001 + index for index in range(1 + len(STATE))]
    state = dict(zip(("node_id", *(f"node__{name}" for name in STATE)), placeholders, strict=True))
    items = PubsubItem.objects.using(alias).filter(**state).order_by(*_ordering(column, newest))
    return Statement.of(items.values_list(*ITEM_COLUMNS)[:limit], placeholders)


class _Reader:
    """Queries the items of one node in one order, including evicted items."""

    def __init__(self, node: PubsubNode, order: str | None) -> None:
        self.node = node
        self.order = order
        self.column = TIME_COLUMNS.get(order or "")
        self.count = node.item_count + node.evicted_count
        self.state = {name: getattr(node, name) for name in STATE}
        self.node_filter = {"node_id": node.pk} | {f"node__{name}": value for name, value in self.state.items()}

    def is_current(self) -> bool:
        """Whether the row of the node is still up to date."""
        return PubsubNode.objects.filter(pk=self.node.pk, **self.state).exists()

    def by_ids(self, item_ids: tuple[str, ...]) -> CachedPage:
        # Do not sort, because SQLite would then scan the whole node.
        item_ids = tuple(map(known_id, item_ids))
        found = {row["name"]: self._entry(row) for row in self._rows(PubsubItem, Q(name__in=item_ids)).order_by()}
        if self.node.evicted_count and len(found) < len(item_ids):
            for row in self._rows(PubsubEvicted, Q(name__in=item_ids)).order_by():
                found.setdefault(row["name"], self._entry(row))
        return CachedPage([found[item_id] for item_id in item_ids if item_id in found])

    def slice(self, where: Q | None = None, *, limit: int | None, newest: bool = False, offset: int = 0) -> list[Entry]:
        """Return entries, oldest first.

        Args:
            where: The condition that entries must match.
            limit: The maximum number of entries; None means all.
            newest: Whether to return the newest entries rather than the oldest.
            offset: The number of entries to skip.
        """
        if limit == 0:
            return []
        where = where or Q()
        if not (where or offset or self.node.evicted_count):
            rows = _end_statement(PubsubItem.objects.db, self.column, newest, limit).rows(*self.node_filter.values())
            entries = [self._entry(dict(zip(ITEM_COLUMNS, row, strict=True))) for row in rows]
        elif not self.node.evicted_count:
            entries = [self._entry(row) for row in self._rows(PubsubItem, where, newest, limit, offset)]
        else:
            end = None if limit is None else offset + limit
            entries = [
                self._entry(row)
                for model in (PubsubItem, PubsubEvicted)
                for row in self._rows(model, where, newest, end)
            ]
            entries.sort(key=lambda entry: self._sort_key(entry.key), reverse=newest)
            entries = entries[offset:end]
        if newest:
            entries.reverse()
        return entries

    def rsm_page(self, rsm: Rsm) -> CachedPage | None:
        page = self._rsm_page(rsm)
        if page is not None and rsm.max == 0:
            page.complete = self.count == 0
        return page

    def _rsm_page(self, rsm: Rsm) -> CachedPage | None:
        if rsm.index is not None:
            return self._page(self.slice(limit=rsm.max, offset=rsm.index), rsm.index)
        if rsm.before is not None:
            return self._page_before(rsm)
        if rsm.after is None:
            return self._page(self.slice(limit=rsm.max), 0)
        if (key := self._key_of(rsm.after)) is None:
            return None
        return self._page(self.slice(self._beyond(key, after=True), limit=rsm.max), None)

    def _page_before(self, rsm: Rsm) -> CachedPage | None:
        where = Q()
        if rsm.before:
            if (key := self._key_of(rsm.before)) is None:
                return None
            where = self._beyond(key, after=False)
        entries = self.slice(where, limit=rsm.max, newest=True)
        index = None if rsm.before else self.count - len(entries)
        page = self._page(entries, index)
        if page.rsm is not None and page.rsm.index is not None:
            page.complete = page.rsm.index == 0
        return page

    def _page(self, entries: list[Entry], index: int | None) -> CachedPage:
        if not entries:
            return CachedPage([], Rsm(count=self.count), complete=True if index is None else index >= self.count)
        if index is None:
            index = self._count_before(entries[0].key)
        rsm = Rsm(first=self._cursor(entries[0]), last=self._cursor(entries[-1]), index=index, count=self.count)
        return CachedPage(entries, rsm, complete=index + len(entries) >= self.count)

    def _rows(
        self, model: type[Model], where: Q, newest: bool = False, limit: int | None = None, offset: int = 0
    ) -> QuerySet[Any, dict[str, Any]]:
        columns = ITEM_COLUMNS if model is PubsubItem else EVICTED_COLUMNS
        ordering = _ordering(self.column, newest)
        rows = model._default_manager.filter(where, **self.node_filter).order_by(*ordering).values(*columns)
        return rows[offset : None if limit is None else offset + limit]

    def _entry(self, row: dict[str, Any]) -> Entry:
        at: datetime | None = row[self.column] if self.column else None
        item = None
        if "data" in row:
            item = Item(
                id=row["name"],
                xml=row["data"],
                parsed=row["parsed"],
                publisher=row["publisher"] or None,
                created=row["created"],
                updated=row["updated"],
            )
        return Entry(row["name"], Key(row["position"], at), item, row.get("reason", ""))

    @staticmethod
    def _sort_key(key: Key) -> tuple[datetime | int, ...]:
        return (key.position,) if key.at is None else (key.at, key.position)

    def _beyond(self, key: Key, *, after: bool) -> Q:
        comparison = "gt" if after else "lt"
        by_position = Q(**{f"position__{comparison}": key.position})
        if self.column is None:
            return by_position
        # The first condition is redundant, but can use an index.
        by_time = Q(**{f"{self.column}__{comparison}": key.at})
        return Q(**{f"{self.column}__{comparison}e": key.at}) & (by_time | by_position)

    def _count_before(self, key: Key) -> int:
        where = self._beyond(key, after=False)
        count = PubsubItem.objects.filter(where, node_id=self.node.pk).count()
        if self.node.evicted_count:
            count += PubsubEvicted.objects.filter(where, node_id=self.node.pk).count()
        return count

    def _ids_are_cursors(self) -> bool:
        return self.order is None and self.node.traits.cursors == "ids"

    def _cursor(self, entry: Entry) -> str:
        is_id = self._ids_are_cursors() and not is_short(entry.item_id)
        return entry.item_id if is_id else encode(self.node.pk, self.order, entry.key)

    def _key_of(self, cursor: str) -> Key | None:
        if (key := decode(cursor, self.node.pk, self.order)) is not None:
            return key
        if not self._ids_are_cursors():
            return None
        for model in (PubsubItem, PubsubEvicted):
            for row in self._rows(model, Q(name__in={cursor, known_id(cursor)}), False, 1):
                return Key(row["position"])
        return None
