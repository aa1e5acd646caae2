"""Damages items at random, as elements and as text."""

import copy
from collections.abc import Callable
from random import Random
from xml.etree.ElementTree import Element, ParseError, fromstring

from tests.unit.parsers.entries import ATOM, PUBSUB, XHTML

NAMESPACES = [ATOM, XHTML, PUBSUB, "", "urn:example:other", "http://purl.org/syndication/thread/1.0"]


def drop(random: Random, root: Element, parent: Element) -> None:
    if len(parent):
        parent.remove(random.choice(list(parent)))


def double(random: Random, root: Element, parent: Element) -> None:
    if len(parent):
        parent.insert(random.randrange(len(parent) + 1), copy.deepcopy(random.choice(list(parent))))


def rename(random: Random, root: Element, parent: Element) -> None:
    spaces = [*NAMESPACES, *(one.tag[1:].partition("}")[0] for one in root.iter() if one.tag[0] == "{")]
    parent.tag = f"{{{random.choice(spaces)}}}{parent.tag.rpartition('}')[2]}".replace("{}", "")


def retag(random: Random, root: Element, parent: Element) -> None:
    parent.tag = random.choice(list(root.iter())).tag


def move(random: Random, root: Element, parent: Element) -> None:
    if len(parent):
        parent.append(copy.deepcopy(random.choice(list(root.iter()))))


def retype(random: Random, root: Element, parent: Element) -> None:
    parent.set(
        "type", random.choice(["text", "html", "xhtml", "text/html", "", "odd/type", "TEXT", "image/png", "\u0130"])
    )


def swap_attribute(random: Random, root: Element, parent: Element) -> None:
    values = [value for one in root.iter() for value in one.attrib.values()]
    if parent.attrib and values:
        parent.set(random.choice(list(parent.attrib)), random.choice(values))


def drop_attribute(random: Random, root: Element, parent: Element) -> None:
    if parent.attrib:
        del parent.attrib[random.choice(list(parent.attrib))]


def swap_texts(random: Random, root: Element, parent: Element) -> None:
    other = random.choice(list(root.iter()))
    parent.text, other.text = other.text, parent.text


def mangle_text(random: Random, root: Element, parent: Element) -> None:
    text = parent.text or "x"
    place = random.randrange(len(text) + 1)
    parent.text = (
        text[:place] + random.choice(["", "<b>", "&", "\u202e", "9" * 50, ":", "\n", "]]>"]) + text[place + 1 :]
    )


Mutation = Callable[[Random, Element, Element], None]
MUTATIONS: list[Mutation] = [
    drop, double, rename, retag, move, retype, swap_attribute, drop_attribute, mangle_text, swap_texts,
]  # fmt: skip


def mutate(random: Random, root: Element) -> None:
    """Apply one to five random mutations to an element."""
    for _ in range(random.randrange(1, 6)):
        random.choice(MUTATIONS)(random, root, random.choice(list(root.iter())))


def drop_bytes(random: Random, text: str) -> Element | None:
    """Remove random characters and parse the rest; return None if it is no longer well-formed."""
    for _ in range(random.randrange(1, 4)):
        place = random.randrange(len(text))
        text = text[:place] + text[place + random.randrange(1, 4) :]
    try:
        return fromstring(text)
    except ParseError:
        return None
