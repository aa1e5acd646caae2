"""Limits for walks over the pages of a node, so that every walk ends.

The service decides how many pages it returns, and when. Each walk is therefore limited in the number of items, the size
of their ids, the number of pages and the number of pages without new items. Each task that walks has a deadline.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pubsubcache.conf import settings
from pubsubcache.exceptions import NodeTooLarge, PubsubCacheError, ServiceError

# A node may list this many times `MAX_NODE_ITEMS`. Items over `MAX_NODE_ITEMS` are listed, but not stored.
LISTED_FACTOR = 4
AVERAGE_ID = 64  # characters; limits the total length of all ids to this many times the maximum number of items
LEAST_PAGES = 1000
ITEMS_PER_PAGE = 10  # minimum average in a walk of more than `LEAST_PAGES` pages
PAGES_WITHOUT_NEWS = 3  # consecutive pages without new items that end a walk


def max_listed() -> int:
    """Return the maximum number of items that a service may list for one node."""
    return LISTED_FACTOR * int(settings.MAX_NODE_ITEMS)


@dataclass(slots=True)
class WalkBounds:
    """Counts the pages and items of one walk over a node, and enforces the limits."""

    node: str
    items: int = 0
    characters: int = 0
    pages: int = 0
    without_news: int = 0

    def count_page(self, new_ids: list[str], cursor: str | None = None) -> None:
        """Count a page.

        Args:
            new_ids: Ids of the items that no earlier page contained.
            cursor: Cursor of the next page, or None.

        Raises:
            NodeTooLarge: The node has too many items, or their ids are too long.
            ServiceError: The service returned too many pages.
        """
        self.pages += 1
        self.without_news = 0 if new_ids else self.without_news + 1
        self.items += len(new_ids)
        self.characters += sum(map(len, new_ids)) + len(cursor or "")
        if self.items > max_listed():
            raise NodeTooLarge(f"The node {self.node} has over {max_listed()} items.")
        if self.characters > (most := AVERAGE_ID * max_listed()):
            raise NodeTooLarge(f"The ids and cursors of the node {self.node} have over {most} characters.")
        if self.pages > max(LEAST_PAGES, max_listed() // ITEMS_PER_PAGE):
            raise ServiceError("undefined-condition", f"no end of the node after {self.pages} pages")

    @property
    def is_stale(self) -> bool:
        """Whether the last `PAGES_WITHOUT_NEWS` pages had no new items."""
        return self.without_news >= PAGES_WITHOUT_NEWS


@asynccontextmanager
async def deadline(seconds: float, error: PubsubCacheError) -> AsyncIterator[None]:
    """Cancel the block after a time, whatever its progress.

    Args:
        seconds: Time limit, by the monotonic clock.
        error: The error to raise when the time is over.
    """
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            yield
    except TimeoutError:
        if limit.expired():
            raise error from None
        raise
