"""The channel layer between processes: the configured one, or an in-memory layer if none is configured."""

from functools import cache
from typing import Any

from channels import DEFAULT_CHANNEL_LAYER, layers

CAPACITY = 1000


def get_channel_layer(alias: str = DEFAULT_CHANNEL_LAYER) -> Any:
    """Return a channel layer of the settings. If there is no default layer, return an in-memory one.

    Args:
        alias: The name of the layer in CHANNEL_LAYERS.

    Returns:
        The layer, or None if there is none with that alias.
    """
    layer = layers.get_channel_layer(alias)
    if layer is None and alias == DEFAULT_CHANNEL_LAYER:
        return _within_process()
    return layer


def leads_out(layer: Any) -> bool:
    """Whether a layer reaches other processes."""
    return not isinstance(layer, layers.InMemoryChannelLayer)


@cache
def _within_process() -> layers.InMemoryChannelLayer:
    return layers.InMemoryChannelLayer(capacity=CAPACITY)
