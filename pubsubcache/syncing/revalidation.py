"""Revalidates nodes: by an id check if that suffices, else by a full sync.

Notifications report published and edited items, but some services do not report what they dropped, purged or lost. The
list of ids reveals that at little cost. Contents are compared less often.
"""

from dataclasses import dataclass
from datetime import datetime

from pubsubcache.analysers import registry
from pubsubcache.conf import settings
from pubsubcache.exceptions import ServiceError, ServiceUnreachable, SyncFailed, TooLarge
from pubsubcache.models import PubsubNode, SyncRun
from pubsubcache.services import fetching
from pubsubcache.services.counting import CountedService
from pubsubcache.services.protocol import PubsubService
from pubsubcache.signals import announce_items, items_retracted
from pubsubcache.store import id_checks, in_thread, nodes, runs
from pubsubcache.store.id_checks import CheckResult
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.syncing.order import Drain, compare_ids, has_same_order, nothing_to_drain, sync_deadline
from pubsubcache.types import is_short
from pubsubcache.utils import clock
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

ATTEMPTS = 5  # to compare a node that changes meanwhile
SyncState = PubsubNode.SyncState


async def revalidate(service: PubsubService, node_pk: int, drain: Drain = nothing_to_drain) -> None:
    """Make a node equal to the service: by its ids if they suffice, else by a full sync.

    Args:
        service: Answers the requests.
        node_pk: Primary key of the node.
        drain: Waits until the notifications received so far for a node are stored.

    Raises:
        PubsubCacheError: As `sync_node`.
    """
    node = await in_thread(nodes.load_node)(node_pk)
    if node is None or not (_id_check_suffices(node) and await _ids_agree(service, node, drain)):
        await sync_node(service, node_pk, drain=drain)


async def check_ids(service: PubsubService, node_pk: int, drain: Drain = nothing_to_drain) -> bool:
    """Compare the item ids of a node, and their order, with the service's list; repair the node if they differ.

    This finds what notifications do not report: items that the service dropped to make room, and the position of edited
    items.

    Args:
        service: Answers the requests.
        node_pk: Primary key of the node.
        drain: Waits until the notifications received so far for a node are stored.

    Returns:
        False if the node changed meanwhile, so that the check must be repeated.

    Raises:
        ServiceUnreachable: The service cannot be asked now. The caller must try again, because nothing else checks the
            node after a stream was resumed.
    """
    node = await in_thread(nodes.load_node)(node_pk)
    if node is None or node.sync_state != PubsubNode.SyncState.COMPLETED:
        return True
    result = await compare_ids(service, node, drain)
    if result is CheckResult.UNREACHABLE:
        raise ServiceUnreachable(f"{node.service} could not be asked for its item ids.")
    if result is CheckResult.DIFFERENT:
        await sync_node(service, node_pk, drain=drain, reason=SyncRun.Reason.IDS)
    return result is not CheckResult.CHANGED


def _id_check_suffices(node: PubsubNode) -> bool:
    """Whether notifications reported every edit since the contents of a node were last compared."""
    now = node.as_of or clock.now()
    return (
        node.sync_state == SyncState.COMPLETED
        and node.sync_requested is None
        and node.is_followed(now)
        and not node.is_order_unknown
        and node.registry_fingerprint == registry.fingerprint()
        and not node.parse_anew
        and clock.is_recent(node.compared_at, now, settings.COMPARE_INTERVAL)
    )


async def _ids_agree(service: PubsubService, node: PubsubNode, drain: Drain) -> bool:
    """Compare the ids of a node and remove missing items; return False if a full sync is needed."""
    started = await in_thread(clock.now)()
    check = _Check(runs.reason_of(node, started), started)
    service = CountedService(service, check)
    try:
        async with sync_deadline():
            subscription = await service.subscribe(node.address)
            if subscription.state != "subscribed":
                return False
            for _ in range(ATTEMPTS):
                if (same := await _has_same_ids(service, node.pk, drain, check)) is not None:
                    break
            if not same or not await has_same_order(service, node.pk, drain):
                return False
    except (ServiceError, ServiceUnreachable, SyncFailed, TooLarge) as error:
        logger.debug("The ids of %s could not be compared: %s", node, error)
        return False
    await in_thread(id_checks.mark_checked)(node.pk, started)
    return True


@dataclass(slots=True)
class _Check:
    """A running id check."""

    reason: SyncRun.Reason
    started: datetime
    requests: int = 0


async def _has_same_ids(service: PubsubService, pk: int, drain: Drain, check: _Check) -> bool | None:
    """Whether a node has the service's items, after removing missing ones; None if the node changed meanwhile."""
    node = await in_thread(nodes.load_node)(pk)
    if node is None:
        return False
    ids = await service.get_item_ids(node.address)
    await drain(node.address)
    if (difference := await in_thread(id_checks.difference)(pk, node.revision, ids)) is None:
        return None
    gone, missing = difference
    if missing or len(gone) > settings.PAGE_SIZE:
        return False
    if not gone:
        return True
    # A list may be incomplete: an item is gone only if the service does not return it on request. Items of which only
    # the short form of the id is known cannot be requested.
    if not ids or any(map(is_short, gone)) or await fetching.read_ids(service, node.address, gone):
        return False
    await drain(node.address)
    outcome = await in_thread(id_checks.remove_gone)(node, gone, check.reason, check.started, check.requests)
    if outcome is None:
        return None
    logger.info("%s: %d items are gone, without a notification.", node, len(gone))
    await announce_items(items_retracted, pk, outcome.retracted)
    return True
