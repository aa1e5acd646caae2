"""Items as clients publish them, one `<items/>` a file, and beside each the JSON that it is to become.

A file is named after the analyser that is to recognise it, and after a dot what is special about it.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

from pubsubcache.parsers import ParseContext
from pubsubcache.types import Item, NodeAddress
from pubsubcache.utils.xmlform import to_text

SERVICE = "owner@service.example"  # stands for the service in the JSON

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Example:
    """An item: the node it is in, the `analyser` that is to recognise that, and the JSON it is to become."""

    name: str
    analyser: str
    node: str
    text: str

    @property
    def item(self) -> Element:
        """The `<item/>`."""
        return fromstring(self.text)

    @property
    def address(self) -> NodeAddress:
        """Where it is."""
        return NodeAddress(SERVICE, self.node)

    @property
    def context(self) -> ParseContext:
        """What a parser is told of it."""
        return ParseContext(service=SERVICE, node=self.node, publisher=self.item.get("publisher"), sender=SERVICE)

    def as_item(self) -> Item:
        """It as items come from a service."""
        return Item.from_element(self.item)

    def parsed(self, service: str = SERVICE) -> dict[str, Any]:
        """What it is to become when it is on `service`."""
        text = (FOLDER / f"{self.name}.json").read_text()
        return dict(json.loads(text.replace(SERVICE, service)))


def _example(path: Path) -> Example:
    items = fromstring(path.read_text())
    name = path.name.removesuffix(".xml")
    return Example(name, name.partition(".")[0], items.get("node", ""), to_text(items[0]))


EXAMPLES = [_example(path) for path in sorted(FOLDER.glob("*.xml"))]
