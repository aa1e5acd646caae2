"""A pubsub service that can misbehave in any way: an external component (XEP-0114) of a private server."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from inspect import isawaitable
from types import TracebackType
from typing import Self
from xml.etree.ElementTree import Element, XMLPullParser
from xml.sax.saxutils import escape, quoteattr

from pubsubcache.types import NodeAddress
from pubsubcache.utils.xmlform import PUBSUB, PUBSUB_EVENT
from tests.acceptance.site import ATOM, new_name
from tests.servers.xmpp import COMPONENT_SECRET, XmppServer

STREAMS = "http://etherx.jabber.org/streams"
COMPONENT = "jabber:component:accept"
DISCO_ITEMS = "http://jabber.org/protocol/disco#items"
DISCO_INFO = "http://jabber.org/protocol/disco#info"
RSM = "http://jabber.org/protocol/rsm"
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
CHUNK = 65536

#: The children of `<pubsub/>` that are requests, and the corresponding methods of `PubsubService`.
METHODS = {
    f"{{{PUBSUB}}}items": "get_items",
    f"{{{PUBSUB}}}subscribe": "subscribe",
    f"{{{PUBSUB}}}unsubscribe": "unsubscribe",
    f"{{{PUBSUB}}}subscriptions": "get_subscriptions",
    f"{{{DISCO_ITEMS}}}query": "get_item_ids",
    f"{{{DISCO_INFO}}}query": "get_node_metadata",
}


class Refusal(Exception):
    """Raised to answer a request with an error: a condition of RFC 6120 (8.3.3) and a text, which is escaped."""

    def __init__(self, condition: str, text: str = "") -> None:
        super().__init__(condition, text)
        self.condition = condition
        self.text = text


@dataclass(frozen=True)
class Request:
    """A request to the service: `method` is that of `PubsubService`, or "other"; `stanza` is the whole request."""

    method: str
    node: str
    sender: str
    stanza: Element

    @property
    def page(self) -> dict[str, str]:
        """The parameters of the requested page (XEP-0059): `max`, `after`, `before` and `index`, if given."""
        found = self.stanza.find(f".//{{{RSM}}}set")
        return {} if found is None else {child.tag.rpartition("}")[2]: child.text or "" for child in found}

    @property
    def item_ids(self) -> list[str]:
        """The ids of the requested items."""
        return [item.get("id", "") for item in self.stanza.iterfind(f".//{{{PUBSUB}}}items/{{{PUBSUB}}}item")]

    @property
    def max_items(self) -> int | None:
        """The requested number of newest items."""
        found = self.stanza.find(f".//{{{PUBSUB}}}items[@max_items]")
        return None if found is None else int(found.get("max_items", ""))


#: Returns the content of the answer (`<iq type="result"/>`), or None to send no answer; may raise `Refusal`.
Answer = Callable[[Request], "str | Awaitable[str | None] | None"]


def entry(title: str) -> str:
    """Return an Atom entry as XML; `title` is escaped."""
    return (
        f'<entry xmlns="{ATOM}"><title>{escape(title)}</title><id>tag:x</id>'
        "<updated>2026-03-01T12:00:00Z</updated></entry>"
    )


def deep(depth: int) -> str:
    """Return a payload of elements nested to this depth."""
    return '<a xmlns="urn:example:deep">' + "<a>" * (depth - 1) + "</a>" * depth


class HostileService:
    """A pubsub service at one of the server's component domains; an asynchronous context manager.

    These attributes set its behaviour, and can be changed at any time:

    - `nodes`: the XML of each node's payloads by item id, oldest first. Other nodes are not found.
    - `silent`: True to send no answers, or the set of methods without answers (see `METHODS`).
    - `delay`: seconds before each answer.
    - `answers`: functions that answer instead, by method; see `Answer`.
    - `payloads`: False for notifications without payload.
    - `endless_ids`, `endless_items`: pages without end. Each page has new items ("news"), the same items with another
      cursor ("circle") or no items ("empty").

    `requests` lists the requests that it got. `send` sends any XML.
    """

    def __init__(self, server: XmppServer, name: str = "evil") -> None:
        self.server = server
        self.jid = f"{name}.{server.domain}"
        self.nodes: dict[str, dict[str, str]] = {}
        self.subscribers: dict[str, set[str]] = {}
        self.silent: bool | Container[str] = False
        self.delay = 0.0
        self.answers: dict[str, Answer] = {}
        self.payloads = True
        self.endless_ids = ""
        self.endless_items = ""
        self.requests: list[Request] = []
        self._pings: dict[str, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        reader, self._writer = await asyncio.open_connection(self.server.host, self.server.component_port)
        parser = XMLPullParser(["start", "end"])
        self.send(f"<stream:stream xmlns='{COMPONENT}' xmlns:stream='{STREAMS}' to='{self.jid}'>")
        stream_id = ""
        while not stream_id:
            parser.feed(await self._read(reader))
            stream_id = next((element.get("id", "") for _, element in parser.read_events()), "")
        proof = hashlib.sha1((stream_id + COMPONENT_SECRET).encode()).hexdigest()
        self.send(f"<handshake>{proof}</handshake>")
        accepted = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read_on(reader, parser, accepted))
        async with asyncio.timeout(60):
            await asyncio.wait({accepted, self._reading}, return_when=asyncio.FIRST_COMPLETED)
        if self._reading.done():
            self._reading.result()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [*self._tasks, *([self._reading] if self._reading else [])]
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        if self._writer is not None:
            self._writer.transport.abort()
        for outcome in outcomes:
            if isinstance(outcome, Exception) and not isinstance(outcome, ConnectionError):
                raise outcome

    # Content

    def address(self, node: str) -> NodeAddress:
        """Return the address of a node."""
        return NodeAddress(self.jid, node)

    def add_node(self, name: str = "", items: int | Mapping[str, str] = 0) -> NodeAddress:
        """Add a node, with a new name if none is given; `items` are payloads by id, or a number of entries."""
        name = name or new_name()
        if isinstance(items, int):
            items = {f"item-{number}": entry(f"Title {number}") for number in range(items)}
        self.nodes[name] = dict(items)
        return self.address(name)

    def asked(self, method: str = "get_items", node: str | None = None) -> int:
        """Return the number of requests, by default of all methods and nodes."""
        return sum(request.method == method and node in (None, request.node) for request in self.requests)

    def session_of(self, user_jid: str) -> str:
        """Return the full JID of an account's last request."""
        return next(request.sender for request in reversed(self.requests) if _bare(request.sender) == user_jid)

    def counts(self) -> Counter[str]:
        """Return the number of requests by method."""
        return Counter(request.method for request in self.requests)

    # Messages

    def send(self, xml: str) -> None:
        """Send any XML, even incomplete stanzas, without waiting (see `drained`)."""
        assert self._writer is not None
        self._writer.write(xml.encode())

    async def drained(self) -> None:
        """Wait until the server has read most of what was sent."""
        assert self._writer is not None
        await self._writer.drain()

    def publish(self, node: str, item_id: str, payload: str, *, to: Iterable[str] | None = None) -> None:
        """Add or replace an item, and notify the subscribers (or the JIDs `to`) of it."""
        self.nodes.setdefault(node, {})[item_id] = payload
        self.notify(node, {item_id: payload if self.payloads else ""}, to=to)

    def notify(
        self, node: str, items: Mapping[str, str], *, to: Iterable[str] | None = None, sender: str = "", inner: str = ""
    ) -> None:
        """Notify of `items` (payloads by id, "" for none) in one message, whether these items exist or not.

        `inner` is added to the event's `<items/>`; `sender` may be any JID of the component's domain.
        """
        written = "".join(f"<item id={quoteattr(name)}>{payload}</item>" for name, payload in items.items())
        event = f"<event xmlns='{PUBSUB_EVENT}'><items node={quoteattr(node)}>{written}{inner}</items></event>"
        self.notify_raw(event, node=node, to=to, sender=sender)

    def notify_raw(self, content: str, *, node: str = "", to: Iterable[str] | None = None, sender: str = "") -> None:
        """Send a headline with any content to the subscribers of `node` (or the JIDs `to`)."""
        for jid in sorted(self.subscribers.get(node, set()) if to is None else to):
            self.send(f"<message type='headline' from='{sender or self.jid}' to={quoteattr(jid)}>{content}</message>")

    async def flood(
        self,
        nodes: Iterable[str],
        count: int,
        *,
        to: Iterable[str] | None = None,
        payload: str | None = None,
        ids: int = 50,
    ) -> None:
        """Send `count` notifications for each of `nodes`, in turn, as fast as the server reads them.

        They use `ids` different item ids. Each has `payload`, in which `{number}` is replaced by the number of the
        notification; by default an entry, and "" for no payload.
        """
        template = entry("Flood {number}") if payload is None else payload
        nodes, recipients = list(nodes), None if to is None else list(to)
        for number in range(count):
            for node in nodes:
                content = template.replace("{number}", str(number))
                self.notify(node, {f"flood-{number % ids}": content}, to=recipients)
            await self.drained()

    async def ping(self, jid: str) -> None:
        """Wait until the session `jid` (a full JID) has received everything sent to it before, or has ended."""
        name = f"ping-{len(self._pings)}"
        self._pings[name] = asyncio.get_running_loop().create_future()
        self.send(f"<iq type='get' from='{self.jid}' to='{jid}' id='{name}'><ping xmlns='urn:xmpp:ping'/></iq>")
        await self.drained()
        await self._pings[name]

    # Answers

    def items_answer(
        self,
        node: str,
        items: Mapping[str, str],
        rsm: tuple[str | None, str | None, int | None] | None = None,
    ) -> str:
        """Return an answer with `items` (payloads by id) and, if `rsm` is given, a `<set/>` of (first, last, count)."""
        inner = "".join(f"<item id={quoteattr(name)}>{payload}</item>" for name, payload in items.items())
        return f"<pubsub xmlns='{PUBSUB}'><items node={quoteattr(node)}>{inner}</items>{_set(rsm)}</pubsub>"

    def ids_answer(
        self, node: str, ids: Iterable[str], rsm: tuple[str | None, str | None, int | None] | None = None
    ) -> str:
        """Return an answer with the ids of items (XEP-0060, 5.5)."""
        inner = "".join(f"<item jid='{self.jid}' name={quoteattr(name)}/>" for name in ids)
        return f"<query xmlns='{DISCO_ITEMS}' node={quoteattr(node)}>{inner}{_set(rsm)}</query>"

    def honest_answer(self, request: Request) -> str:
        """Return the answer of a correct service without paging, unless pages are endless. Raises `Refusal`."""
        if request.method == "other":
            raise Refusal("feature-not-implemented")
        if request.method == "get_subscriptions":
            return f"<pubsub xmlns='{PUBSUB}'><subscriptions/></pubsub>"
        if request.node not in self.nodes:
            raise Refusal("item-not-found")
        items = self.nodes[request.node]
        match request.method:
            case "subscribe":
                return self._subscribe(request)
            case "unsubscribe":
                self.subscribers.get(request.node, set()).discard(_bare(request.sender))
                return ""
            case "get_node_metadata":
                return f"<query xmlns='{DISCO_INFO}'><identity category='pubsub' type='leaf'/></query>"
            case "get_item_ids" if self.endless_ids:
                page, rsm = self._endless(request, self.endless_ids)
                return self.ids_answer(request.node, page, rsm)
            case "get_item_ids":
                return self.ids_answer(request.node, items)
            case _ if self.endless_items and not request.item_ids:
                page, rsm = self._endless(request, self.endless_items)
                return self.items_answer(request.node, page, rsm)
        if request.item_ids:
            items = {name: items[name] for name in request.item_ids if name in items}
        elif request.max_items is not None:
            items = dict(list(items.items())[len(items) - min(len(items), request.max_items) :])
        return self.items_answer(request.node, items)

    def _subscribe(self, request: Request) -> str:
        jid = _bare(request.sender)
        self.subscribers.setdefault(request.node, set()).add(jid)
        return (
            f"<pubsub xmlns='{PUBSUB}'><subscription node={quoteattr(request.node)} jid={quoteattr(jid)}"
            " subscription='subscribed'/></pubsub>"
        )

    def _endless(self, request: Request, kind: str) -> tuple[dict[str, str], tuple[str, str, None]]:
        """Return a page of an endless list, and its (first, last, count)."""
        size = min(int(request.page.get("max") or 100), 1000)
        start = int(request.page.get("after") or 0)
        names = [] if kind == "empty" else range(size) if kind == "circle" else range(start, start + size)
        return {f"endless-{n}": entry(f"Title {n}") for n in names}, (str(start), str(start + size), None)

    # Stream

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        if not (data := await reader.read(CHUNK)):
            raise ConnectionError(f"The server ended the stream of {self.jid}.")
        return data

    async def _read_on(
        self, reader: asyncio.StreamReader, parser: XMLPullParser, accepted: "asyncio.Future[None]"
    ) -> None:
        depth = 1
        while True:
            parser.feed(await self._read(reader))
            for event, element in parser.read_events():
                depth += 1 if event == "start" else -1
                if event == "end" and depth == 1:
                    self._got(element, accepted)

    def _got(self, stanza: Element, accepted: "asyncio.Future[None]") -> None:
        kind = stanza.tag.rpartition("}")[2]
        if kind == "handshake":
            accepted.set_result(None)
        elif kind == "error":
            raise ConnectionError(f"The server says: {[child.tag for child in stanza]}")
        elif kind == "iq" and (pinged := self._pings.get(stanza.get("id", ""))) is not None:
            if not pinged.done():
                pinged.set_result(None)
        elif kind == "iq" and stanza.get("type") in ("get", "set"):
            request = _request(stanza)
            self.requests.append(request)
            task = asyncio.create_task(self._answer(request))
            self._tasks.add(task)
            task.add_done_callback(self._answered)

    def _answered(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or task.exception() is None:
            self._tasks.discard(task)  # failed tasks are reported at the end

    async def _answer(self, request: Request) -> None:
        if self.silent is True or (self.silent and request.method in self.silent):
            return
        await asyncio.sleep(self.delay)
        try:
            answer = self.answers.get(request.method, self.honest_answer)(request)
            content = await answer if isawaitable(answer) else answer
        except Refusal as refusal:
            self._reply(request, "error", _error(refusal))
        else:
            if content is not None:
                self._reply(request, "result", content)
        await self.drained()

    def _reply(self, request: Request, kind: str, content: str) -> None:
        sender, stanza_id = quoteattr(request.stanza.get("to", self.jid)), quoteattr(request.stanza.get("id", ""))
        self.send(f"<iq type='{kind}' from={sender} to={quoteattr(request.sender)} id={stanza_id}>{content}</iq>")


def _request(stanza: Element) -> Request:
    sender = stanza.get("from", "")
    for child in (stanza[0], *stanza[0]) if len(stanza) else ():
        if (method := METHODS.get(child.tag)) is not None:
            return Request(method, child.get("node", ""), sender, stanza)
    return Request("other", "", sender, stanza)


def _error(refusal: Refusal) -> str:
    text = f"<text xmlns='{STANZAS}'>{escape(refusal.text)}</text>" if refusal.text else ""
    return f"<error type='cancel'><{refusal.condition} xmlns='{STANZAS}'/>{text}</error>"


def _set(rsm: tuple[str | None, str | None, int | None] | None) -> str:
    if rsm is None:
        return ""
    parts = zip(("first", "last", "count"), rsm, strict=True)
    inner = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in parts if value is not None)
    return f"<set xmlns='{RSM}'>{inner}</set>"


def _bare(jid: str) -> str:
    return jid.partition("/")[0]
