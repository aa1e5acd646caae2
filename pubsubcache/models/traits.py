"""Observed behaviour of a service, stored as JSON in `PubsubNode.extra`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

Cursors = Literal["ids", "opaque"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTraits:
    """How a service handles a node; None means unknown.

    Attributes:
        rsm: Whether the service supports paging (XEP-0059).
        cursors: Whether cursors are item ids or opaque strings.
        publishers: Whether answers name the publishers of items.
        payload_type: The value of `pubsub#type`, "" if the service does not state it.
        listed: The number of items when the service last listed them.
        limit: The number of items that the service keeps. It removes the oldest for each new one above that number.
    """

    rsm: bool | None = None
    cursors: Cursors | None = None
    publishers: bool | None = None
    payload_type: str | None = None
    listed: int | None = None
    limit: int | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "NodeTraits":
        """Create the traits from `data`, ignoring unknown keys."""
        return cls(**{name: data[name] for name in TRAITS if name in data})

    def to_json(self) -> dict[str, Any]:
        """Return the known traits as JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def updated(self, newer: "NodeTraits") -> "NodeTraits":
        """Return a copy in which the known values of `newer` replace those of this object."""
        return replace(self, **newer.to_json())


TRAITS = tuple(field.name for field in fields(NodeTraits))
