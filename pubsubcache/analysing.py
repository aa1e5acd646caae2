"""The analysers asked about a node, with an item of it where they need one."""

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from pubsubcache.analysers import Analysis, matching
from pubsubcache.service import PubsubService
from pubsubcache.texts import get_logger
from pubsubcache.types import Item, ItemsRequest, NodeAddress

logger = get_logger(__name__)


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
        found = items or (await service.get_items(address, ItemsRequest(max_items=1))).items
        return found[-1].element if found else None

    try:
        return await matching.analyse(address, sample), ""
    except passing:
        raise
    except Exception as error:  # a match_cb may raise anything
        reason = matching.reason(error)
        logger.warning("Analysing %s failed: %s", address.uri, reason)
        return None, f"The analysis failed: {reason}"
