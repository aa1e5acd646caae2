"""Reads Atom entries and feeds (RFC 4287), and declares the shapes of their elements.

Each element has a `Scope`: the language and the base URI that `xml:lang` and `xml:base` set for it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any, Literal, NamedTuple
from xml.etree.ElementTree import Element

from pubsubcache.parsers import dates, elements, html, uris
from pubsubcache.parsers.elements import attribute, integer, text_of
from pubsubcache.parsers.html import ATOM, XHTML, Rich
from pubsubcache.parsers.shapes import (
    ABSOLUTE_LINK,
    ANY,
    BASE,
    DATE,
    INTEGER,
    LANG,
    LINK,
    WORDS,
    Kind,
    Shape,
    words,
)
from pubsubcache.parsers.text import clean
from pubsubcache.utils.xmlform import XML, split_tag

THREAD = "http://purl.org/syndication/thread/1.0"

_LANG, _BASE = f"{{{XML}}}lang", f"{{{XML}}}base"
_COUNT, _UPDATED = f"{{{THREAD}}}count", f"{{{THREAD}}}updated"
# The registered relations have these names and URIs (RFC 4287, 4.2.7.2).
_RELATIONS = "http://www.iana.org/assignments/relation/"

_PLAIN_TYPES = frozenset({"", "text", "text/plain"})
_HTML_TYPES = frozenset({"html", "text/html"})
_TREE_TYPES = frozenset({"xhtml", "application/xhtml+xml", "xhtml+xml", "application/xhtml", "text/xhtml"})

Texts = dict[str, str | None]
# By name, the different plain texts and the different markup of text constructs, in order.
_Found = dict[str, tuple[dict[Rich, None], dict[Rich, None]]]


class Scope(NamedTuple):
    """The language and the base URI within an element; None if there is none."""

    language: str | None = None
    base: str | None = None

    def of(self, element: Element) -> "Scope":
        """Return the scope within a child element."""
        language = element.get(_LANG)
        return Scope(
            self.language if language is None else clean(language), uris.base_of(element.get(_BASE), self.base)
        )


class Person(NamedTuple):
    """A person construct (RFC 4287, 3.2). Missing or unreadable values are None."""

    name: str | None
    email: str | None
    jid: str | None
    uri: str | None


@dataclass(frozen=True, slots=True)
class Link:
    """An atom:link with the attributes that are in use."""

    rel: str
    url: str
    media_type: str | None
    title: str | None
    language: str | None
    length: int | None
    description: str | None
    logo: str | None
    ref: str | None
    count: int | None
    updated: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the fields by name."""
        return {name: getattr(self, name) for name in self.__slots__}


# Text constructs


def _media_type(text: str | None) -> str:
    return (text or "").partition(";")[0].strip().lower()


def _form(element: Element) -> Literal["blank", "plain", "html", "tree", "other"]:
    """Return how the content of a text construct is read (RFC 4287, 3.1 and 4.1.3); "other" is not read."""
    kind = _media_type(element.get("type"))
    if not len(element) and not (element.text or "").strip():
        return "blank"
    if kind in _HTML_TYPES and not len(element):
        return "html"
    if kind in _TREE_TYPES or kind in _HTML_TYPES or (not kind and _has_markup(element)):
        return "tree"
    if "/" in kind and not kind.startswith("text/"):  # an image, or some other XML
        return "other"
    return "plain" if text_of(element) else "blank"


def _has_markup(element: Element) -> bool:
    return any(isinstance(child.tag, str) and split_tag(child.tag)[0] == XHTML for child in element)


def _rich(element: Element, base: str | None) -> Rich:
    form = _form(element)
    if form == "html":
        return html.from_html(element.text or "", base)
    if form == "tree":
        return html.from_tree(element, base)
    return Rich(text_of(element) if form == "plain" else None, None)


def texts(parent: Element, scope: Scope, *names: str, main: str = "title", namespace: str = ATOM) -> dict[str, Any]:
    """Return the text constructs of an element in one language, and their translations.

    Publishers often give the same content twice, as plain text and as markup. Those in the same language are combined;
    without plain text, the text is extracted from the markup.

    Args:
        parent: The parent element.
        scope: Its scope.
        names: The local names of the text constructs.
        main: Which of them decides on the language, before the others in order, if none is in that of `parent`.
        namespace: Their namespace. XEPs use text constructs in their own namespaces.

    Returns:
        `language`; for each name its text, and its markup under the name with `_xhtml`; and `translations`, a list of
        objects with the same keys, which has all texts if there are any that the keys beside it don't have.
    """
    versions = _versions(parent, scope, sorted(names, key=lambda name: name != main), namespace)
    own = _folded(scope.language)
    order = sorted(versions, key=lambda language: own is not None and language != own)  # the others keep their order
    chosen: Texts = {}
    for name in names:
        firsts = (versions[language][0] for language in order)
        found = next((one for one in firsts if one[name] or one[f"{name}_xhtml"]), {})
        chosen |= {key: found.get(key) for key in (name, f"{name}_xhtml")}
    rows = [{key: row[key] for key in ("language", *chosen)} for language in order for row in versions[language]]
    language = attribute(parent, _LANG) or (rows[0]["language"] if rows else scope.language)
    is_complete = len(rows) <= 1 and all(row["language"] == language for row in rows)
    return {"language": language, **chosen, "translations": [] if is_complete else rows}


