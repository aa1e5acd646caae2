"""Parses stored items again, for example after a parser has changed, and updates their text for full text search.

Works in batches by primary key, each in its own transaction.
"""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from pubsubcache.analysers import matching, registry
from pubsubcache.exceptions import ParseError
from pubsubcache.models import PubsubItem, PubsubNode
from pubsubcache.store import in_thread
from pubsubcache.types import Item
from pubsubcache.utils import xmlform

BATCH = 100
COLUMNS = ("node", "name", "data", "parsed", "parse_error", "publisher", "text")
NODE_COLUMNS = ("service", "name", "analyser")


@dataclass(slots=True)
class Reparsing:
    """The number of parsed items, of items that changed, and of items that cannot be parsed."""

    items: int = 0
    changed: int = 0
    errors: int = 0
    skipped: dict[str, int] = field(default_factory=dict)  # nodes per analyser that is not registered


async def reparse(nodes: QuerySet[PubsubNode], report: Callable[[int, int | None], None]) -> Reparsing:
    """Parse the items of `nodes` with the parsers of their analysers.

    Nodes whose analyser is not registered are skipped.

    Args:
        nodes: The nodes.
        report: Called with the number of items parsed so far and the total.
    """
    outcome = Reparsing()
    items, total = await in_thread(_parsable)(nodes, outcome)
    last = 0
    while batch := await in_thread(_next_batch)(items, last):
        last = batch[-1].pk
        changed = [row for row in batch if await _parse(row, outcome)]
        outcome.items += len(batch)
        outcome.changed += await in_thread(_save)(changed)
        report(outcome.items, total)
        await asyncio.sleep(0)
    return outcome


def _parsable(nodes: QuerySet[PubsubNode], outcome: Reparsing) -> tuple[QuerySet[PubsubItem], int]:
    known = ["", *(analyser.name for analyser in registry.all())]
    for name in nodes.exclude(analyser__in=known).values_list("analyser", flat=True):
        outcome.skipped[name] = outcome.skipped.get(name, 0) + 1
    items = PubsubItem.objects.filter(node__in=nodes.filter(analyser__in=known).order_by().values("pk"))
    return items, items.count()


def _next_batch(items: QuerySet[PubsubItem], last: int) -> list[PubsubItem]:
    columns = (*COLUMNS, *(f"node__{column}" for column in NODE_COLUMNS))
    return list(items.filter(pk__gt=last).select_related("node").only(*columns).order_by("pk")[:BATCH])


async def _parse(row: PubsubItem, outcome: Reparsing) -> bool:
    """Parse an item and set the fields of its row; return whether they changed."""
    before = row.parse_error, _canonical(row.parsed), row.text
    row.parsed, row.parse_error = None, ""
    item = Item(id=row.name, xml=row.data, publisher=row.publisher or None)
    try:
        row.text = xmlform.words(item.element)
        row.parsed = await matching.parse(registry.get(row.node.analyser), item, row.node.address)
    except ParseError as error:
        row.parse_error = str(error)
        outcome.errors += 1
    return before != (row.parse_error, _canonical(row.parsed), row.text)


def _canonical(parsed: Any) -> str:
    return json.dumps(parsed, sort_keys=True)


@transaction.atomic
def _save(rows: list[PubsubItem]) -> int:
    """Save the parsed data, except of items that changed meanwhile; return the number of saved items."""
    return sum(
        PubsubItem.objects.filter(pk=row.pk, data=row.data).update(
            parsed=row.parsed, parse_error=row.parse_error, text=row.text
        )
        for row in rows
    )
