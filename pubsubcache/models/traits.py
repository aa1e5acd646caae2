"""What the cache learned about a service's behaviour, kept as JSON in `PubsubNode.extra`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

Cursors = Literal["ids", "opaque"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTraits:
    """How a service handles a node, as far as it showed; None where it is unknown.

    Attributes:
        rsm: It pages (XEP-0059).
        cursors: Its cursors are item ids, or texts of its own.
        publishers: Its answers name publishers.
        payload_type: What it says that the node is for (`pubsub#type`), "" if it doesn't say.
        listed: The number of items it had when they were last listed.
        limit: The number of items it keeps: for each new one, it drops the oldest.
    """

    rsm: bool | None = None
    cursors: Cursors | None = None
    publishers: bool | None = None
    payload_type: str | None = None
    listed: int | None = None
    limit: int | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "NodeTraits":
        """Return the traits among `data`, whose other keys are passed over."""
        return cls(**{name: data[name] for name in TRAITS if name in data})

    def to_json(self) -> dict[str, Any]:
        """Return what is known."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def updated(self, news: "NodeTraits") -> "NodeTraits":
        """Return these traits with what is known in `news` instead."""
        return replace(self, **news.to_json())


TRAITS = tuple(field.name for field in fields(NodeTraits))
