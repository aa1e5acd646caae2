"""Nodes read for an export: one after the other, their items a few at a time."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Case, F, QuerySet, Sum, Value, When
from django.db.models.functions import Cast
from django_jsonfield_backport.models import JSONField

from pubsubcache.models import Account, PubsubEvicted, PubsubItem, PubsubNode
from pubsubcache.store.extra import extra_of

CHUNK = 50  # items may be large
Report = Callable[[int, int | None], None]
ITEM_COLUMNS = ("name", "position", "created", "updated", "publisher", "parsed", "parse_error", "text", "data")
EVICTED_COLUMNS = ITEM_COLUMNS[:4]
NODE_COLUMNS = (
    "service", "name", "analyser", "type", "subtype", "policy", "sync_state", "sync_state_updated", "sync_error",
    "access_model", "partial", "reconcile_interval", "subscribed", "checked_at",
)  # fmt: skip


def read_nodes(nodes: QuerySet[PubsubNode], report: Report) -> Iterator[dict[str, Any]]:
    """Yield the records of `nodes`: each node, what it has in the service's order, its end.

    By account, and each account's own service (PEP) first. The items of a node are as they were at one moment;
    `report` is told how many were read, and of how many.
    """
    sums = nodes.order_by().aggregate(items=Sum("item_count"), evicted=Sum("evicted_count"))
    total = (sums["items"] or 0) + (sums["evicted"] or 0)
    done = 0
    for pk in _in_order(nodes):
        node = PubsubNode.objects.select_related("account").defer("account__password").filter(pk=pk).first()
        if node is None:  # forgotten meanwhile
            continue
        for record in _read_node(node):
            yield record
            if record["kind"] in ("item", "evicted"):
                done += 1
                report(done, max(done, total))


def _in_order(nodes: QuerySet[PubsubNode]) -> Iterator[int]:
    accounts = Account.objects.filter(pk__in=nodes.order_by().values("account")).values_list("pk", "jid")
    for pk, jid in sorted(accounts, key=lambda account: account[1].partition("@")[::-1]):
        own = Case(When(service=jid, then=0), default=1)
        yield from nodes.filter(account_id=pk).order_by(own, "service", "name").values_list("pk", flat=True)


def _read_node(node: PubsubNode) -> Iterator[dict[str, Any]]:
    facts = {name: _as_data(getattr(node, name)) for name in NODE_COLUMNS}
    yield {"kind": "node", "account": node.account.jid, **facts, "extra": extra_of(node)}
    counts = {"item": 0, "evicted": 0}
    highest = node.next_position
    for row in _rows(node):
        record = dict(zip(("kind", *ITEM_COLUMNS), map(_as_data, row), strict=True))
        if record["kind"] == "evicted":
            reason = record["text"]
            record = {name: record[name] for name in ("kind", *EVICTED_COLUMNS)} | (
                {"reason": reason} if reason else {}
            )
        counts[record["kind"]] += 1
        highest = max(highest, record["position"])
        yield record
    yield {"kind": "node_end", "items": counts["item"], "evicted": counts["evicted"], "next_position": highest}


def _rows(node: PubsubNode) -> Iterator[tuple[Any, ...]]:
    """Yield items and what was purged in one query, so that nothing falls between two of them."""
    items = PubsubItem.objects.filter(node=node).order_by()
    evicted = PubsubEvicted.objects.filter(node=node).order_by()
    nothing = {name: Value("") for name in ("publisher", "parse_error", "data")}
    both = (
        items.annotate(kind=Value("item"))
        .values_list("kind", *ITEM_COLUMNS)
        .union(
            evicted.annotate(
                kind=Value("evicted"), parsed=Cast(Value(None), JSONField()), text=F("reason"), **nothing
            ).values_list("kind", *ITEM_COLUMNS),
            all=True,
        )
    )
    return both.order_by("position").iterator(chunk_size=CHUNK)


def _as_data(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return value.total_seconds()
    return value
