"""Items as clients publish them, each in a file with an `<items/>` element, and the expected JSON in another.

A file is named after the analyser of the node, and after a dot what is special about the item. If the file has several
items, the example is the last one. The first one shows what the node is about.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

from pubsubcache.parsers import ParseContext
from pubsubcache.types import Item, NodeAddress
from pubsubcache.utils.xmlform import to_text

SERVICE = "owner@service.example"  # the service in the JSON

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Example:
    """An item.

    Args:
        name: Name of its files.
        analyser: Name of the analyser of its node.
        node: Name of its node.
        text: The `<item/>`.
        sample: An item by which analysers recognise the node.
    """

    name: str
    analyser: str
    node: str
    text: str
    sample: str

    @property
    def item(self) -> Element:
        """The `<item/>` as a new element."""
        return fromstring(self.text)

    @property
    def address(self) -> NodeAddress:
        """The address of the node."""
        return NodeAddress(SERVICE, self.node)

    @property
    def context(self) -> ParseContext:
        """The context of the parser."""
        return ParseContext(service=SERVICE, node=self.node, publisher=self.item.get("publisher"), sender=SERVICE)

    def as_item(self) -> Item:
        """Return the item as it comes from a service."""
        return Item.from_element(self.item)

    def parsed(self, service: str = SERVICE) -> dict[str, Any]:
        """Return the expected JSON of the item when it is on `service`."""
        text = (FOLDER / f"{self.name}.json").read_text()
        return dict(json.loads(text.replace(SERVICE, service)))


def _example(path: Path) -> Example:
    items = fromstring(path.read_text())
    name = path.name.removesuffix(".xml")
    return Example(name, name.partition(".")[0], items.get("node", ""), to_text(items[-1]), to_text(items[0]))


EXAMPLES = [_example(path) for path in sorted(FOLDER.glob("*.xml"))]
