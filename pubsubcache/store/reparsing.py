"""Parses stored items again, for example after a parser has changed, and updates their text for full text search.

Works in batches by primary key, each in its own transaction, which also records how far the run has come.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction
from django.db.models import Max, QuerySet
from django.db.models.functions import Length
from django.utils import timezone

from pubsubcache.analysers import matching, registry
from pubsubcache.exceptions import ParseError, PubsubCacheError
from pubsubcache.models import PubsubItem, PubsubNode, ReparseRun
from pubsubcache.store.batches import pause_after
from pubsubcache.store.threads import in_thread
from pubsubcache.types import Item
from pubsubcache.utils import xmlform

BATCH = 100
BATCH_SIZE = 8 * 1024 * 1024  # characters of XML
COLUMNS = ("node", "name", "data", "parsed", "parse_error", "publisher", "text", "position")
NODE_COLUMNS = ("service", "name", "analyser")


class Superseded(PubsubCacheError):
    """Another run has replaced this one."""


@dataclass(slots=True)
class Reparsing:
    """The number of parsed items, of items that changed, and of items that cannot be parsed."""

    items: int = 0
    changed: int = 0
    errors: int = 0
    skipped: dict[str, int] = field(default_factory=dict)  # nodes per analyser that is not registered


def unfinished() -> ReparseRun | None:
    """Return the run that has not ended: it was interrupted, or is still at work. None if there is none."""
    return ReparseRun.objects.filter(pk=ReparseRun.ONLY).first()


@transaction.atomic
def start(filters: dict[str, Any]) -> ReparseRun:
    """Start a run, which replaces the one before.

    Args:
        filters: The options that chose the nodes, for a process that resumes the run.
    """
    fields = {"token": uuid.uuid4().hex, "filters": filters, "last_item": 0, "started": timezone.now()}
    return ReparseRun.objects.update_or_create(pk=ReparseRun.ONLY, defaults=fields)[0]


@transaction.atomic
def resume(run: ReparseRun) -> ReparseRun:
    """Take over a run where it stopped. The process that was at work on it, if it still is, ends with `Superseded`.

    Raises:
        Superseded: The run has ended, or another one has replaced it.
    """
    found = ReparseRun.objects.select_for_update().filter(pk=run.pk, token=run.token).first()
    if found is None:
        raise Superseded("The run has ended meanwhile.")
    found.token = uuid.uuid4().hex
    found.save()
    return found


async def reparse(run: ReparseRun, nodes: QuerySet[PubsubNode], report: Callable[[int, int | None], None]) -> Reparsing:
    """Parse the items of `nodes` with the parsers of their analysers.

    Nodes whose analyser is not registered are skipped. So are items that come in meanwhile: they are parsed already.

    Args:
        run: The run, from `start` or `resume`.
        nodes: The nodes.
        report: Called with the number of items parsed so far and the total.

    Raises:
        Superseded: Another run has replaced this one.
    """
    outcome = Reparsing()
    items, total = await in_thread(_parsable)(nodes, outcome, run.last_item)
    while batch := await in_thread(_next_batch)(items, run.last_item):
        run.last_item = batch[-1].pk
        changed = [row for row in batch if await parse(row, outcome)]
        outcome.items += len(batch)
        began = time.monotonic()
        outcome.changed += await in_thread(_save)(run, changed)
        report(outcome.items, total)
        await asyncio.sleep(pause_after(time.monotonic() - began))
    await in_thread(_end)(run)
    return outcome


def _parsable(nodes: QuerySet[PubsubNode], outcome: Reparsing, last: int) -> tuple[QuerySet[PubsubItem], int]:
    known = ["", *(analyser.name for analyser in registry.all())]
    for name in nodes.exclude(analyser__in=known).values_list("analyser", flat=True):
        outcome.skipped[name] = outcome.skipped.get(name, 0) + 1
    newest = PubsubItem.objects.aggregate(newest=Max("pk"))["newest"] or 0
    items = PubsubItem.objects.filter(pk__lte=newest, node__in=nodes.filter(analyser__in=known).order_by().values("pk"))
    return items, items.filter(pk__gt=last).count()


def _next_batch(items: QuerySet[PubsubItem], last: int) -> list[PubsubItem]:
    return some_of(items.filter(pk__gt=last).order_by("pk"))


def some_of(items: QuerySet[PubsubItem]) -> list[PubsubItem]:
    """Return the first of `items` with what `parse` needs: at most `BATCH`, and of limited size."""
    columns = (*COLUMNS, *(f"node__{column}" for column in NODE_COLUMNS))
    pks: list[int] = []
    size = 0
    for pk, length in items.values_list("pk", Length("data"))[:BATCH]:
        size += length
        if pks and size > BATCH_SIZE:
            break
        pks.append(pk)
    found = PubsubItem.objects.filter(pk__in=pks).select_related("node").only(*columns)
    return sorted(found, key=lambda row: pks.index(row.pk))


async def parse(row: PubsubItem, outcome: Reparsing) -> bool:
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
def _save(run: ReparseRun, rows: list[PubsubItem]) -> int:
    """Save the parsed data, except of items that changed meanwhile, and the progress of the run.

    Locks the nodes first, as everything does that writes items: whoever has read a row and writes it back, for instance
    to move it, would undo the change otherwise.

    Returns:
        The number of saved items.

    Raises:
        Superseded: Another run has replaced this one.
    """
    if not ReparseRun.objects.filter(pk=run.pk, token=run.token).update(last_item=run.last_item):
        raise Superseded("Another pubsub_reparse has started, and replaces this one.")
    nodes = PubsubNode.objects.for_update().filter(pk__in={row.node_id for row in rows})
    analysers = {node.pk: node.analyser for node in nodes.only("analyser")}
    return sum(save_row(row) for row in rows if analysers.get(row.node_id) == row.node.analyser)


def save_row(row: PubsubItem) -> int:
    """Save the parsed data of an item, unless it changed since it was read; return the number of saved items.

    The caller has locked the node.
    """
    unchanged = PubsubItem.objects.filter(pk=row.pk, data=row.data, publisher=row.publisher)
    return unchanged.update(parsed=row.parsed, parse_error=row.parse_error, text=row.text)


def _end(run: ReparseRun) -> None:
    ReparseRun.objects.filter(pk=run.pk, token=run.token).delete()
