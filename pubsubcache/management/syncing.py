"""Runs synchronisations in the process of a command, one at a time per node across workers and commands."""

import asyncio
from dataclasses import dataclass

from pubsubcache import store
from pubsubcache.exceptions import NoLongerKept, PubsubCacheError, SyncInProgress
from pubsubcache.management.output import Report
from pubsubcache.models import Account, PubsubNode
from pubsubcache.models.node import claim_timeout
from pubsubcache.services.protocol import PubsubService
from pubsubcache.store import in_thread, nodes
from pubsubcache.syncing.full_sync import SyncResult, sync_node
from pubsubcache.types import NodeAddress
from pubsubcache.utils import clock

POLL_INTERVAL = 0.25


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a node could not be synchronised."""

    reason: str
    exit_code: int

    def __str__(self) -> str:
        return self.reason


async def sync_address(service: PubsubService, account: Account, address: NodeAddress, report: Report) -> SyncResult:
    """Synchronise a node and keep it in sync from now on. Adds it to the cache if it is not there yet.

    If the synchronisation of a new node fails before any item is stored, the node is removed again.

    Raises:
        SyncFailed: The listing was inconsistent, or took longer than `SYNC_TIMEOUT`.
        PubsubCacheError: The service refused or could not be reached; see `PubsubService`.
    """
    known = await in_thread(nodes.find_node)(account.jid, address)
    node = known
    if node is None or not nodes.wants_sync(node):
        node = await in_thread(nodes.get_or_create_node)(account.jid, address, by_hand=True)
    try:
        try:
            return await _sync(service, node.pk, report)
        except NoLongerKept:
            await in_thread(nodes.get_or_create_node)(account.jid, address, by_hand=True)
            return await _sync(service, node.pk, report)
    except PubsubCacheError:
        if known is None:
            empty = PubsubNode.objects.filter(pk=node.pk, item_count=0)
            await in_thread(store.forget_nodes)(empty, unsubscribe=True)
        raise


async def sync_listed(service: PubsubService, pk: int, report: Report) -> SyncResult | Failure:
    """Synchronise one of several nodes. A failure is returned, not raised, so the others are synchronised too."""
    try:
        return await _sync(service, pk, report)
    except PubsubCacheError as error:
        return Failure(str(error), error.exit_code)


async def _sync(service: PubsubService, pk: int, report: Report) -> SyncResult:
    """Synchronise a node and fetch evicted items again. Waits while another process synchronises it."""
    while True:
        try:
            return await sync_node(service, pk, fetch_evicted=True, progress=report)
        except SyncInProgress:
            await _other_ended(pk, report)


async def _other_ended(pk: int, report: Report) -> None:
    """Wait until no live process synchronises a node, and report the progress of the other process."""
    while (node := await in_thread(nodes.load_node)(pk)) is not None and node.sync_owner:
        if not clock.is_recent(node.sync_heartbeat, await in_thread(clock.now)(), claim_timeout()):
            return
        report(node.sync_done, node.sync_total)
        await asyncio.sleep(POLL_INTERVAL)
