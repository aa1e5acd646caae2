"""XML parser that accepts invalid namespaces, for documents and for XMPP streams.

Servers check namespaces differently or not at all. The parser of ElementTree raises a syntax error if the name of a
namespace contains `}`, a prefix is not declared, or a reserved prefix is redeclared, which would let a stranger end the
stream of an account. Here, expat parses plain XML 1.0 without namespaces, and `Names` resolves names leniently to tags
of ElementTree: `{namespace}name`, split at the last `}`, which a local name cannot contain.
"""

import hashlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Literal
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

XML = "http://www.w3.org/XML/1998/namespace"
XMLNS = "http://www.w3.org/2000/xmlns/"
#: Namespace for names with an undeclared prefix; followed by the prefix.
UNDECLARED = "urn:pubsubcache:undeclared:"
MAX_NAMESPACE = 1000  # characters; a longer name of a namespace is replaced by its hash
ELEMENT_COST = 64  # approximate memory of an element in bytes, in addition to its text
MAX_HELD = 65_536  # characters of resolved names that are cached between stanzas
CHUNK = 65_536
GRANDCHILD = 3  # the depth of a grandchild of a stanza
PATIENCE = 4  # a stanza longer than this many times the limit is an error

XmlError = expat.ExpatError


class Refused(Exception):
    """Well-formed XML that is rejected. The text is a noun phrase for the reason, such as "a tag longer than ..."."""


class Names:
    """Resolves the names of one document. It must see all start tags and end tags in order."""

    def __init__(self) -> None:
        #: Total length of all cached names in characters.
        self.size = 0
        self._bindings: dict[str | None, str] = {"xml": XML, "xmlns": XMLNS}
        self._tables: dict[str, dict[str, str]] = {}
        #: Cached tags of names without a prefix, in the current default namespace.
        self.local: dict[str, str] = self._table("")
        self._scopes: list[tuple[int, list[tuple[str | None, str | None]]]] = []
        #: Depth of the innermost open element that declares a namespace, or -1.
        self.scope = -1

    def start(self, name: str, attributes: dict[str, str], depth: int) -> tuple[str, dict[str, str]]:
        """Resolve the names of a start tag.

        Of several attributes that resolve to the same name, the first is used. At an end tag with the depth of `scope`,
        the caller must call `leave_scope`.

        Args:
            name: Name of the element.
            attributes: Attributes, including declarations of namespaces.
            depth: Depth of the element.

        Returns:
            The tag, and the attributes without declarations.
        """
        for key in attributes:
            if ":" in key or key == "xmlns":
                attributes = self._resolve_attributes(attributes, depth)
                break
        tag = self.local.get(name)
        if tag is None:
            tag = self._prefixed(name) if ":" in name else self._add(self.local, self._default, name)
        return tag, attributes

    def leave_scope(self) -> None:
        """Undo the declarations of the innermost scope."""
        for prefix, namespace in reversed(self._scopes.pop()[1]):
            if namespace is None:
                del self._bindings[prefix]
            else:
                self._bindings[prefix] = namespace
        self.scope = self._scopes[-1][0] if self._scopes else -1
        self.local = self._table(self._default)

    def forget(self) -> None:
        """Clear the cache of names, but keep the declarations."""
        self.size = 0
        self._tables = {}
        self.local = self._table(self._default)

    @property
    def _default(self) -> str:
        return self._bindings.get(None, "")

    def _table(self, namespace: str) -> dict[str, str]:
        table = self._tables.get(namespace)
        if table is None:
            self.size += ELEMENT_COST + len(namespace)
            table = self._tables[namespace] = {}
        return table

    def _add(self, table: dict[str, str], namespace: str, local: str) -> str:
        tag = table[local] = f"{{{namespace}}}{local}" if namespace else local
        self.size += len(tag)
        return tag

    def _prefixed(self, name: str) -> str:
        """Return the tag for a name with a colon. The prefix is everything before the last colon."""
        prefix, _, local = name.rpartition(":")
        if not local:
            prefix, local = name, "_"
        elif not _is_name(local):
            local = f"_{local}"
        namespace = self._bindings.get(prefix) or _bounded(UNDECLARED + prefix)
        table = self._table(namespace)
        return table.get(local) or self._add(table, namespace, local)

    def _resolve_attributes(self, attributes: dict[str, str], depth: int) -> dict[str, str]:
        declared = {key: value for key, value in attributes.items() if key == "xmlns" or key.startswith("xmlns:")}
        if declared:
            self._enter_scope(declared, depth)
        resolved: dict[str, str] = {}
        for key, value in attributes.items():
            if key not in declared:
                resolved.setdefault(self._prefixed(key) if ":" in key else key, value)
        return resolved

    def _enter_scope(self, declared: dict[str, str], depth: int) -> None:
        before: list[tuple[str | None, str | None]] = []
        for key, namespace in declared.items():
            prefix = key[6:] if ":" in key else None
            if prefix not in ("xml", "xmlns"):
                before.append((prefix, self._bindings.get(prefix)))
                self._bindings[prefix] = _bounded(namespace)
        self._scopes.append((depth, before))
        self.scope = depth
        self.local = self._table(self._default)


