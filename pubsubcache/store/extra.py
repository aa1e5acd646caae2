"""All that was learned about a node, under the keys that staff and exports know: `extra`.

Columns hold what decides, such as whether the node is synchronised; `PubsubNode.traits` holds the rest.
"""

from collections.abc import Mapping
from typing import Any

from pubsubcache.models import PubsubNode

#: The column of each key, and the value that stands for a missing key.
COLUMNS: dict[str, tuple[str, object]] = {
    "to_sync": ("to_sync", None),
    "by_analyser": ("by_analyser", None),
    "by_hand": ("by_hand", False),
    "registry": ("registry_fingerprint", None),
    "reason": ("analysis_reason", None),
    "moves": ("moves", None),
    "probe": ("probe", None),
    "confirmed": ("confirmed_position", 0),
}


def extra_of(node: PubsubNode) -> dict[str, Any]:
    """Return what was learned about a node, by key."""
    values = {key: (getattr(node, column), missing) for key, (column, missing) in COLUMNS.items()}
    return node.extra | {key: value for key, (value, missing) in values.items() if value != missing}


def fields_of(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a node's fields that hold `extra`, which `extra_of` returned."""
    return {
        **{column: extra.get(key, missing) for key, (column, missing) in COLUMNS.items()},
        "extra": {key: value for key, value in extra.items() if key not in COLUMNS},
    }
