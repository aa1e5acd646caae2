"""Reads all nodes of the sample once, as a site would, and keeps publishing to one of them."""

import asyncio
import logging

from asgiref.sync import sync_to_async

from project.sample import content
from project.sample.prosody import Prosody
from project.sample.publisher import keep_publishing
from pubsubcache.cache import get_items
from pubsubcache.exceptions import PubsubCacheError
from pubsubcache.models import Account, PubsubNode

POLL_INTERVAL = 0.2

logger = logging.getLogger(__name__)


async def visit(account: Account, prosody: Prosody) -> None:
    """Read every node of the sample, which adds it to the cache, then keep publishing until cancelled."""
    await _until_online(account)
    for node in content.nodes(prosody):
        if not node.analysed:
            await PubsubNode.objects.aget_or_create(
                account=account,
                service=node.address.service,
                name=node.address.name,
                defaults={"policy": PubsubNode.Policy.ALWAYS},
            )
        try:
            await get_items(account, node.address.service, node.address.name)
        except PubsubCacheError as error:
            logger.warning("Failed to read node %s of the sample: %s", node.address.uri, error)
    await keep_publishing(prosody)


async def _until_online(account: Account) -> None:
    while True:
        await account.arefresh_from_db()
        if await sync_to_async(account.is_online)():
            return
        await asyncio.sleep(POLL_INTERVAL)