def _bounded(namespace: str) -> str:
    # Each name repeats its namespace, so a long namespace would multiply memory and time.
    if len(namespace) <= MAX_NAMESPACE:
        return namespace
    digest = hashlib.sha256(namespace.encode(errors="replace")).hexdigest()
    return f"{namespace[: MAX_NAMESPACE - 72]}#sha256-{digest}"


def _is_name(local: str) -> bool:
    """Return whether the part after a colon starts with a valid character for a name."""
    first = local[0]
    return first == "_" or (first.isalpha() if first.isascii() else _begins_name(first))


@lru_cache(maxsize=1000)
def _begins_name(character: str) -> bool:
    try:
        expat.ParserCreate().Parse(f"<{character}/>", True)
    except (XmlError, UnicodeError):
        return False
    return True


def _parser(start: Callable[..., None], end: Callable[..., None]) -> expat.XMLParserType:
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    return parser


def parse(text: str, limit: int) -> Element:
    """Parse a document and return its root.

    Args:
        text: The document.
        limit: Maximum total length of all distinct names in characters, including their namespaces.

    Raises:
        XmlError: The document is not well-formed.
        UnicodeError: The text contains a lone surrogate.
        Refused: The document has a document type definition, or its names exceed the limit.
    """
    builder, names = TreeBuilder(), Names()
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        builder.start(*names.start(name, attributes, depth))
        depth += 1
        if names.size > limit:
            raise Refused("names that take too much memory")

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(name)
        if names.scope == depth:
            names.leave_scope()

    def refuse(*_: object) -> None:
        raise Refused("a document type definition")

    parser = _parser(start, end)
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    parser.Parse(text, True)  # at once: expat parses an incomplete tag from its start for each piece
    root: Element = builder.close()
    return root


Event = tuple[Literal["open", "stanza", "skipped", "close"], Element]