def _versions(parent: Element, scope: Scope, names: Sequence[str], namespace: str) -> dict[str | None, list[Texts]]:
    """Return the texts by language. The first object has the first text of each name, the others have repeated ones."""
    spelled: dict[str | None, str | None] = {}
    found: dict[str | None, _Found] = {}
    for name in names:
        readable = (one for one in parent.iterfind(f"{{{namespace}}}{name}") if _form(one) not in ("blank", "other"))
        for element in islice(readable, elements.MAX_ELEMENTS):
            language, base = scope.of(element)
            rich = _rich(element, base)
            if rich != (None, None):
                folded = _folded(language)
                spelled.setdefault(folded, language)
                plain, marked = found.setdefault(folded, {}).setdefault(name, ({}, {}))
                (plain if rich.xhtml is None else marked).setdefault(rich)
    return {folded: _rows(language, found[folded], names) for folded, language in spelled.items()}


def _rows(language: str | None, found: _Found, names: Sequence[str]) -> list[Texts]:
    """Combine the first plain text of each name with the first markup, and so on."""
    nothing = Rich(None, None)
    columns = [
        [
            Rich(plain.text or marked.text, marked.xhtml)
            for plain, marked in zip_longest(*found.get(name, ({}, {})), fillvalue=nothing)
        ]
        for name in names
    ]
    return [
        {"language": language}
        | {key: value for name, rich in zip(names, row, strict=True) for key, value in _keys(name, rich)}
        for row in zip_longest(*columns, fillvalue=nothing)
    ]


def _keys(name: str, rich: Rich) -> Iterator[tuple[str, str | None]]:
    yield name, rich.text
    yield f"{name}_xhtml", rich.xhtml


def _folded(language: str | None) -> str | None:
    return language.lower() if language else None


def text_construct(parent: Element, name: str, namespace: str = ATOM) -> Rich:
    """Return the content of the text constructs called `name`, in the language that `texts` chooses."""
    found = texts(parent, Scope().of(parent), name, main=name, namespace=namespace)
    return Rich(found[name], found[f"{name}_xhtml"])


# Metadata


def children(parent: Element, name: str) -> Iterator[Element]:
    """Yield the direct children called `name` in Atom's namespace, at most `elements.MAX_ELEMENTS`."""
    return elements.children(parent, name, ATOM)


def child_text(parent: Element, name: str) -> str | None:
    """Return the text of the first non-empty child called `name` in Atom's namespace, or None."""
    return elements.child_text(parent, name, ATOM)


def _is_jid(uri: Element) -> bool:
    return uris.bare_jid(text_of(uri)) is not None


def _jid_alone(text: str) -> str | None:
    """Return the bare JID of a URI that says nothing else."""
    return None if set("/?#") & set(text) else uris.bare_jid(text.strip())


def person(element: Element, scope: Scope) -> Person:
    """Parse a person construct (RFC 4287, 3.2) with this scope."""
    addresses = list(children(element, "uri"))
    jid = next((one for one in addresses if _is_jid(one)), None)
    address = next((one for one in addresses if text_of(one) and not _is_jid(one)), None)
    return Person(
        name=child_text(element, "name"),
        email=child_text(element, "email"),
        jid=None if jid is None else uris.bare_jid(text_of(jid)),
        uri=None if address is None else uris.absolute(text_of(address), scope.of(address).base),
    )


def persons(parent: Element, name: str, scope: Scope) -> list[Person]:
    """Return the person constructs called `name`, without empty ones."""
    found = (person(element, scope.of(element)) for element in children(parent, name))
    return [one for one in found if any(one)]


def author(entry: Element, scope: Scope) -> Person:
    """Return the author of an entry or a feed: the first one with a JID, else the first one, else that of atom:source.

    Args:
        entry: The element.
        scope: Its scope.
    """
    people = persons(entry, "author", scope)
    source = elements.child(entry, "source", ATOM)
    if not people and source is not None:
        people = persons(source, "author", scope.of(source))
    nobody = Person(None, None, None, None)
    return next((one for one in people if one.jid), people[0] if people else nobody)


def links(parent: Element, scope: Scope) -> list[Link]:
    """Return the links with a safe URL (RFC 4287, 4.2.7). Without a base URI, the URL may be relative."""
    safe = (element for element in parent.iterfind(f"{{{ATOM}}}link") if _has_link(element))
    return [_link(element, scope.of(element).base) for element in islice(safe, elements.MAX_ELEMENTS)]


def _has_link(element: Element) -> bool:
    return uris.link(element.get("href")) is not None


