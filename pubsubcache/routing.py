"""A router for the channel of the workers.

Workers need it no more: they bring their consumer themselves. It is kept for sites whose ASGI application names it.
"""

from channels.routing import ChannelNameRouter

from pubsubcache.conf import settings
from pubsubcache.services.consumers import PubsubConsumer

channel_router = ChannelNameRouter({settings.CHANNEL: PubsubConsumer.as_asgi()})
