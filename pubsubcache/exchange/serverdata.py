"""Reads and writes exports as XML: the structure of XEP-0227, with records in JSON containers (XEP-0335).

Nodes of the account's own service (PEP) are written as XEP-0227 defines, so XMPP servers can read them. XEP-0227 has no
place for nodes of other services; these are in a `<service/>` element of our own. Each `<item/>` is followed by its
record, which is the same as in JSON lines, but without the XML.
"""

import re
from collections.abc import Iterator
from io import TextIOBase
from typing import Any, BinaryIO
from xml.etree.ElementTree import TreeBuilder
from xml.parsers import expat
from xml.sax.saxutils import XMLGenerator
from xml.sax.xmlreader import AttributesImpl

from pubsubcache.conf import settings
from pubsubcache.exceptions import DamagedFile, TooLarge
from pubsubcache.exchange.jsonlines import LARGEST_LINE, decode, encode
from pubsubcache.exchange.records import Located, Record
from pubsubcache.utils import xmlform
from pubsubcache.utils.xmlparse import MAX_HELD, Names

SERVER_DATA = "urn:xmpp:pie:0"
JSON = "urn:xmpp:json:0"
OWNER = f"{xmlform.PUBSUB}#owner"
CONFIGURATION = f"{xmlform.PUBSUB}#node_config"
FORM = "jabber:x:data"
OURS = "urn:pubsubcache:export"
CHUNK = 64 * 1024
# Characters that XML 1.0 cannot represent. Records contain them as JSON escapes.
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def _attribute(text: str) -> str:
    return _NOT_IN_XML.sub("\ufffd", text)


class ServerDataWriter:
    """Writes records to a text stream."""

    def __init__(self, stream: TextIOBase) -> None:
        self.stream = stream
        self._xml = XMLGenerator(stream, encoding="utf-8")
        self._open: list[str] = []
        self._account = self._service = ""
        self._own: list[tuple[str, dict[str, str]]] = []  # nodes of the account's own service, and their configuration

    def write(self, record: Record) -> None:
        """Write a record."""
        match record["kind"]:
            case "header":
                self._xml.startDocument()
                self._start("server-data", xmlns=SERVER_DATA)
            case "node":
                self._go_to(record)
                self._start("items", node=_attribute(record["name"]))
            case "item":
                self.stream.write(record["data"] + "\n")
                record = {name: value for name, value in record.items() if name != "data"}
            case "end":
                self._close(1)
        self._write_json(record)
        if record["kind"] == "node_end":
            self._close(len(self._open) - 1)
        elif record["kind"] == "end":
            self._close(0)

    def _write_json(self, record: Record) -> None:
        escaped = _NOT_IN_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", encode(record))
        self._start("json", line=False, xmlns=JSON)
        self._xml.characters(escaped)
        self._close(len(self._open) - 1)

    def _go_to(self, record: Record) -> None:
        """Open the elements around a node, and close those of another account or service."""
        account, service = record["account"], record["service"]
        if account != self._account:
            self._close(1)
            local, _, domain = account.rpartition("@")
            self._start("host", jid=domain)
            self._start("user", name=local)
            self._account, self._service = account, ""
        if service != self._service:
            self._close(3)
            if service != account:
                self._start("service", xmlns=OURS, jid=service)
            self._start("pubsub", xmlns=xmlform.PUBSUB)
            self._service = service
        if service == account:
            configured = {"access_model": record["access_model"], "type": record["extra"].get("payload_type", "")}
            self._own.append((record["name"], configured))

    def _start(self, tag: str, /, *, line: bool = True, **attributes: str) -> None:
        self._xml.startElement(tag, AttributesImpl(attributes))
        self._open.append(tag)
        if line:
            self.stream.write("\n")

    def _close(self, depth: int) -> None:
        """Close elements until `depth` are open. Before a user is closed, write the configuration of its nodes."""
        while len(self._open) > depth:
            if self._open[-1] == "user" and self._own:
                self._write_configurations()
            self._xml.endElement(self._open.pop())
            self.stream.write("\n")

    def _write_configurations(self) -> None:
        own, self._own = self._own, []
        self._start("pubsub", xmlns=OWNER)
        for name, configured in own:
            self._start("configure", node=_attribute(name))
            self._start("x", xmlns=FORM, type="submit")
            self._write_field("FORM_TYPE", CONFIGURATION, type="hidden")
            for option, value in configured.items():
                if value:
                    self._write_field(f"pubsub#{option}", value)
            self._close(len(self._open) - 2)
        self._close(len(self._open) - 1)

    def _write_field(self, variable: str, value: str, **attributes: str) -> None:
        self._start("field", line=False, var=variable, **attributes)
        self._start("value", line=False)
        self._xml.characters(_attribute(value))
        self._close(len(self._open) - 2)


