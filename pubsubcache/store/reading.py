"""Pages of a node's items, as the cache has them."""

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
# What changes with the items of a node that are kept, and with whether they are to be shown.
STATE = ("revision", "item_count", "evicted_count")
ITEM_COLUMNS = ("name", "data", "parsed", "created", "updated", "publisher", "position")
EVICTED_COLUMNS = ("name", "created", "updated", "position", "reason")


@dataclass(slots=True)
class Entry:
    """A place on a page: an item's id, and the item unless it was purged from the cache or left out for a `reason`."""

    name: str
    key: Key
    item: Item | None
    reason: str = ""


@dataclass(slots=True)
class CachedPage:
    """A page as the cache knows it; `entries` oldest first."""

    entries: list[Entry]
    rsm: Rsm | None = None
    complete: bool = True

    @property
    def evicted(self) -> list[str]:
        """Ids of the items on the page that only the service has."""
        return [entry.name for entry in self.entries if entry.item is None and not entry.reason]

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """Ids of the items on the page that cannot be kept, and why."""
        return [(entry.name, entry.reason) for entry in self.entries if entry.reason]


def left_out_counts(nodes: QuerySet[PubsubNode]) -> dict[int, int]:
    """Return how many items of `nodes` are left out, by the node's key; nodes without any are missing."""
    rows = PubsubEvicted.objects.filter(node__in=nodes.order_by().values("pk")).exclude(reason="")
    return dict(rows.values_list("node").annotate(number=Count("pk")).order_by())


def left_out(node: PubsubNode, limit: int) -> tuple[list[tuple[str, str]], int]:
    """Return (id, reason) of at most `limit` items of `node` that cannot be kept, and how many there are."""
    rows = PubsubEvicted.objects.filter(node=node).exclude(reason="").order_by("position")
    return list(rows.values_list("name", "reason")[:limit]), rows.count()


class NodeChanged(Exception):
    """The node was changed after its row was read: what was read of its items may not be all."""


def read_page(node: PubsubNode, request: ItemsRequest) -> CachedPage | None:
    """Return the page of `node` that answers `request`, or None when only the service can tell.

    That is: a cursor that is not ours, and combinations whose meaning differs among services. Raises `NodeChanged`
    when the row `node` is no longer the one that belongs to the items, as when they were purged in between.
    """
    reader = _Reader(node, request.order_by)
    page = _read(reader, request)
    # Each query has rows for this state of the node alone: whatever has none may be of another.
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
def _end(alias: str, column: str | None, newest: bool, limit: int | None) -> Statement:
    """Return the statement for the first or last items of a node."""
    placeholders = [900_000_001 + place for place in range(1 + len(STATE))]
    state = dict(zip(("node_id", *(f"node__{name}" for name in STATE)), placeholders, strict=True))
    items = PubsubItem.objects.using(alias).filter(**state).order_by(*_ordering(column, newest))
    return Statement.of(items.values_list(*ITEM_COLUMNS)[:limit], placeholders)


class _Reader:
    """Queries over the items of one node, in one order; those purged from the cache take their places."""

    def __init__(self, node: PubsubNode, order: str | None) -> None:
        self.node = node
        self.order = order
        self.column = TIME_COLUMNS.get(order or "")
        self.count = node.item_count + node.evicted_count
        self.state = {name: getattr(node, name) for name in STATE}
        self.of_node = {"node_id": node.pk} | {f"node__{name}": value for name, value in self.state.items()}

    def is_current(self) -> bool:
        """Whether the node still is as its row said."""
        return PubsubNode.objects.filter(pk=self.node.pk, **self.state).exists()

    def by_ids(self, names: tuple[str, ...]) -> CachedPage:
        # Without an order: for its sake, SQLite would go through the whole node.
        names = tuple(map(known_id, names))
        found = {row["name"]: self._entry(row) for row in self._rows(PubsubItem, Q(name__in=names)).order_by()}
        if self.node.evicted_count and len(found) < len(names):
            for row in self._rows(PubsubEvicted, Q(name__in=names)).order_by():
                found.setdefault(row["name"], self._entry(row))
        return CachedPage([found[name] for name in names if name in found])

    def slice(self, where: Q | None = None, *, limit: int | None, newest: bool = False, offset: int = 0) -> list[Entry]:
        """Return at most `limit` entries fulfilling `where`, oldest first; with `newest` the newest of them."""
        if limit == 0:
            return []
        where = where or Q()
        if not (where or offset or self.node.evicted_count):
            rows = _end(PubsubItem.objects.db, self.column, newest, limit).rows(*self.of_node.values())
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
        rows = model._default_manager.filter(where, **self.of_node).order_by(*ordering).values(*columns)
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
        beside = Q(**{f"position__{comparison}": key.position})
        if self.column is None:
            return beside
        # The first, wider condition is the one that an index serves.
        return Q(**{f"{self.column}__{comparison}e": key.at}) & (Q(**{f"{self.column}__{comparison}": key.at}) | beside)

    def _count_before(self, key: Key) -> int:
        where = self._beyond(key, after=False)
        count = PubsubItem.objects.filter(where, node_id=self.node.pk).count()
        if self.node.evicted_count:
            count += PubsubEvicted.objects.filter(where, node_id=self.node.pk).count()
        return count

    def _names_are_cursors(self) -> bool:
        return self.order is None and self.node.traits.cursors == "ids"

    def _cursor(self, entry: Entry) -> str:
        is_name = self._names_are_cursors() and not is_short(entry.name)
        return entry.name if is_name else encode(self.node.pk, self.order, entry.key)

    def _key_of(self, cursor: str) -> Key | None:
        if (key := decode(cursor, self.node.pk, self.order)) is not None:
            return key
        if not self._names_are_cursors():
            return None
        for model in (PubsubItem, PubsubEvicted):
            for row in self._rows(model, Q(name__in={cursor, known_id(cursor)}), False, 1):
                return Key(row["position"])
        return None
