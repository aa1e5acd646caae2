"""`manage.py pubsub_search`: searches items in the cache by node, by full text, and by fields of their parsed data."""

import json
from collections.abc import Iterator
from typing import Any
from xml.sax.saxutils import quoteattr

from django.core.management.base import CommandParser

from pubsubcache.exceptions import InvalidRequest
from pubsubcache.lookups.conditions.arguments import read_condition
from pubsubcache.lookups.conditions.paths import read_path
from pubsubcache.lookups.snippets import marked
from pubsubcache.management.base import PubsubCommand, text
from pubsubcache.management.output import as_json, as_table, as_time, counted, plain, to_second
from pubsubcache.search import Found, SearchResult, search

RESULTS = "urn:pubsubcache:search:0"
TITLE_LENGTH = 80
MARK = "**"  # around the search terms in snippets


class Command(PubsubCommand):
    """Prints the results of `pubsubcache.search.search`. Sends no requests to services."""

    help = "Find items in the cache, of all accounts by default. See docs/search.md."
    read_only = True
    formats = ("table", "json", "xml")

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "-f", "--fts", type=text, default="", metavar="QUERY", help="items with these words in their content"
        )
        self.add_filters(parser, "account", "service", "node", "type", "subtype")
        parser.add_argument(
            "--item", action="append", type=text, default=[], metavar="ID", help="the id of the item; may be repeated"
        )
        parser.add_argument(
            "-F",
            "--field",
            action="append",
            nargs="+",
            type=text,
            default=[],
            metavar=("PATH", "OP VALUE"),
            help="a condition on a field of the parsed data; may be repeated, items must match all",
        )
        parser.add_argument(
            "-o",
            "--order-by",
            action="append",
            nargs="+",
            type=text,
            default=[],
            metavar=("ORDER", "PATH DIRECTION"),
            help="creation (default), modification, item_id, rank or field PATH, with asc or desc; may be repeated",
        )
        parser.add_argument("-l", "--limit", type=int, metavar="N", help="at most N items (default and 0: all)")
        parser.add_argument("-i", "--index", type=int, default=0, metavar="I", help="start at this index, from 0")
        parser.add_argument(
            "-k",
            "--key",
            action="append",
            type=text,
            default=[],
            metavar="KEY",
            help="only this key of the parsed data; may be repeated",
        )
        parser.add_argument("-P", "--with-payload", action="store_true", help="include the whole item as XML")
        self.add_output(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        as_xml = options["output"] == "xml"
        result = search(
            fts=options["fts"],
            accounts=[self.account(given).jid for given in options["account"]],
            services=options["service"],
            nodes=options["node"],
            types=options["type"],
            subtypes=options["subtype"],
            names=options["item"],
            parsed=[_condition(words) for words in options["field"]],
            order_by=[_order(words) for words in options["order_by"]],
            limit=options["limit"],
            index=options["index"],
            keys=options["key"],
            with_payload=options["with_payload"] or as_xml,
        )
        if options["output"] == "json":
            self._print_json(result)
        elif as_xml:
            self._print_xml(result)
        else:
            self._print_table(result, options)

    # JSON and XML are printed item by item, because the result may not fit into memory

    def _print_json(self, result: SearchResult) -> None:
        self.print_data(f'{{"total": {result.total}, "items": [')
        separator = "\n"
        for found in result:
            self.print_data(separator + as_json(as_data(found), self.stdout, indent=None))
            separator = ",\n"
        self.print_data("\n]}\n" if separator != "\n" else "]}\n")

    def _print_xml(self, result: SearchResult) -> None:
        self.print_data(f'<results xmlns="{RESULTS}" total="{result.total}">\n')
        for found in result:
            self.print_data(_as_xml(found), errors="xmlcharrefreplace")
        self.print_data("</results>\n")

    def _print_table(self, result: SearchResult, options: dict[str, Any]) -> None:
        columns = ["account", "service", "node", "id", *_columns(result), "updated"]
        rows = list(_rows(result))
        if rows:
            self.print_data(as_table(columns, rows, self.stdout, options))
        if len(rows) == result.total:
            self.print_data(f"\n{counted(result.total, 'item')}.\n".lstrip("" if rows else "\n"))
        else:
            self.print_data(f"\n{len(rows)} of {counted(result.total, 'item')}, from {result.index}.\n")


def as_data(found: Found) -> dict[str, Any]:
    """Return a found item as JSON data."""
    data = {
        "account": found.account,
        "service": found.service,
        "node": found.node,
        "id": found.id,
        "created": as_time(found.created),
        "updated": as_time(found.updated),
        "parsed": found.parsed,
        "snippet": None if found.snippet is None else marked(found.snippet, MARK, MARK),
    }
    return data if found.xml is None else {**data, "xml": found.xml}


def _condition(words: list[str]) -> Any:
    """Return a condition from the words of `-F`. Raises `InvalidRequest`."""
    if len(words) not in (2, 3):
        raise InvalidRequest(f"-F takes a PATH, an operator and a VALUE, not {counted(len(words), 'word')}.")
    return read_condition(*words)


def _order(words: list[str]) -> Any:
    kind, *more = words
    return (kind, read_path(more[0]), *more[1:]) if kind == "field" and more else tuple(words)


def _as_xml(found: Found) -> str:
    attributes = {name: value for name, value in as_data(found).items() if isinstance(value, str) and name != "xml"}
    written = " ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items())
    return f"<result {written}>{found.xml}</result>\n"


def _columns(result: SearchResult) -> list[str]:
    shown = list(result.keys) or ["title"]
    return [*shown, "snippet"] if result.with_snippets else shown


def _rows(result: SearchResult) -> Iterator[list[object]]:
    for found in result:
        parsed = found.parsed if isinstance(found.parsed, dict) else {}
        cells: list[object] = [_cell(parsed.get(key)) for key in result.keys or ["title"]]
        if result.with_snippets:
            cells.append(marked(found.snippet or "", MARK, MARK))
        yield [found.account, found.service, found.node, found.id, *cells, to_second(as_time(found.updated))]


def _cell(value: Any) -> object:
    words = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    shown = plain(words)
    return shown if len(shown) <= TITLE_LENGTH else f"{shown[: TITLE_LENGTH - 1]}…"