def read(stream: BinaryIO) -> Iterator[Located]:
    """Yield the records of a file. Raises `DamagedFile`."""
    reader = _Reader()
    # The parser rescans an unfinished token with each chunk. Doubling the chunks keeps that linear.
    while chunk := stream.read(max(CHUNK, reader.waiting)):
        reader.feed(chunk)
        yield from reader.taken()
    reader.feed(b"", last=True)
    yield from reader.taken()


# The elements that may contain records or items, with the children allowed in them.
PIE, PUBSUB, OWNED = f"{{{SERVER_DATA}}}", f"{{{xmlform.PUBSUB}}}", f"{{{OWNER}}}"
ITEM, JSON_TAG, SERVICE = f"{PUBSUB}item", f"{{{JSON}}}json", f"{{{OURS}}}service"
CHILDREN: dict[str, set[str]] = {
    "": {f"{PIE}server-data"},
    f"{PIE}server-data": {JSON_TAG, f"{PIE}host"},
    f"{PIE}host": {f"{PIE}user"},
    f"{PIE}user": {f"{PUBSUB}pubsub", f"{OWNED}pubsub", SERVICE},
    SERVICE: {f"{PUBSUB}pubsub"},
    f"{PUBSUB}pubsub": {f"{PUBSUB}items"},
    f"{PUBSUB}items": {ITEM, JSON_TAG},
    f"{OWNED}pubsub": {f"{OWNED}configure"},
}
SKIPPED = f"{OWNED}configure"  # its content is also in the records


