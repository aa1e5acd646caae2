"""Reads nodes for an export: one after the other, in chunks of items."""

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
    """Yield the records of `nodes`: for each node its start, its items in the order of the service, and its end.

    Nodes are sorted by account; the account's own service (PEP) comes first. The items of a node are a consistent
    snapshot.

    Args:
        nodes: The nodes.
        report: Called with the number of items read so far and the total.
    """
    sums = nodes.order_by().aggregate(items=Sum("item_count"), evicted=Sum("evicted_count"))
    total = (sums["items"] or 0) + (sums["evicted"] or 0)
    done = 0
    for pk in _sorted_pks(nodes):
        node = PubsubNode.objects.select_related("account").defer("account__password").filter(pk=pk).first()
        if node is None:  # removed meanwhile
            continue
        for record in _read_node(node):
            yield record
            if record["kind"] in ("item", "evicted"):
                done += 1
                report(done, max(done, total))


def _sorted_pks(nodes: QuerySet[PubsubNode]) -> Iterator[int]:
    accounts = Account.objects.filter(pk__in=nodes.order_by().values("account")).values_list("pk", "jid")
    for pk, jid in sorted(accounts, key=lambda account: account[1].partition("@")[::-1]):
        own = Case(When(service=jid, then=0), default=1)
        yield from nodes.filter(account_id=pk).order_by(own, "service", "name").values_list("pk", flat=True)


def _read_node(node: PubsubNode) -> Iterator[dict[str, Any]]:
    values = {name: _as_json(getattr(node, name)) for name in NODE_COLUMNS}
    yield {"kind": "node", "account": node.account.jid, **values, "extra": extra_of(node)}
    counts = {"item": 0, "evicted": 0}
    highest = node.next_position
    for row in _rows(node):
        record = dict(zip(("kind", *ITEM_COLUMNS), map(_as_json, row), strict=True))
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
    """Yield stored and evicted items in one query, so that none is missed when it is evicted in between."""
    items = PubsubItem.objects.filter(node=node).order_by()
    evicted = PubsubEvicted.objects.filter(node=node).order_by()
    blanks = {name: Value("") for name in ("publisher", "parse_error", "data")}
    both = (
        items.annotate(kind=Value("item"))
        .values_list("kind", *ITEM_COLUMNS)
        .union(
            evicted.annotate(
                kind=Value("evicted"), parsed=Cast(Value(None), JSONField()), text=F("reason"), **blanks
            ).values_list("kind", *ITEM_COLUMNS),
            all=True,
        )
    )
    return both.order_by("position").iterator(chunk_size=CHUNK)


def _as_json(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            return value.total_seconds()
    return value
