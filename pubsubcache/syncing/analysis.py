"""Analyses a node: asks the analysers, and gives them a sample item if they need one."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from pubsubcache.analysers import Analysis, matching
from pubsubcache.services.protocol import PubsubService
from pubsubcache.types import Item, ItemsRequest, NodeAddress
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

SAMPLES = 20  # newest items to look at if the newest one is left out


async def analyse(
    service: PubsubService,
    address: NodeAddress,
    items: Sequence[Item] = (),
    *,
    passing: tuple[type[Exception], ...] = (),
) -> tuple[Analysis | None, str]:
    """Analyse a node with the first matching analyser.

    Args:
        service: Asked for a sample item if `items` is empty.
        address: The node.
        items: Known items; the last one is the sample.
        passing: Exceptions to raise. All others are logged and returned as the reason.

    Returns:
        The analysis, or None if no analyser matches or the analysis failed, and the reason of a failure or "".
    """

    async def sample() -> Element | None:
        found = items
        for number in (1, SAMPLES):
            found = found or (await service.get_items(address, ItemsRequest(max_items=number))).items
            if kept := [item for item in found if not item.left_out]:
                return kept[-1].element
            if not found:
                return None
            found = ()
        return None

    try:
        return await matching.analyse(address, sample), ""
    except passing:
        raise
    except Exception as error:  # a match_cb may raise anything
        reason = matching.reason(error)
        logger.warning("Analysing %s failed: %s", address.uri, reason)
        return None, f"The analysis failed: {reason}"