class _Reader:
    """Handles the events of an XML parser, and collects records in `_records` until `taken` returns them."""

    def __init__(self) -> None:
        self._parser = expat.ParserCreate("utf-8")
        self._names = Names()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._on_start
        self._parser.EndElementHandler = self._on_end
        self._parser.CharacterDataHandler = self._on_text
        self._parser.StartDoctypeDeclHandler = self._on_doctype
        self._records: list[Located] = []
        self._path: list[tuple[str, dict[str, str]]] = []
        self._inside = 0  # open elements within an item, a container or a skipped element
        self._builder: TreeBuilder | None = None
        self._json: list[str] | None = None
        self._item: str | None = None
        self._in_node = False  # the record of the current node has been read
        self._fed = self._began = self._line = 0
        self.waiting = 0  # bytes of an unfinished token

    def feed(self, chunk: bytes, *, last: bool = False) -> None:
        """Parse the next bytes. Raises `DamagedFile`."""
        self._fed += len(chunk)
        try:
            self._parser.Parse(chunk, last)
        except expat.ExpatError as error:
            hint = " The file seems to be truncated." if last else ""
            reason = expat.errors.messages[error.code]
            raise DamagedFile(f"Line {error.lineno}: this is not well-formed XML: {reason}.{hint}") from error
        except ValueError as error:
            raise DamagedFile(f"Line {self._parser.CurrentLineNumber}: {error}") from error
        self.waiting = self._fed - max(self._parser.CurrentByteIndex, 0)
        if self.waiting > LARGEST_LINE * settings.MAX_ITEM_SIZE:
            raise DamagedFile(f"Line {self._parser.CurrentLineNumber}: a tag is too long.")

    @property
    def _depth(self) -> int:
        return len(self._path) + self._inside

    def taken(self) -> Iterator[Located]:
        """Yield the records completed since the last call."""
        records, self._records = self._records, []
        yield from records

    def _on_doctype(self, *declared: Any) -> None:
        raise ValueError("a document type definition is refused.")

    def _on_start(self, name: str, attributes: dict[str, str]) -> None:
        tag, attributes = self._names.start(name, attributes, self._depth)
        if self._inside:
            self._go_into(tag, attributes)
            return
        parent = self._path[-1][0] if self._path else ""
        if tag not in CHILDREN[parent]:
            raise ValueError(f"<{xmlform.split_tag(tag)[1]}/> is not allowed here.")
        if tag in (ITEM, JSON_TAG, SKIPPED):
            self._began, self._line = self._parser.CurrentByteIndex, self._parser.CurrentLineNumber
            if tag == ITEM:
                if self._item is not None:
                    raise ValueError("an item has no record.")
                self._builder = TreeBuilder()
            elif tag == JSON_TAG:
                self._json = []
            self._go_into(tag, attributes)
        else:
            self._path.append((tag, attributes))
            self._in_node = False

    def _go_into(self, tag: str, attributes: dict[str, str]) -> None:
        self._inside += 1
        self._limit(self._inside)
        if self._builder is not None:
            self._builder.start(tag, attributes)
        elif self._json is not None and self._inside > 1:
            raise ValueError("there is an element inside JSON.")

    def _limit(self, depth: int) -> None:
        if depth > xmlform.MAX_DEPTH:
            raise ValueError(f"this is nested deeper than {xmlform.MAX_DEPTH} elements.")
        if self._parser.CurrentByteIndex - self._began > LARGEST_LINE * settings.MAX_ITEM_SIZE:
            raise ValueError(f"this is longer than {LARGEST_LINE * settings.MAX_ITEM_SIZE} bytes.")

    def _on_text(self, text: str) -> None:
        if self._inside:
            self._limit(self._inside)
        if self._builder is not None:
            self._builder.data(text)
        elif self._json is not None:
            self._json.append(text)
        elif not self._inside and text.strip(" \t\r\n"):
            raise ValueError("text is not allowed here.")

    def _on_end(self, name: str) -> None:
        if self._names.scope == self._depth - 1:
            self._names.leave_scope()
        if not self._inside:
            self._path.pop()
            self._in_node = False
            return
        self._inside -= 1
        if self._builder is not None:
            self._builder.end(name)
        if self._inside == 0:
            self._complete()

    def _complete(self) -> None:
        if self._builder is not None:
            builder, self._builder = self._builder, None
            try:
                self._item = xmlform.to_text(builder.close())
            except TooLarge as error:
                raise ValueError(str(error)) from error
        elif self._json is not None:
            text, self._json = "".join(self._json), None
            self._take(decode(text))

    def _take(self, record: Any) -> None:
        kind = record.get("kind") if isinstance(record, dict) else None
        if (kind == "item") != (self._item is not None):
            raise ValueError("an item and its record are not adjacent.")
        if kind == "item":
            if "data" in record:
                raise ValueError("the record of an item contains its XML.")
            record["data"], self._item = self._item, None
        elif kind == "node":
            self._check_place(record)
            self._in_node = True
        if (kind in ("header", "end")) is self._in_node:
            raise ValueError("a record is in the wrong place.")
        self._records.append((self._line, record))
        if self._names.size > MAX_HELD:
            self._names.forget()

    def _check_place(self, record: Record) -> None:
        """Raise `ValueError` if a node's record and the elements around it disagree."""
        around = dict(self._path)
        account = f"{around[f'{PIE}user'].get('name')}@{around[f'{PIE}host'].get('jid')}"
        service = around.get(SERVICE, {}).get("jid", account)
        name = record.get("name")
        if (
            record.get("account") != account
            or record.get("service") != service
            or not isinstance(name, str)
            or around[f"{PUBSUB}items"].get("node") != _attribute(name)
        ):
            raise ValueError("the record of a node and the elements around it name different nodes.")
