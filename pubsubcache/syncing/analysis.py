"""Analyses a node: asks the analysers, and gives them a sample item if they need one."""

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from pubsubcache.analysers import Analysis, matching
from pubsubcache.analysers.matching import SAMPLES, prevailing
from pubsubcache.exceptions import ServiceError, TooLarge
from pubsubcache.models import PubsubNode
from pubsubcache.services.fetching import upright
from pubsubcache.services.pager import TOO_MUCH
from pubsubcache.services.protocol import PubsubService
from pubsubcache.store import in_thread, nodes, syncing
from pubsubcache.types import Item, ItemsRequest, NodeAddress
from pubsubcache.utils.cleaning import get_logger
from pubsubcache.utils.xmlform import payload_namespace

logger = get_logger(__name__)

TIMEOUT = 10.0  # seconds for an analysis, except during a synchronisation


class Finding(NamedTuple):
    """The result of analysing a node.

    Attributes:
        analysis: The analysis, or None if no analyser matches or the analysis failed.
        error: Why it failed, or "".
        namespace: The namespace that prevails among the items, "" if none does; None if the name of the node sufficed.
    """

    analysis: Analysis | None
    error: str = ""
    namespace: str | None = None


async def analyse(
    address: NodeAddress,
    items: Sequence[Item] = (),
    more: Callable[[], Awaitable[Sequence[Item]]] | None = None,
    *,
    passing: tuple[type[Exception], ...] = (),
) -> Finding:
    """Analyse a node with the first matching analyser.

    Args:
        address: The node.
        items: Known items of the node, oldest first.
        more: Called for the newest items if an analyser needs them and `items` do not show what the node is about.
        passing: Exceptions to raise. All others are logged and become the error of the finding.
    """
    namespace: str | None = None

    async def sample() -> Element | None:
        nonlocal namespace
        known = items
        namespace = prevailing(namespaces_of(known))
        if not namespace and more is not None:
            known = await more()
            namespace = prevailing(namespaces_of(known))
        known = _samples(known)
        fitting = [item for item in known if namespace in ("", payload_namespace(item.element))]
        return fitting[-1].element if fitting else None

    try:
        return Finding(await matching.analyse(address, sample), "", namespace)
    except passing:
        raise
    except Exception as error:  # a match_cb may raise anything
        reason = matching.reason(error)
        logger.warning("Analysing %s failed: %s", address.uri, reason)
        return Finding(None, f"The analysis failed: {reason}", namespace)


async def newest_items(service: PubsubService, address: NodeAddress) -> Sequence[Item]:
    """Ask a service for the newest items of a node, oldest first: `SAMPLES`, or one if that is too much at once."""
    try:
        return upright(await service.get_items(address, ItemsRequest(max_items=SAMPLES))).items
    except (TooLarge, ServiceError) as error:
        if isinstance(error, ServiceError) and error.condition not in TOO_MUCH:
            raise
    return (await service.get_items(address, ItemsRequest(max_items=1))).items


def is_due(node: PubsubNode, namespaces: Sequence[str | None], *, newest: bool) -> bool:
    """Whether items show that a node must be analysed again.

    Args:
        node: The node.
        namespaces: The namespaces of the payloads of its items, oldest item first.
        newest: Whether these are all items of the node or the newest `SAMPLES`. Other items only matter if no analyser
            matches yet.
    """
    failed = node.registry_fingerprint == ""  # only reads and synchronisations try again
    by_name = bool(node.analyser) and node.sample_namespace is None
    if failed or by_name or (node.analyser and not newest):
        return False
    found = prevailing(namespaces, node.sample_namespace or "")
    return bool(found) and found != node.sample_namespace


async def look_again(node: PubsubNode) -> Finding | None:
    """Analyse a synchronised node again if its newest stored items require it; return the finding, to be saved."""
    stored = await in_thread(nodes.newest_namespaces)(node.pk, SAMPLES)
    namespaces = list(stored.values())
    if not is_due(node, namespaces, newest=True):
        return None
    found = prevailing(namespaces, node.sample_namespace or "")
    newest = [item_id for item_id, namespace in stored.items() if namespace == found][-1]
    data = await in_thread(syncing.stored_data)(node.pk, [newest])
    items = [Item(id=item_id, xml=xml) for item_id, xml in data.items()]
    return await analyse(node.address, items) if items else None  # the item may be gone


def namespaces_of(items: Sequence[Item]) -> list[str | None]:
    """Return the namespaces of the payloads of the items to look at."""
    return [payload_namespace(item.element) for item in _samples(items)]


def _samples(items: Sequence[Item]) -> list[Item]:
    return [item for item in items if not item.left_out][-SAMPLES:]
