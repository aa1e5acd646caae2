"""The channel layer between this process and others: Channels' own, or one within the process."""

from functools import cache
from typing import Any

from channels import DEFAULT_CHANNEL_LAYER, layers

CAPACITY = 1000


def get_channel_layer(alias: str = DEFAULT_CHANNEL_LAYER) -> Any:
    """Return the channel layer `alias` of the settings; without a default one, a layer within this process.

    Returns:
        The layer, or None when there is none of that alias.
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
