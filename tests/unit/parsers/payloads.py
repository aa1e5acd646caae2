"""Parses payloads with the built-in analysers."""

from typing import Any
from xml.etree.ElementTree import Element, fromstring

from pubsubcache.analysers.builtin import builtin_analysers
from pubsubcache.parsers import ParseContext
from tests.unit.parsers.entries import PUBSUB, check_texts

PARSERS = {analyser.name: analyser.parser for analyser in builtin_analysers()}
OWNER = "mira@garden.example"


def item(payload: str, item_id: str = "i1") -> Element:
    """Return an `<item/>` with a payload."""
    return fromstring(f"<item xmlns='{PUBSUB}' id='{item_id}'>{payload}</item>")


def parse(name: str, payload: str, node: str = "n", item_id: str = "i1", publisher: str | None = None) -> Any:
    """Parse a payload with the parser of the analyser `name`, and check the result."""
    parser = PARSERS[name]
    assert parser is not None
    parsed = parser(item(payload, item_id), ParseContext(OWNER, node, publisher, OWNER))
    check_texts(parsed)
    return parsed


def rest_of(parsed: Any) -> list[tuple[str, str, dict[str, str], str | None]]:
    """Return the rest of a parsed item: path, name, attributes and text of each element."""
    assert parsed["rest_truncated"] is False
    return [(one["path"], one["name"], one["attributes"], one["text"]) for one in parsed["rest"]]
