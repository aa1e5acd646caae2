"""Makes payloads from the shapes of a schema, in which every text and attribute has a value of its own.

Completeness is then easy to check: each value is somewhere in the JSON, as it was given or in its normal form, or its
shape says that it is left out.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from html import unescape
from itertools import cycle
from random import Random
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from pubsubcache.parsers import dates, uris
from pubsubcache.parsers.elements import name_of
from pubsubcache.parsers.schema import Schema, _declared
from pubsubcache.parsers.shapes import ANY, OTHER, WORDS, Kind, Shape, _matches
from pubsubcache.utils.xmlform import PUBSUB, XHTML, XML, to_text

START = datetime(2026, 1, 31, tzinfo=UTC)
ATTEMPTS = 20
UNKNOWN = "urn:example:unknown"
#: Relations of Atom links that have keys of their own.
RELATIONS = {"alternate", "enclosure", "related", "replies", "self", "start", "via"}
TRUE = {"true", "1", "yes"}
#: Values of kinds that allow only some.
ENUMERATED = [
    *("true", "false", "1", "0", "yes", "no", "text", "html", "xhtml", "application/xml"),
    *("confirmed", "tentative", "cancelled", "form", "submit", "result", "full", "partial", "none"),
    *("text-private", "text-multi", "hidden", "boolean", "text/html", "application/xhtml+xml"),
    *("going", "maybe", "image/png", "individual", "subscribed", "work", "home", "\N{THUMBS UP SIGN}", "\N{SPARKLES}"),
]


@dataclass(frozen=True)
class Value:
    """A value of a payload.

    Args:
        text: The text of the value, as the payload has it.
        path: Where it is, for messages.
        forms: The ways in which the JSON may contain it, in strings and names of keys.
        number: The number that it is, or None.
        is_unique: Whether no other value is equal.
        left_out: Why the shape leaves it out; "" if it does not.
    """

    text: str
    path: str
    forms: tuple[str, ...]
    number: float | None = None
    is_unique: bool = True
    left_out: str = ""

    def is_in(self, content: "Content") -> bool:
        """Whether JSON contains the value."""
        return any(form.lower() in content.text for form in self.forms) or self.number in content.numbers


class Content:
    """All strings of JSON in lower case, names of keys among them, and all of its numbers."""

    def __init__(self, parsed: Any) -> None:
        pieces: list[str] = []
        self.numbers: set[float | None] = set()
        for leaf in _leaves(parsed):
            if isinstance(leaf, str):
                pieces.append(leaf)
            elif isinstance(leaf, int | float) and not isinstance(leaf, bool):
                self.numbers.add(float(leaf))
        self.text = " ".join("\n".join(pieces).lower().split())


def _leaves(data: Any) -> Iterator[Any]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield key
            yield from _leaves(value)
    elif isinstance(data, list):
        for value in data:
            yield from _leaves(value)
    else:
        yield data


class Values:
    """Makes values of each kind, none of which equals another."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._number = random.randrange(100_000, 500_000)

    def token(self) -> str:
        """Return a word that no other value has."""
        self._number += 1
        return f"w{self._number}w"

    def of(self, kind: Kind, path: str, left_out: str = "", *, is_odd: bool = False) -> Value:
        """Return a value that a kind reads, or now and then one that it does not read.

        Args:
            kind: The kind.
            path: Where the value is.
            left_out: Why an element around it is left out, or "".
            is_odd: Whether values that mean something to some parsers are frequent.
        """
        left_out = left_out or kind.left_out
        allowed = [text for text in ENUMERATED if kind.read(text) is not None]
        if is_odd and allowed and self._random.random() < 0.5:
            return Value(self._random.choice(allowed), path, (), is_unique=False, left_out=left_out)
        if self._random.random() < 0.1:
            token = self.token()
            return _value(kind, token, path, left_out)
        makers = [self._words, self._date, self._link, self._uri, self._jid, self._base64]
        makers += [self._jid_uri, self._integer, self._decimal, self._fingerprint]
        if self._random.random() < 0.1:
            self._random.shuffle(makers)
        elif kind.name in PREFERRED:
            makers.insert(0, getattr(self, PREFERRED[kind.name]))
        for make in makers:
            text = make()
            if kind.read(text) is not None:
                return _value(kind, text, path, left_out)
        assert allowed, f"teach the corpus which values the kind {kind.name!r} reads"
        return Value(self._random.choice(allowed), path, (), is_unique=False, left_out=left_out)

    def _words(self) -> str:
        return self.token()

    def _date(self) -> str:
        self._number += 1
        form = self._random.choice(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M", "%Y%m%dT%H%M%SZ"])
        return (START + timedelta(minutes=self._number)).strftime(form)

    def _link(self) -> str:
        return f"https://example.org/{self.token()}"

    def _uri(self) -> str:
        return f"xmpp:{self.token()}@example.org?;node={self.token()}"

    def _jid(self) -> str:
        return f"{self.token()}@Example.org{self._random.choice(['', '', '/Home'])}"

    def _jid_uri(self) -> str:
        return f"xmpp:{self.token()}@example.org"

    def _base64(self) -> str:
        return b64encode(f"some bytes {self.token()}".encode()).decode()

    def _integer(self) -> str:
        self._number += 1
        return str(self._number)

    def _decimal(self) -> str:
        self._number += 1
        return f"{self._number % 83}.{self._number}"

    def _fingerprint(self) -> str:
        self._number += 1
        return f"{self._number:040X}"


#: The usual value of a kind, by its name. Any other kind gets whatever value it reads.
PREFERRED = {
    "words": "_words",
    "date": "_date",
    "integer": "_integer",
    "number": "_decimal",
    "latitude": "_decimal",
    "longitude": "_decimal",
    "link": "_link",
    "jid": "_jid",
    "full jid": "_jid",
    "base64": "_base64",
}


def _value(kind: Kind, text: str, path: str, left_out: str) -> Value:
    """Return a value with its normal form: a date, a number, a JID or a link as the kind reads it."""
    normal = kind.read(text)
    if isinstance(normal, datetime):
        return Value(text, path, (text, dates.iso(normal)), left_out=left_out)
    number = float(normal) if isinstance(normal, int | float) and not isinstance(normal, bool) else None
    return Value(text, path, (text, normal) if isinstance(normal, str) else (text,), number, left_out=left_out)


@dataclass(frozen=True)
class Choice:
    """A text or an attribute that is one of several words, or an element that is there or is not.

    Args:
        path: Where it is, for messages.
        element: The element.
        attribute: The attribute; None for the text.
        kind: What it holds; None for an element without content.
    """

    path: str
    element: Element
    attribute: str | None = None
    kind: Kind | None = None

    def change(self) -> bool:
        """Change the item to one that means something else; return whether that is possible."""
        if self.kind is None:
            self.element.tag = f"{{{UNKNOWN}}}gone"
            return True
        before = (self.element.text if self.attribute is None else self.element.get(self.attribute)) or ""
        opposite = ["false"] if before.strip().lower() in TRUE else ["true"]
        others = opposite if self.kind.name == "flag" else [text for text in ENUMERATED if text != before]
        after = next((text for text in others if self.kind.read(text) is not None), None)
        if after is None:
            return False
        if self.attribute is None:
            self.element.text = after
        else:
            self.element.set(self.attribute, after)
        return True


@dataclass
class Payload:
    """An item, and what is in it."""

    item: Element
    values: list[Value]
    choices: list[Choice]


class Maker:
    """Makes items from the shapes of a schema.

    Args:
        random: Chooses what to make.
        schema: The schema.
    """

    def __init__(self, random: Random, schema: Schema) -> None:
        self.random = random
        self.schema = schema
        self.values: list[Value] = []
        self.choices: list[Choice] = []
        self._source = Values(random)
        self._room = 0  # for more elements

    def item(self) -> Payload:
        """Make an item with one payload, and seldom with more."""
        self.values, self.choices = [], []
        self._room = self.random.choice([5, 20, 60])
        item = Element(f"{{{PUBSUB}}}item", {"id": self._source.token()})
        for number in range(1 if self.random.random() < 0.9 else 2):
            self._add(item, self.random.choice(self.schema.payloads), "", "")
            if number:
                self._unknown(item, Shape("item"), "", "")
        return Payload(item, self.values, self.choices)

    def large_item(self, size: int) -> Element:
        """Make an item of about `size` characters, whose payload repeats every element that the schema knows."""
        shape = self.random.choice(self.schema.payloads)
        item = Element(f"{{{PUBSUB}}}item", {"id": self._source.token()})
        self._room = 1
        self._add(item, shape, "", "")
        children = cycle(shape.children)
        written = 0
        while shape.children and written < size:
            self._room = 20
            before = len(item[0])
            self._add(item[0], next(children), "", "", shape.children)
            written += sum(len(to_text(child)) for child in item[0][before:]) or 10
        return item

    def _add(self, parent: Element, shape: Shape, path: str, left_out: str, others: Sequence[Shape] = ()) -> None:
        """Add an element of a shape, unless conditions of shapes would give it another one."""
        values, choices = len(self.values), len(self.choices)
        for attempt in range(ATTEMPTS):
            element = self._element(parent, shape, path, left_out, is_odd=attempt % 2 == 1)
            if _fits(element, shape, others):
                parent.append(element)
                self._room -= 1
                return
            del self.values[values:], self.choices[choices:]

    def _element(self, parent: Element, shape: Shape, path: str, left_out: str, *, is_odd: bool) -> Element:
        namespace = {"": _namespace(parent), ANY: UNKNOWN, OTHER: UNKNOWN}.get(shape.namespace, shape.namespace)
        if shape.former and self.random.random() < 0.2:
            namespace = self.random.choice(shape.former)
        path, left_out = f"{path}/{shape.name}", left_out or shape.left_out
        name = shape.name if shape.name != ANY else "div" if shape.whole else self._source.token()
        element = Element(f"{{{namespace}}}{name}")
        if left_out and shape.text is None:
            element.text = self._noted(self._source.token(), path, left_out)
        elif shape.text is not None and self.random.random() < 0.85:
            self._set(element, None, shape.text, path, left_out, is_odd=is_odd)
        for attribute, kind in shape.attributes.items():
            if attribute in shape.needs or self.random.random() < 0.7:
                name = attribute.replace("xml:", f"{{{XML}}}")
                self._set(element, name, kind, f"{path}@{attribute}", left_out, is_odd=is_odd)
        if not (shape.text or shape.attributes or shape.children or shape.whole or left_out or shape.name == ANY):
            self.choices.append(Choice(path, element))
        if shape.whole:
            self._markup(element, path, left_out)
            return element
        wanted = [child for child in shape.children for _ in range(self.random.choice([0, 1, 1, 2, 3]))]
        self.random.shuffle(wanted)
        for child in wanted:
            if self._room > 0:
                self._add(element, child, path, left_out, shape.children)
        if self.random.random() < 0.15:
            self._unknown(element, shape, path, left_out)
        if shape.name == ANY and (element.attrib or "".join(element.itertext())):
            self._noted(name, f"{path} (name)", left_out)
        return element

    def _unknown(self, element: Element, shape: Shape, path: str, left_out: str) -> None:
        """Add an attribute, an element or a text that no shape mentions."""
        is_markup = any(child.whole for child in shape.children)
        match self.random.randrange(4):
            case 0:
                name = self.random.choice(["odd", f"{{{UNKNOWN}}}odd", f"{{{XML}}}lang", f"{{{XML}}}base"])
                if name.replace(f"{{{XML}}}", "xml:") not in shape.attributes:
                    element.set(name, self._noted(self._source.token(), f"{path}@{name}", left_out))
            case 1 if len(element):
                child = self.random.choice(list(element))
                child.tail = f"{child.tail or ''} {self._noted(self._source.token(), f'{path} (tail)', left_out)}"
            case _:
                namespace = self.random.choice([UNKNOWN, _namespace(element)])
                name, odd = self._source.token(), self._source.token()
                child = SubElement(element, f"{{{namespace}}}{name}", {"odd": odd})
                if not is_markup:  # which is sanitised
                    self._noted(name, f"{path}/? (name)", left_out)
                    self._noted(odd, f"{path}/?@odd", left_out)
                child.text = self._noted(self._source.token(), f"{path}/?", left_out)
                inner = SubElement(child, f"{{{namespace}}}inner")
                inner.text = self._noted(self._source.token(), f"{path}/?/inner", left_out)

    def _markup(self, element: Element, path: str, left_out: str) -> None:
        paragraph = SubElement(element, f"{{{XHTML}}}p")
        paragraph.text = self._noted(self._source.token(), f"{path}/p", left_out)
        emphasis = SubElement(paragraph, f"{{{XHTML}}}em")
        emphasis.text = self._noted(self._source.token(), f"{path}/p/em", left_out)

    def _set(
        self, element: Element, attribute: str | None, kind: Kind, path: str, left_out: str, *, is_odd: bool
    ) -> None:
        value = self._source.of(kind, path, left_out, is_odd=is_odd)
        if attribute != f"{{{XML}}}base":  # which is left out if it is not needed
            self.values.append(value)
        if not (value.is_unique or value.left_out):
            self.choices.append(Choice(path, element, attribute, kind))
        if attribute is None:
            element.text = value.text
        else:
            element.set(attribute, value.text)

    def _noted(self, token: str, path: str, left_out: str) -> str:
        self.values.append(Value(token, path, (token,), left_out=left_out))
        return token


def _fits(element: Element, shape: Shape, others: Sequence[Shape]) -> bool:
    """Whether an element has a shape, and not that of another shape with a condition."""
    if shape.when is not None:
        return shape.when(element)
    return not any(
        other.when is not None and other.name in (shape.name, ANY) and other.when(element) for other in others
    )


def _namespace(element: Element) -> str:
    return element.tag[1:].partition("}")[0]


def values_of(item: Element, schema: Schema) -> list[Value]:
    """Return all texts and attributes of any item, with what the schema says of them."""
    item = _declared(item, (schema,))
    found: list[Value] = []
    shape = Shape(
        "item", attributes={"id": WORDS.omitted("known"), "publisher": WORDS.omitted("known")}, children=schema.payloads
    )
    waiting: list[tuple[Element, Shape | None, str, str, str | None]] = [(item, shape, "", "", None)]
    while waiting:
        element, shape, path, left_out, base = waiting.pop()
        path, left_out = f"{path}/{name_of(element)}", left_out or (shape.left_out if shape else "")
        if shape and shape.whole:
            found += _words(" ".join(element.itertext()), path)
            continue
        base = uris.base_of(element.get(f"{{{XML}}}base"), base)
        for name, value in element.attrib.items():
            kind = shape.attributes.get(name.replace(f"{{{XML}}}", "xml:")) if shape else None
            found += _read(value, kind, f"{path}@{name}", left_out, base)
        if shape and shape.text and any(child.whole for child in shape.children):
            found += _words(" ".join(element.itertext()), path)
            continue
        if shape and shape.text and (shape.text.left_out or not len(element)):
            found += _read(element.text or "", shape.text, path, left_out, base)
        else:
            for text in (element.text, *(child.tail for child in element)):
                found += _read(text or "", None, path, left_out, base)
        matched = {id(child): read for child, read, _ in _matches(element, shape)} if shape else {}
        waiting += [(child, matched.get(id(child)), path, left_out, base) for child in element]
    return found


def _reads(text: str, kind: Kind, base: str | None) -> bool:
    return bool(kind.left_out) or kind.read(uris.link(text, base) or text if kind.has_base else text) is not None


def _read(text: str, kind: Kind | None, path: str, left_out: str, base: str | None) -> list[Value]:
    """Return a value unless it is blank or a flag."""
    text = " ".join(text.split())
    if not text or (kind and (kind.read(text) is True or kind.left_out)):
        return []
    if kind is None or not _reads(text, kind, base):
        return [Value(text, path, (text,), left_out=left_out)]
    value = _value(kind, text, path, left_out)
    resolved = uris.link(text, base) if "link" in kind.name else None
    is_unique = not (path.endswith("/link@rel") and text in RELATIONS)
    return [replace(value, forms=(*value.forms, resolved or text), is_unique=is_unique)]


def _words(markup: str, path: str) -> list[Value]:
    words = re.findall(r"\w+", unescape(re.sub(r"<[^>]*>", " ", markup)))
    return [Value(word, path, (word,)) for word in words]


def missing(values: Iterable[Value], parsed: Any) -> list[str]:
    """Return the paths of values that are neither in the JSON nor left out."""
    content = Content(parsed)
    return [
        f"{value.path}: {value.text}"
        for value in values
        if value.is_unique and not (value.left_out or value.is_in(content))
    ]


def revealed(values: Iterable[Value], parsed: Any) -> list[str]:
    """Return the paths of values that are in the JSON although they are left out."""
    content = Content(parsed)
    return [
        f"{value.path}: {value.text}" for value in values if value.left_out and value.is_unique and value.is_in(content)
    ]
