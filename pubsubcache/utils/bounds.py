"""Bounds of what a service may list, and how long that may take: every walk ends.

A service decides how many pages it gives and when. Each walk over pages is therefore bounded in items, in the memory
that their ids take, in pages and in pages that bring nothing new, and each task that walks has a deadline.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pubsubcache.conf import settings
from pubsubcache.exceptions import NodeTooLarge, PubsubCacheError, ServiceError

# A node may list so many times `MAX_NODE_ITEMS`: the items over it are listed, but not kept.
LISTED_FACTOR = 4
AVERAGE_ID = 64  # characters: all ids of a walk together take no more than so many times the items allowed
LEAST_PAGES = 1000
ITEMS_PER_PAGE = 10  # on average, in a walk of more than `LEAST_PAGES` pages
PAGES_WITHOUT_NEWS = 3  # in a row


def max_listed() -> int:
    """Return the number of items that a service may list of one node."""
    return LISTED_FACTOR * int(settings.MAX_NODE_ITEMS)


@dataclass(slots=True)
class WalkBounds:
    """Counts what one walk over the pages of a node brings, and ends it at the bounds."""

    node: str
    items: int = 0
    characters: int = 0
    pages: int = 0
    without_news: int = 0

    def count_page(self, new_ids: list[str], cursor: str | None = None) -> None:
        """Count a page that brought the items `new_ids` and led on by `cursor`.

        Raises `NodeTooLarge` for a node of too many items, and `ServiceError` for too many pages.
        """
        self.pages += 1
        self.without_news = 0 if new_ids else self.without_news + 1
        self.items += len(new_ids)
        self.characters += sum(map(len, new_ids)) + len(cursor or "")
        if self.items > max_listed():
            raise NodeTooLarge(f"The node {self.node} has over {max_listed()} items.")
        if self.characters > (most := AVERAGE_ID * max_listed()):
            raise NodeTooLarge(f"The ids and cursors of the node {self.node} take over {most} characters.")
        if self.pages > max(LEAST_PAGES, max_listed() // ITEMS_PER_PAGE):
            raise ServiceError("undefined-condition", f"no end of the node after {self.pages} pages")

    @property
    def is_stale(self) -> bool:
        """Whether the last pages brought nothing new."""
        return self.without_news >= PAGES_WITHOUT_NEWS


@asynccontextmanager
async def deadline(seconds: float, error: PubsubCacheError) -> AsyncIterator[None]:
    """Cancel the block after `seconds` of monotonic time, whatever progress it makes, and raise `error`."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise error from None
        raise
