"""Publishes new entries to the journal of the sample, so that there are notifications to follow."""

import asyncio
import logging
import random
from datetime import UTC, datetime

from project.sample.content import GARDENER, journal, journal_payload, login
from project.sample.prosody import Prosody
from project.sample.texts import journal_entry
from pubsubcache.exceptions import PubsubCacheError
from pubsubcache.xmpp.session import Session, open_session

PAUSE = (20.0, 30.0)

logger = logging.getLogger(__name__)


async def keep_publishing(prosody: Prosody) -> None:
    """Publish a journal entry every 20 to 30 seconds, until cancelled."""
    while True:
        try:
            async with open_session(login(prosody, GARDENER)) as session:
                await _publish_on(prosody, session)
        except PubsubCacheError as error:
            logger.info("The sample's gardener pauses: %s", error)
        await asyncio.sleep(PAUSE[0])


async def _publish_on(prosody: Prosody, session: Session) -> None:
    number = len(await session.get_item_ids(journal(prosody)))
    while True:
        await asyncio.sleep(random.uniform(*PAUSE))  # noqa: S311 (not a secret)
        number += 1
        post = journal_entry(number, datetime.now(UTC))
        await session.publish(journal(prosody), journal_payload(prosody, post), post.id)
