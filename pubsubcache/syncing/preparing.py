"""Prepares items for the store: parses them with the node's analyser, and extracts the text for full text search."""

from pubsubcache.analysers import matching, registry
from pubsubcache.exceptions import ParseError
from pubsubcache.store import syncing
from pubsubcache.types import Item, NodeAddress
from pubsubcache.utils import xmlform
from pubsubcache.utils.slices import Work


async def prepare(analyser_name: str, address: NodeAddress, items: list[Item]) -> dict[str, syncing.PreparedItem]:
    """Return prepared items by id. An item that cannot be parsed carries the reason instead of data."""
    analyser = registry.get(analyser_name)
    prepared: dict[str, syncing.PreparedItem] = {}
    work = Work(address.service)
    for item in items:
        await work.pause()
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
    return prepared