class StanzaParser:
    """Incremental parser that splits a stream into stanzas, the children of its root (RFC 6120, 4.1).

    Of a stanza over `limit`, only the start tag is kept. Elements nested deeper than `max_depth` are dropped.

    Args:
        limit: Maximum size of a stanza in bytes. Each element adds `ELEMENT_COST`.
        max_depth: Maximum depth of a stanza in elements, including the stanza itself.
        is_hollow: Called for each grandchild of a stanza, with the start tag of the stanza and its own tag and
            attributes. Returns whether the elements in it are skipped.
    """

    def __init__(
        self,
        limit: int,
        max_depth: int,
        is_hollow: Callable[[Element, str, dict[str, str]], bool] = lambda stanza, tag, attributes: False,
    ) -> None:
        self.limit = limit
        self._is_hollow = is_hollow
        self.max_depth = max_depth
        self._deepest = max_depth  # at present
        #: The stanza that is being parsed, without its content.
        self.unfinished: Element | None = None
        #: Whether this stanza is being skipped.
        self.skipping = False
        self._names = Names()
        self._builder = TreeBuilder()
        self._depth = 0  # of the next element; 0 for the root
        self._fed = 0
        self._waiting = self._waiting_more = 0  # bytes of an incomplete tag: passed to expat, and held back
        self._held: list[bytes] = []
        self._began = 0
        self._elements = 0
        self._names_before = 0
        self._events: list[Event] = []
        self._expat = _parser(self._start, self._end)

    def feed(self, octets: bytes) -> Iterator[Event]:
        """Parse the next bytes and yield the resulting events.

        Args:
            octets: The next bytes of the stream.

        Yields:
            "open" with the root, "stanza" with a complete stanza, "skipped" with the start tag of a stanza as soon as
            it exceeds the limit, and "close" at the end of the root.

        Raises:
            XmlError: The stream is not well-formed. Events before the error are yielded first.
            Refused: A stanza or a tag goes on far beyond the limit.
        """
        if self._is_held(octets):
            return
        octets, self._held = b"".join([*self._held, octets]), []
        error: XmlError | None = None
        self._fed += len(octets)
        try:
            self._expat.Parse(octets, False)
        except XmlError as caught:
            error = caught
        too_much = None if error else self._over_limit()
        events, self._events = self._events, []
        yield from events
        if error is not None:
            raise error
        if too_much:
            raise Refused(too_much)

    def _is_held(self, octets: bytes) -> bool:
        """Hold back bytes that cannot complete a long tag until there are as many as expat already has.

        Expat parses an incomplete tag from its start each time, which would take quadratic time.
        """
        more = self._waiting_more + len(octets)
        if self._waiting < CHUNK or more >= self._waiting or b">" in octets:
            return False
        self._held.append(octets)
        self._waiting_more = more
        return True

    def _over_limit(self) -> str:
        """Skip the current stanza if it is over the limit; return the reason if the stream must be refused."""
        self._waiting = self._fed - max(self._expat.CurrentByteIndex, 0)  # bytes of a tag; text is parsed at once
        self._waiting_more = 0
        if self._waiting > self.limit:
            return f"a tag longer than {self.limit} bytes"
        if self.unfinished is None:
            return ""
        if not self.skipping and self._cost(self._fed) > self.limit:
            self._skip()
        if self._fed - self._began > PATIENCE * self.limit:
            return f"a stanza longer than {PATIENCE * self.limit} bytes"
        return ""

    def _cost(self, position: int) -> int:
        return position - self._began + ELEMENT_COST * self._elements + self._names.size - self._names_before

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        depth = self._depth
        self._depth = depth + 1
        if attributes or (tag := self._names.local.get(name)) is None:
            tag, attributes = self._names.start(name, attributes, depth)
        if depth > self._deepest:
            self._ignore()
        elif depth > 1:
            if depth == GRANDCHILD:
                assert self.unfinished is not None
                is_hollow = self._is_hollow(self.unfinished, tag, attributes)
                self._deepest = GRANDCHILD if is_hollow else self.max_depth
            self._elements += 1
            self._builder.start(tag, attributes)
        elif depth == 1:
            self._begin_stanza(tag, attributes)
        else:
            self._events.append(("open", Element(tag, attributes)))

    def _end(self, name: str) -> None:
        depth = self._depth = self._depth - 1
        if self._names.scope == depth:
            self._names.leave_scope()
        if depth > 1:
            self._builder.end(name)
        elif depth == 1:
            self._builder.end(name)
            self._end_stanza()
        else:
            self._events.append(("close", Element(name)))

    def _begin_stanza(self, tag: str, attributes: dict[str, str]) -> None:
        self.unfinished = Element(tag, attributes)
        self._began = self._expat.CurrentByteIndex
        self._elements = 1
        self._names_before = self._names.size
        self._builder = TreeBuilder()
        self._builder.start(tag, attributes)
        self._expat.CharacterDataHandler = self._builder.data

    def _end_stanza(self) -> None:
        root, self.unfinished = self.unfinished, None
        assert root is not None
        if self.skipping:
            self.skipping = False
        elif self._cost(self._expat.CurrentByteIndex) > self.limit:
            self._events.append(("skipped", root))
        else:
            self._events.append(("stanza", self._builder.close()))
        self._expat.CharacterDataHandler = None
        if self._names.size > MAX_HELD:
            self._names.forget()

    def _skip(self) -> None:
        """Discard the current stanza and ignore the rest of it."""
        assert self.unfinished is not None
        self.skipping = True
        self._events.append(("skipped", self.unfinished))
        self._builder = TreeBuilder()
        while self._names.scope > 0:
            self._names.leave_scope()
        self._names.forget()
        self._ignore()

    def _ignore(self) -> None:
        """Only count depth until the end tag of the ignored element."""
        self._expat.StartElementHandler = self._start_ignored
        self._expat.EndElementHandler = self._end_ignored
        self._expat.CharacterDataHandler = None

    def _start_ignored(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1

    def _end_ignored(self, name: str) -> None:
        self._depth -= 1
        if self._depth > (1 if self.skipping else self._deepest + 1):
            return
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        if self.skipping:
            self._end_stanza()
        else:
            self._expat.CharacterDataHandler = self._builder.data
            if self._names.scope == self._depth:
                self._names.leave_scope()
