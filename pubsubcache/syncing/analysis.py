"""The analysers asked about a node, with an item of it where they need one."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from pubsubcache.analysers import Analysis, matching
from pubsubcache.services.protocol import PubsubService
from pubsubcache.types import Item, ItemsRequest, NodeAddress
from pubsubcache.utils.cleaning import get_logger

logger = get_logger(__name__)

SAMPLES = 20  # newest items looked at where the newest one is left out


async def analyse(
    service: PubsubService,
    address: NodeAddress,
    items: Sequence[Item] = (),
    *,
    passing: tuple[type[Exception], ...] = (),
) -> tuple[Analysis | None, str]:
    """Return what the first matching analyser says of a node, None when none matches, and why they could not say.

    The sample is the last of `items`, or asked of the service. Exceptions in `passing` are raised.
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
