"""The scheduled comparison of a followed node with its service, which costs little when nothing changed.

Notifications told what was published and edited; some services tell nothing of what they dropped, purged or lost. That
shows in the list of ids. What it does not show is seen when contents are compared, less often.
"""

from pubsubcache.analysers import registry
from pubsubcache.conf import settings
from pubsubcache.exceptions import ServiceError, ServiceUnreachable, SyncFailed, TooLarge
from pubsubcache.models import PubsubNode
from pubsubcache.services import fetching
from pubsubcache.services.protocol import PubsubService
from pubsubcache.signals import announce, items_retracted
from pubsubcache.store import id_checks, in_thread, nodes
from pubsubcache.store.changes import Retraction
from pubsubcache.store.id_checks import CheckResult
from pubsubcache.store.written import apply_answer
from pubsubcache.syncing.full_sync import sync_node
from pubsubcache.syncing.order import Settled, at_once, compare_ids, has_same_order, in_time
from pubsubcache.types import is_short
from pubsubcache.utils import clock
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

ATTEMPTS = 5  # to compare a node that changes meanwhile
SyncState = PubsubNode.SyncState


async def revalidate(service: PubsubService, node_pk: int, settled: Settled = at_once) -> None:
    """Bring a node that is due in line with the service: by its ids where they tell enough, else by all its items.

    `settled` waits until the notifications of a node that came so far are stored. Raises what `sync_node` raises.
    """
    node = await in_thread(nodes.load_node)(node_pk)
    if node is None or not (_id_check_suffices(node) and await _ids_agree(service, node, settled)):
        await sync_node(service, node_pk, settled=settled)


async def check_ids(service: PubsubService, node_pk: int, settled: Settled = at_once) -> bool:
    """Compare which items a node has, and their order, with the service's list of ids.

    For what notifications don't tell: items that the service drops silently to make room, the place of edited ones.
    `settled` waits until what came before for the node is stored. Returns False when something changed meanwhile,
    so that it is to be done again. A node that differs is put in order, or synchronised. Raises `ServiceUnreachable`
    when the service cannot be asked now: a stream that is resumed has nothing else compared.
    """
    node = await in_thread(nodes.load_node)(node_pk)
    if node is None or node.sync_state != PubsubNode.SyncState.COMPLETED:
        return True
    result = await compare_ids(service, node, settled)
    if result is CheckResult.UNREACHABLE:
        raise ServiceUnreachable(f"{node.service} could not be asked which items there are.")
    if result is CheckResult.DIFFERENT:
        await sync_node(service, node_pk, settled=settled)
    return result is not CheckResult.CHANGED


def _id_check_suffices(node: PubsubNode) -> bool:
    """Whether notifications told of every edit since the contents of a node were compared."""
    now = node.as_of or clock.now()
    return (
        node.sync_state == SyncState.COMPLETED
        and node.sync_requested is None
        and node.is_followed(now)
        and not node.is_order_unknown
        and node.registry_fingerprint == registry.fingerprint()
        and clock.is_recent(node.compared_at, now, settings.COMPARE_INTERVAL)
    )


async def _ids_agree(service: PubsubService, node: PubsubNode, settled: Settled) -> bool:
    """Compare the ids of a node, and remove what is gone; return False when its items are to be read as well."""
    started = await in_thread(clock.now)()
    try:
        async with in_time():
            subscription = await service.subscribe(node.address)
            if subscription.state != "subscribed":
                return False
            for _ in range(ATTEMPTS):
                if (same := await _has_same_ids(service, node.pk, settled)) is not None:
                    break
            if not same or not await has_same_order(service, node.pk, settled):
                return False
    except (ServiceError, ServiceUnreachable, SyncFailed, TooLarge) as error:
        logger.debug("The ids of %s could not be compared: %s", node, error)
        return False
    await in_thread(id_checks.mark_checked)(node.pk, started)
    return True


async def _has_same_ids(service: PubsubService, pk: int, settled: Settled) -> bool | None:
    """Whether a node has the service's items, once those that are gone were removed; None when it changes meanwhile."""
    node = await in_thread(nodes.load_node)(pk)
    if node is None:
        return False
    ids = await service.get_item_ids(node.address)
    await settled(node.address)
    if (difference := await in_thread(id_checks.difference)(pk, node.revision, ids)) is None:
        return None
    gone, missing = difference
    if missing or len(gone) > settings.PAGE_SIZE:
        return False
    if not gone:
        return True
    # A list may be cut short: only what the service does not give when asked for it is gone. It cannot be asked for an
    # item of which only the short form of its id is known.
    if not ids or any(map(is_short, gone)) or await fetching.read_ids(service, node.address, gone):
        return False
    await settled(node.address)
    outcome = await in_thread(apply_answer)(node, [Retraction(name) for name in gone])
    if outcome is None:
        return None
    logger.info("%s: %d items are gone that nobody told of.", node, len(gone))
    await announce(items_retracted, node_pk=pk, names=outcome.retracted)
    return True
