"""`manage.py pubsub_get`: prints items of a node, from the cache if its copy is fresh, else from the service."""

from typing import Any
from xml.sax.saxutils import quoteattr

from django.core.management.base import CommandParser

from pubsubcache.cache import get_items
from pubsubcache.management.base import PubsubCommand, text
from pubsubcache.management.network import asking, run
from pubsubcache.management.output import as_table, as_time, counted, plain, to_second
from pubsubcache.models import Account
from pubsubcache.types import ORDERS, Item, ItemsPage, NodeAddress
from pubsubcache.utils import jid, xmlform

TITLE_LENGTH = 80
SHOWN = 20  # left-out items to list
PAGING = ("max", "after", "before", "index")


class Command(PubsubCommand):
    """Prints the result of `pubsubcache.cache.get_items`."""

    help = "Print items of a node, oldest first: all of them, or the selected ones."
    read_only = True
    formats = ("table", "json", "xml")

    def add_arguments(self, parser: CommandParser) -> None:
        self.add_target(parser)
        parser.add_argument(
            "-i", "--item", action="append", type=text, metavar="ID", help="only the item with this id; may be repeated"
        )
        parser.add_argument("-M", "--max-items", type=int, metavar="N", help="only the N newest items")
        parser.add_argument(
            "-m", "--max", type=int, metavar="MAX", help="a page of at most MAX items; 0: only the count"
        )
        parser.add_argument("--after", type=text, metavar="ID", help='the page after this cursor ("last" of a page)')
        parser.add_argument(
            "--before", type=text, metavar="ID", help='the page before this cursor ("first" of a page); "": the last'
        )
        parser.add_argument("--index", type=int, metavar="I", help="the page that starts at this index, from 0")
        parser.add_argument(
            "-o", "--order-by", choices=ORDERS, help="the order of the items (default: the service's own)"
        )
        source = parser.add_mutually_exclusive_group()
        source.add_argument("--no-cache", action="store_true", help="read from the service in any case")
        source.add_argument("--cache-only", action="store_true", help="never read from the service")
        self.add_output(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        account = self.account(options["account"])
        service = account.jid if options["service"] is None else jid.normalise(options["service"])
        page = run(lambda: _read(account, service, options))
        address = NodeAddress(service, options["node"])
        if options["output"] == "json":
            self.print_json(as_data(address, page))
        elif options["output"] == "xml":
            self.print_data(_as_xml(address, page), errors="xmlcharrefreplace")
        else:
            self.print_data(self._as_table(page, options))

    def _as_table(self, page: ItemsPage, options: dict[str, Any]) -> str:
        for item_id, reason in page.left_out[:SHOWN]:
            self.say(options, f"Left out: {plain(item_id[:TITLE_LENGTH])}: {plain(reason)}")
        rows = [(item.id, _title(item), item.publisher, to_second(as_time(item.updated))) for item in page.items]
        shown = as_table(("id", "title", "publisher", "updated"), rows, self.stdout, options) if rows else ""
        return f"{shown}\n{_footer(page)}\n".lstrip("\n")


async def _read(account: Account, service: str, options: dict[str, Any]) -> ItemsPage:
    paging = {name: options[name] for name in PAGING if options[name] is not None}
    async with asking(account):
        return await get_items(
            account,
            service,
            options["node"],
            item_ids=options["item"],
            max_items=options["max_items"],
            rsm=paging or None,
            order_by=options["order_by"],
            use_cache=not options["no_cache"],
            cache_only=options["cache_only"],
        )


def as_data(address: NodeAddress, page: ItemsPage) -> dict[str, Any]:
    """Return an answer as JSON data."""
    rsm = page.rsm
    return {
        "service": address.service,
        "node": address.name,
        "uri": address.uri,
        "origin": page.origin,
        "stale": page.stale,
        "state": page.state,
        "complete": page.complete,
        "rsm": None if rsm is None else {name: getattr(rsm, name) for name in ("first", "last", "index", "count")},
        "items": [
            {
                "id": item.id,
                "xml": item.xml,
                "parsed": item.parsed,
                "publisher": item.publisher,
                "created": as_time(item.created),
                "updated": as_time(item.updated),
            }
            for item in page.items
        ],
        "left_out": [{"id": item_id, "reason": reason} for item_id, reason in page.left_out],
    }


def _as_xml(address: NodeAddress, page: ItemsPage) -> str:
    lines = [
        f'<items xmlns="{xmlform.PUBSUB}" node={quoteattr(address.name)}>',
        *(item.xml for item in page.items),
        "</items>",
    ]
    return "\n".join(lines) + "\n"


def _title(item: Item) -> str:
    title = item.parsed.get("title") if isinstance(item.parsed, dict) else None
    words = " ".join((title if isinstance(title, str) and title else xmlform.words(item.element)).split())
    return words if len(words) <= TITLE_LENGTH else f"{words[: TITLE_LENGTH - 1]}…"


def _footer(page: ItemsPage) -> str:
    """Return a line that says where an answer came from, and whether there are more items."""
    parts = [counted(len(page.items), "item")]
    if page.rsm is not None and page.rsm.count is not None:
        parts[0] += f" of {page.rsm.count}"
        if page.rsm.first is not None:
            parts.append(f"first {page.rsm.first}, last {page.rsm.last}")
    elif not page.complete:
        parts.append("there are more")
    parts.append(f"from the {page.origin}{', stale' if page.stale else ''}")
    parts.append(f"state {page.state or 'none'}")
    if page.left_out:
        parts.append(f"{counted(len(page.left_out), 'item')} left out")
    if page.checked_at is not None:
        parts.append(f"checked {to_second(as_time(page.checked_at))}")
    return "; ".join(parts) + "."