def _link(element: Element, base: str | None) -> Link:
    relation = (attribute(element, "rel") or "alternate").removeprefix(_RELATIONS)
    return Link(
        rel=relation if ":" in relation else relation.lower(),
        url=uris.link(element.get("href"), base) or "",
        media_type=attribute(element, "type"),
        title=attribute(element, "title"),
        language=attribute(element, "hreflang"),
        length=integer(element.get("length")),
        description=attribute(element, "description"),
        logo=uris.absolute(element.get("logo"), base),
        ref=attribute(element, "ref"),
        count=integer(element.get(_COUNT)),
        updated=dates.normalise(element.get(_UPDATED)),
    )


def metadata(parent: Element, scope: Scope) -> dict[str, Any]:
    """Return the metadata that entries, feeds and sources of entries share.

    Args:
        parent: The element.
        scope: Its scope.
    """
    categories = [
        {name: attribute(element, name) for name in ("term", "scheme", "label")}
        for element in children(parent, "category")
    ]
    tags = (category["term"] or category["label"] for category in categories)
    return {
        "updated": dates.normalise(child_text(parent, "updated")),
        "authors": [one._asdict() for one in persons(parent, "author", scope)],
        "contributors": [one._asdict() for one in persons(parent, "contributor", scope)],
        "tags": list(dict.fromkeys(tag for tag in tags if tag)),
        "categories": [category for category in categories if any(category.values())],
        "generator": _generator(parent, scope),
        "icon": _address(parent, "icon", scope),
        "logo": _address(parent, "logo", scope),
    }


def _generator(parent: Element, scope: Scope) -> dict[str, str | None] | None:
    element = elements.child(parent, "generator", ATOM)
    if element is None:
        return None
    return {
        "name": text_of(element),
        "uri": uris.absolute(element.get("uri"), scope.of(element).base),
        "version": attribute(element, "version"),
    }


def _address(parent: Element, name: str, scope: Scope) -> str | None:
    element = elements.child(parent, name, ATOM)
    return None if element is None else uris.absolute(text_of(element), scope.of(element).base)


def feed(element: Element, scope: Scope) -> dict[str, Any]:
    """Return the metadata of an atom:feed or an atom:source (RFC 4287, 4.1.1 and 4.2.11).

    Args:
        element: The element.
        scope: Its scope.
    """
    return {
        **texts(element, scope, "title", "subtitle", "rights"),
        **metadata(element, scope),
        "links": [link.to_json() for link in dict.fromkeys(links(element, scope))],
    }


# Shapes

APPLIED = {BASE: WORDS.omitted("Relative links are resolved against it, if it is usable.")}
#: Attributes of elements that others inherit from.
COMMON = {LANG: WORDS, **APPLIED}

_MARKUP = Shape(ANY, ANY, whole=True)
_TYPE = Kind("type", lambda text: _media_type(text) in _PLAIN_TYPES | _HTML_TYPES | _TREE_TYPES or None)


def text_shapes(name: str, **attributes: Kind) -> tuple[Shape, ...]:
    """Return the shapes of a text construct that `texts` reads.

    Args:
        name: Its local name.
        attributes: Further attributes that are read.
    """
    unlabelled = {"type": _TYPE, **APPLIED, **attributes}
    labelled = {LANG: WORDS, **unlabelled}
    return (
        Shape(name, text=WORDS, attributes=labelled, when=lambda one: _form(one) == "plain"),
        Shape(
            name, text=WORDS, attributes=labelled, children=(_MARKUP,), when=lambda one: _form(one) in ("html", "tree")
        ),
        Shape(name, attributes=unlabelled, when=lambda one: _form(one) == "blank"),
    )


def _person_shape(name: str) -> Shape:
    uri = (
        Shape("uri", text=Kind("JID", _jid_alone), when=_is_jid, once=True),
        Shape("uri", text=ABSOLUTE_LINK, attributes=APPLIED, when=lambda one: not _is_jid(one), once=True),
    )
    return Shape(name, attributes=APPLIED, children=(*words("name", "email", once=True), *uri))


METADATA = (
    *words("id", once=True),
    Shape("updated", text=DATE, once=True),
    *text_shapes("title"),
    *text_shapes("rights"),
    _person_shape("author"),
    _person_shape("contributor"),
    Shape("category", attributes={"term": WORDS, "scheme": WORDS, "label": WORDS}),
    Shape("generator", text=WORDS, attributes={"uri": ABSOLUTE_LINK, "version": WORDS, **APPLIED}, once=True),
    Shape("icon", text=ABSOLUTE_LINK, attributes=APPLIED, once=True),
    Shape("logo", text=ABSOLUTE_LINK, attributes=APPLIED, once=True),
    Shape(
        "link",
        attributes={
            **dict.fromkeys(("rel", "type", "title", "hreflang", "description", "ref"), WORDS),
            "href": LINK,
            "length": INTEGER,
            "logo": ABSOLUTE_LINK,
            _COUNT: INTEGER,
            _UPDATED: DATE,
            **APPLIED,
        },
        when=_has_link,
    ),
)
FEED = Shape("feed", ATOM, attributes=COMMON, children=(*METADATA, *text_shapes("subtitle")))
SOURCE = Shape("source", ATOM, attributes=COMMON, children=FEED.children, once=True)
