"""Presents the columns with observations and decisions about a node as one dictionary, `extra`.

The admin and exports use these keys. Values that affect decisions have columns of their own; `PubsubNode.traits` reads
the others.
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
    "namespace": ("sample_namespace", None),
    "parse_anew": ("parse_anew", False),
    "moves": ("moves", None),
    "probe": ("probe", None),
    "confirmed": ("confirmed_position", 0),
}


def extra_of(node: PubsubNode) -> dict[str, Any]:
    """Return the observations and decisions about a node, by key. Keys without a value are omitted."""
    values = {key: (getattr(node, column), missing) for key, (column, missing) in COLUMNS.items()}
    return node.extra | {key: value for key, (value, missing) in values.items() if value != missing}


def fields_of(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a node for a dictionary that `extra_of` returned."""
    return {
        **{column: extra.get(key, missing) for key, (column, missing) in COLUMNS.items()},
        "extra": {key: value for key, value in extra.items() if key not in COLUMNS},
    }
