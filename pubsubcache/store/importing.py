"""Writes the nodes of an export to the cache, all or none of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.models import Account, PubsubEvicted, PubsubItem, PubsubNode
from pubsubcache.store.choices import locked_choice
from pubsubcache.store.extra import fields_of
from pubsubcache.store.nodes import apply_choice, conflicts_with_choice, forget_nodes
from pubsubcache.utils.texts import shorten_runs

SyncState = PubsubNode.SyncState
BATCH = 200
BATCH_SIZE = 4 * 1024 * 1024  # characters of XML
Report = Callable[[int], None]
COPIED_COLUMNS = (
    "service", "name", "analyser", "type", "subtype", "policy", "sync_error", "access_model", "partial",
)  # fmt: skip


@dataclass(slots=True)
class Imported:
    """The number of imported nodes, items and ids of evicted items, and the number of replaced nodes."""

    nodes: int = 0
    items: int = 0
    evicted: int = 0
    replaced: int = 0


@transaction.atomic
def import_records(
    records: Iterable[tuple[int, dict[str, Any]]],
    *,
    account: Account | None = None,
    replace: bool = False,
    report: Report = lambda stored: None,
) -> Imported:
    """Import the records of an export. The imported nodes are stale until they have been revalidated.

    Args:
        records: Validated records with their line numbers.
        account: The account that receives the nodes, instead of those named in the file.
        replace: Whether imported nodes replace those with the same address in the cache.
        report: Called with the number of rows stored so far.

    Returns:
        What was imported.

    Raises:
        InvalidRequest: An account does not exist, or a node is already in the cache or twice in the file. Nothing is
            imported.
    """
    writer = _Writer(account, replace, report)
    try:
        for line, record in records:
            writer.write(line, record)
    except IntegrityError as error:
        raise InvalidRequest("A node of the file was added to the cache meanwhile. Nothing was imported.") from error
    return writer.imported


@dataclass(slots=True)
class _Writer:
    """Writes one record after the other."""

    account: Account | None
    replace: bool
    report: Report
    imported: Imported = field(default_factory=Imported)
    node: PubsubNode = field(init=False)
    rows: list[PubsubItem | PubsubEvicted] = field(default_factory=list)
    size: int = 0
    stored: int = 0
    accounts: dict[str, Account | None] = field(default_factory=dict)
    choices: dict[str, bool | None] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)

    def write(self, line: int, record: dict[str, Any]) -> None:
        """Write a record, or collect it for a bulk write."""
        match record["kind"]:
            case "node":
                self._begin_node(line, record)
            case "item":
                record["text"] = shorten_runs(record["text"])  # the database normalises the text for its index
                self._add(PubsubItem, record, "publisher", "parsed", "parse_error", "text", "data")
                self.node.item_count += 1
            case "evicted":
                self._add(PubsubEvicted, {"reason": "", **record}, "reason")
                self.node.evicted_count += 1
            case "node_end":
                self._flush()
                self._end_node(record)

    def _begin_node(self, line: int, record: dict[str, Any]) -> None:
        account = self.account or self._account(line, record["account"])
        self._check_existing(line, account, record)
        own = account.jid == record["account"]
        self.node = PubsubNode(
            account=account,
            **{name: record[name] for name in COPIED_COLUMNS},
            **fields_of(record["extra"]),
            **_state(record, own=own),
        )
        self.node.save(force_insert=True)
        self.written.add(self.node.pk)
        self.imported.nodes += 1

    def _end_node(self, record: dict[str, Any]) -> None:
        self.node.next_position = record["next_position"]
        if name := self.node.analyser:
            if name not in self.choices:
                self.choices[name] = locked_choice(name).to_sync
            if conflicts_with_choice(self.node, self.choices[name]):
                apply_choice(self.node, self.choices[name])  # the decision of staff at this site
        self.node.save()
        self.imported.items += self.node.item_count
        self.imported.evicted += self.node.evicted_count

    def _account(self, line: int, jid: str) -> Account:
        if jid not in self.accounts:
            self.accounts[jid] = Account.objects.defer("password").filter(jid=jid, leaving=False).first()
        if (account := self.accounts[jid]) is None:
            raise InvalidRequest(
                f"Line {line}: there is no account {jid} here; add it, or choose another with --account."
            )
        return account

    def _check_existing(self, line: int, account: Account, record: dict[str, Any]) -> None:
        existing = PubsubNode.objects.filter(account=account, service=record["service"], name=record["name"])
        prefix = f"Line {line}: the node {record['name']!r:.100} of {record['service']}"
        if existing.filter(pk__in=self.written).exists():
            raise InvalidRequest(f"{prefix} would be imported twice into {account.jid}.")
        if not existing.exists():
            return
        if not self.replace:
            raise InvalidRequest(f"{prefix} is already in the cache of {account.jid}; --replace replaces it.")
        # Create a new row, so that cursors and running syncs and notifications of the old one do not apply to it.
        self.imported.replaced += forget_nodes(existing, unsubscribe=True)

    def _add(self, model: type[PubsubItem | PubsubEvicted], record: dict[str, Any], *columns: str) -> None:
        values = {name: record[name] for name in ("name", "position", *columns)}
        times = {name: datetime.fromisoformat(record[name]) for name in ("created", "updated")}
        self.rows.append(model(node=self.node, **values, **times))
        self.size += len(record.get("data", ""))
        if len(self.rows) >= BATCH or self.size >= BATCH_SIZE:
            self._flush()

    def _flush(self) -> None:
        PubsubItem.objects.bulk_create([row for row in self.rows if isinstance(row, PubsubItem)])
        PubsubEvicted.objects.bulk_create([row for row in self.rows if isinstance(row, PubsubEvicted)])
        self.stored += len(self.rows)
        self.rows.clear()
        self.size = 0
        self.report(self.stored)


def _state(record: dict[str, Any], *, own: bool) -> dict[str, Any]:
    """Return the state of an imported node, which makes a worker revalidate it at once.

    An account other than the one in the file sees no items until the service has granted it access.
    """
    state = record["sync_state"]
    if state == SyncState.IN_PROGRESS or (state != SyncState.NO_SYNC and not own):
        state = None
    same = state == record["sync_state"]
    interval = record["reconcile_interval"]
    return {
        "reconcile_interval": None if interval is None else timedelta(seconds=interval),
        "pinned": True,
        "sync_state": state,
        "sync_state_updated": datetime.fromisoformat(record["sync_state_updated"]) if same else timezone.now(),
        "next_attempt": timezone.now() if state == SyncState.ERROR else None,
    }
