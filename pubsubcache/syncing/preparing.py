"""Items made ready for the store: parsed by the node's analyser, with the text that full text search finds."""

import asyncio

from pubsubcache.analysers import matching, registry
from pubsubcache.exceptions import ParseError
from pubsubcache.store import syncing
from pubsubcache.types import Item, NodeAddress
from pubsubcache.utils import xmlform


async def prepare(analyser_name: str, address: NodeAddress, items: list[Item]) -> dict[str, syncing.PreparedItem]:
    """Parse items for the store, by id; one that cannot be parsed carries the reason instead."""
    analyser = registry.get(analyser_name)
    prepared: dict[str, syncing.PreparedItem] = {}
    for number, item in enumerate(items):
        if item.left_out:
            prepared[item.id] = syncing.PreparedItem(item=item)
            continue
        text = await matching.aside_if_large(item, xmlform.words, item.element)
        entry = syncing.PreparedItem(item=item, text=text)
        try:
            entry.parsed = await matching.parse(analyser, item, address)
        except ParseError as error:
            entry.parse_error = str(error)
        prepared[item.id] = entry
        if number % 20 == 19:
            await asyncio.sleep(0)  # let notifications and other readers in
    return prepared
