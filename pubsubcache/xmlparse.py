"""XML as servers really relay it: a parser to which no namespace is an error.

Servers check namespaces differently or not at all, and ElementTree's own parser ends with a syntax error where a
namespace name contains `}`, a prefix is not declared, or a reserved name is declared anew. A stranger could so end the
stream of an account. Here expat parses without namespaces (XML 1.0 alone), and `Names` resolves them, leniently, to
ElementTree's tags: `{namespace}name`, split at the last `}`, as no name contains one.
"""

import hashlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Literal
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

XML = "http://www.w3.org/XML/1998/namespace"
XMLNS = "http://www.w3.org/2000/xmlns/"
#: The namespace of names whose prefix is not declared, followed by the prefix.
UNDECLARED = "urn:pubsubcache:undeclared:"
MAX_NAMESPACE = 1000  # characters; a longer namespace name is kept by its hash
ELEMENT_COST = 64  # bytes that an element takes in memory beyond its text, roughly
MAX_HELD = 65_536  # characters of resolved names kept from one stanza to the next
CHUNK = 65_536
GRANDCHILD = 3  # the depth of a grandchild of a stanza
PATIENCE = 4  # a stanza so many times longer than the limit is not waited for any more

XmlError = expat.ExpatError


class Refused(Exception):
    """XML that is well-formed and refused all the same; the text says what is wrong, as an object of a sentence."""


class Names:
    """Resolves the names of one document, from its start tags and end tags in their order."""

    def __init__(self) -> None:
        #: The characters of all distinct names held.
        self.size = 0
        self._bindings: dict[str | None, str] = {"xml": XML, "xmlns": XMLNS}
        self._tables: dict[str, dict[str, str]] = {}
        #: The tags of the names without a prefix, as far as they were seen.
        self.local: dict[str, str] = self._table("")
        self._scopes: list[tuple[int, list[tuple[str | None, str | None]]]] = []
        #: The depth of the innermost element that declares a namespace; -1 without one.
        self.scope = -1

    def start(self, name: str, attributes: dict[str, str], depth: int) -> tuple[str, dict[str, str]]:
        """Return the tag and the attributes of a start tag, the latter without declarations.

        Of two attributes that resolve to the same name the first counts. `depth` is that of the element; when it is
        that of the `scope`, the caller leaves the scope at the end tag.
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
        """Drop the names held, except for what is declared."""
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
        """Return the tag of a name with a colon. Whatever stands before the last colon is the prefix."""
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
    # Each name in a namespace repeats it, so a long one would take memory and time out of proportion.
    if len(namespace) <= MAX_NAMESPACE:
        return namespace
    digest = hashlib.sha256(namespace.encode(errors="replace")).hexdigest()
    return f"{namespace[: MAX_NAMESPACE - 72]}#sha256-{digest}"


def _is_name(local: str) -> bool:
    """Whether what stands behind a colon can begin a name."""
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
    """Return the root of a whole document.

    Args:
        text: the document. A document type definition is refused.
        limit: how many characters the distinct names may take, namespaces written out.

    Raises `XmlError` for XML that is not well-formed, `UnicodeError` for a lone surrogate, and `Refused`.
    """
    builder, names = TreeBuilder(), Names()
    depth = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        builder.start(*names.start(name, attributes, depth))
        depth += 1

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
    for begin in range(0, len(text), CHUNK):
        parser.Parse(text[begin : begin + CHUNK], False)
        if names.size > limit:
            raise Refused("names that take too much memory")
    parser.Parse("", True)
    root: Element = builder.close()
    return root


Event = tuple[Literal["open", "stanza", "skipped", "close"], Element]


class StanzaParser:
    """Parses a stream as it comes, into its stanzas: the children of its root (RFC 6120, 4.1).

    A stanza over `limit` is skipped: nothing of it is kept but its start tag. What is nested deeper than `max_depth`
    is left out of its stanza.

    Args:
        limit: bytes of a stanza, where each element counts for `ELEMENT_COST` more.
        max_depth: elements within each other, the stanza counting as the first.
        is_hollow: says of each grandchild of a stanza, given the start tag of the stanza, its own tag and attributes,
            whether the elements in it are to be left out.
    """

    def __init__(
        self,
        limit: int,
        max_depth: int,
        is_hollow: Callable[[Element, str, dict[str, str]], bool] = lambda stanza, tag, attributes: False,
    ) -> None:
        self.limit = limit
        self._is_hollow = is_hollow
        self._max_depth = max_depth
        self._deepest = max_depth  # that is built now
        #: The stanza that has begun and not ended, with nothing but its attributes.
        self.unfinished: Element | None = None
        #: Whether that one is being skipped.
        self.skipping = False
        self._names = Names()
        self._builder = TreeBuilder()
        self._depth = 0  # of the element that is open; the root's is 0
        self._fed = 0
        self._waiting = self._waiting_more = 0  # bytes of a tag without its end: those expat has, and those held back
        self._held: list[bytes] = []
        self._began = 0
        self._elements = 0
        self._names_before = 0
        self._events: list[Event] = []
        self._expat = _parser(self._start, self._end)

    def feed(self, octets: bytes) -> Iterator[Event]:
        """Go on with the next bytes and yield what they complete.

        "open" comes with the root, "stanza" with a whole stanza, "skipped" with the start tag of one as soon as it is
        over the limit, "close" when the root has ended.

        Raises `XmlError` for XML that is not well-formed, after all that was complete before it, and `Refused` for a
        stanza or tag that goes on far beyond the limit.
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
        """Hold back what cannot end a long tag that waits for its end, until there is as much again.

        Each time expat begins such a tag anew, which would take quadratic time.
        """
        more = self._waiting_more + len(octets)
        if self._waiting < CHUNK or more >= self._waiting or b">" in octets:
            return False
        self._held.append(octets)
        self._waiting_more = more
        return True

    def _over_limit(self) -> str:
        """Skip the unfinished stanza if it is over the limit; return what is so long that waiting has no use."""
        self._waiting = self._fed - max(self._expat.CurrentByteIndex, 0)  # a tag, as text does not wait
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
                self._deepest = GRANDCHILD if is_hollow else self._max_depth
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
        """Build nothing more of the stanza."""
        assert self.unfinished is not None
        self.skipping = True
        self._events.append(("skipped", self.unfinished))
        self._builder = TreeBuilder()
        while self._names.scope > 0:
            self._names.leave_scope()
        self._names.forget()
        self._ignore()

    def _ignore(self) -> None:
        """Count depth only, until the element that should have its end tag next has it."""
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
